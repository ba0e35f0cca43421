"""RotatedBoxes: geometry, in-place operations, selection."""

import pytest
import torch

from models import RotatedBoxes, pairwise_iou_rotated
from models.structures.rotated_boxes import normalize_degrees


def boxes(*rows: list[float]) -> RotatedBoxes:
    return RotatedBoxes(torch.tensor(rows, dtype=torch.float32))


def assert_boxes(ours: RotatedBoxes, *rows: list[float]) -> None:
    expected = torch.tensor(rows, dtype=torch.float32)
    torch.testing.assert_close(ours.tensor, expected, atol=1e-4, rtol=0)


def test_integers_and_doubles_become_float32() -> None:
    assert RotatedBoxes(torch.ones(2, 5, dtype=torch.int64)).tensor.dtype == torch.float32
    assert RotatedBoxes(torch.ones(2, 5, dtype=torch.float64)).tensor.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 4), (5,), (1, 2, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RotatedBoxes"):
        RotatedBoxes(torch.ones(shape))


def test_no_boxes() -> None:
    empty = RotatedBoxes(torch.zeros(0))
    empty.clip((10, 10))
    empty.scale(2.0, 3.0)
    empty.normalize_angles()
    assert len(empty) == 0
    assert empty.tensor.shape == (0, 5)
    assert empty.area().shape == (0,)
    assert empty.nonempty().shape == (0,)
    assert empty.inside_box((4, 4)).shape == (0,)
    assert empty.polygons().shape == (0, 4, 2)
    assert empty.get_centers().shape == (0, 2)
    assert pairwise_iou_rotated(empty, boxes([1, 1, 2, 2, 0])).shape == (0, 1)
    assert len(RotatedBoxes.cat([])) == 0
    assert len(RotatedBoxes.cat([empty, empty])) == 0


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, 0),
        (179, 179),
        (180, -180),
        (-180, -180),
        (181, -179),
        (540, -180),
        (-900, -180),
        (725, 5),
    ],
)
def test_angles_are_normalised(angle: float, expected: float) -> None:
    ours = boxes([0, 0, 1, 1, angle])
    ours.normalize_angles()
    assert ours.tensor[0, 4] == expected


def test_an_angle_just_below_the_range_stays_inside_it() -> None:
    angle = normalize_degrees(torch.nextafter(torch.tensor(-180.0), torch.tensor(-181.0)))
    assert -180 <= angle < 180


def test_area_centres_and_selection() -> None:
    ours = boxes([1, 2, 3, 4, 30], [5, 6, 7, 8, -30], [9, 10, 0, 8, 0])
    assert ours.area().tolist() == [12, 56, 0]
    assert ours.get_centers().tolist() == [[1, 2], [5, 6], [9, 10]]
    assert ours.nonempty().tolist() == [True, True, False]
    assert ours.nonempty(threshold=3).tolist() == [False, True, False]
    assert ours[1].tensor.shape == (1, 5)
    assert len(ours[1:]) == 2
    assert_boxes(ours[torch.tensor([True, False, False])], [1, 2, 3, 4, 30])
    assert_boxes(ours[torch.tensor([1])], [5, 6, 7, 8, -30])
    assert len(RotatedBoxes.cat([ours, ours[0]])) == 4
    assert len(list(ours)) == 3
    assert ours.to("cpu").device == torch.device("cpu")
    assert repr(ours[0]).startswith("RotatedBoxes(")


def test_a_clone_shares_no_memory() -> None:
    ours = boxes([1, 2, 3, 4, 30])
    ours.clone().scale(2.0, 2.0)
    assert_boxes(ours, [1, 2, 3, 4, 30])


def test_only_near_horizontal_boxes_are_clipped() -> None:
    ours = boxes([0, 0, 10, 10, 0.5], [0, 0, 10, 10, 2], [0, 0, 10, 10, 360], [0, 0, 10, 10, 180])
    ours.clip((20, 30))
    assert_boxes(
        ours, [2.5, 2.5, 5, 5, 0.5], [0, 0, 10, 10, 2], [2.5, 2.5, 5, 5, 0], [0, 0, 10, 10, -180]
    )


def test_clip_knows_width_from_height_and_leaves_nothing_of_boxes_outside() -> None:
    ours = boxes([25, 18, 20, 10, 0], [50, 50, 4, 4, 0])
    ours.clip((20, 30))
    assert_boxes(ours, [22.5, 16.5, 15, 7, 0], [30, 20, 0, 0, 0])
    assert ours.nonempty().tolist() == [True, False]


def test_the_clip_threshold_can_be_set() -> None:
    ours = boxes([0, 0, 10, 10, 2], [0, 0, 10, 10, 0])
    ours.clip((20, 30), clip_angle_threshold=-1)
    assert_boxes(ours, [0, 0, 10, 10, 2], [0, 0, 10, 10, 0])
    ours.clip((20, 30), clip_angle_threshold=3)
    assert_boxes(ours, [2.5, 2.5, 5, 5, 2], [2.5, 2.5, 5, 5, 0])


def test_inside_box_looks_at_corners() -> None:
    ours = boxes([10, 10, 18, 18, 0], [10, 10, 18, 18, 45], [10, 10, 12, 12, 45])
    assert ours.inside_box((20, 20)).tolist() == [True, False, True]
    assert ours.inside_box((20, 20), boundary_threshold=4).tolist() == [True, True, True]


def test_scaling_alike_keeps_the_angle() -> None:
    ours = boxes([1, 2, 3, 4, 30], [1, 2, 3, 4, -120])
    ours.scale(2.0, 2.0)
    assert_boxes(ours, [2, 4, 6, 8, 30], [2, 4, 6, 8, -120])


def test_scaling_at_right_angles_goes_to_the_side_that_lies_along() -> None:
    ours = boxes([1, 2, 3, 4, 0], [1, 2, 3, 4, 90], [1, 2, 3, 4, -90])
    ours.scale(2.0, 5.0)
    assert_boxes(ours, [2, 10, 6, 20, 0], [2, 10, 15, 8, 90], [2, 10, 15, 8, -90])


def test_scaling_turns_a_box_by_its_height() -> None:
    ours = boxes([0, 0, 2, 2, 45])
    ours.scale(3**0.5, 1.0)
    assert_boxes(ours, [0, 0, 8**0.5, 8**0.5, 60])


def test_polygons_start_top_left_and_turn_with_the_box() -> None:
    ours = boxes([10, 20, 4, 2, 0], [10, 20, 4, 2, 90])
    expected = [[[8, 19], [12, 19], [12, 21], [8, 21]], [[9, 22], [9, 18], [11, 18], [11, 22]]]
    torch.testing.assert_close(ours.polygons(), torch.tensor(expected).float(), atol=1e-5, rtol=0)
