"""ROIPooler: which level a box is pooled from, and in which order the output comes."""

import pytest
import torch

from models import Boxes, ROIPooler, poolers
from models.errors import ConfigError
from models.layers import ROIAlign
from models.poolers import assign_boxes_to_levels, convert_boxes_to_pooler_format

SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


@pytest.fixture(autouse=True, params=[False, True], ids=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds as a CPU does it, level by level, and as a GPU does it, sorted by level."""
    monkeypatch.setattr(poolers, "pays_together", lambda device: request.param)


def squares(*sides: float) -> Boxes:
    return Boxes(torch.tensor([[0.0, 0.0, side, side] for side in sides]))


def pyramid(images: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, 2, int(64 * s), int(96 * s), generator=generator) for s in SCALES]


def pooler(**kwargs) -> ROIPooler:
    arguments = {"output_size": 3, "scales": SCALES, "sampling_ratio": 0}
    return ROIPooler(**(arguments | {"pooler_type": "ROIAlignV2"} | kwargs))


@pytest.mark.parametrize(
    ("side", "level"),
    [
        (224, 2),
        (223.99, 1),
        (112, 1),
        (111.99, 0),
        (448, 3),
        (447.9, 2),
        (10_000, 3),
        (1, 0),
        (0, 0),
    ],
)
def test_a_box_goes_to_the_level_of_its_size(side: float, level: int) -> None:
    assert assign_boxes_to_levels([squares(side)], 2, 5, 224, 4).tolist() == [level]


def test_the_area_decides_not_the_longer_side() -> None:
    boxes = Boxes(torch.tensor([[0.0, 0.0, 448.0, 112.0], [0.0, 0.0, 896.0, 56.0]]))
    assert assign_boxes_to_levels([boxes], 2, 5, 224, 4).tolist() == [2, 2]


def test_the_canonical_box_can_be_chosen() -> None:
    assert assign_boxes_to_levels([squares(32, 64)], 2, 5, 32, 3).tolist() == [1, 2]


def test_rois_carry_the_index_of_their_image() -> None:
    rois = convert_boxes_to_pooler_format([squares(1, 2), squares(), squares(3)])
    assert rois.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 2, 2], [2, 0, 0, 3, 3]]


def test_each_box_is_pooled_from_its_level_in_the_order_of_the_images() -> None:
    features = pyramid(images=2)
    boxes = [squares(500, 20), squares(120, 30, 300)]
    pooled = pooler()(features, boxes)
    levels = assign_boxes_to_levels(boxes, 2, 5, 224, 4).tolist()
    assert levels == [3, 0, 1, 0, 2]
    for row, (roi, level) in enumerate(
        zip(convert_boxes_to_pooler_format(boxes), levels, strict=True)
    ):
        alone = ROIAlign((3, 3), SCALES[level], 0, aligned=True)(features[level], roi[None])
        torch.testing.assert_close(pooled[row], alone[0])


def test_an_image_without_boxes_between_others_is_no_error() -> None:
    features = pyramid(images=3)
    pooled = pooler()(features, [squares(20), squares(), squares(300)])
    assert pooled.shape == (2, 2, 3, 3)
    alone = pooler()([f[2:] for f in features], [squares(300)])
    torch.testing.assert_close(pooled[1:], alone)


@pytest.mark.parametrize("box_lists", [[squares(), squares()], []], ids=["no boxes", "no images"])
def test_no_boxes_give_an_empty_output(box_lists: list[Boxes]) -> None:
    assert pooler(output_size=(3, 4))(pyramid(images=2), box_lists).shape == (0, 2, 3, 4)


def test_one_level_pools_everything() -> None:
    feature = pyramid(images=1)[2]
    pooled = pooler(scales=[1 / 16])([feature], [squares(10, 5000)])
    rois = convert_boxes_to_pooler_format([squares(10, 5000)])
    assert torch.equal(pooled, ROIAlign((3, 3), 1 / 16, 0, aligned=True)(feature, rois))


@pytest.mark.parametrize(("kind", "aligned"), [("ROIAlignV2", True), ("ROIAlign", False)])
def test_the_type_decides_the_alignment(kind: str, aligned: bool) -> None:
    assert all(level.aligned is aligned for level in pooler(pooler_type=kind).level_poolers)


def test_roi_pool_takes_the_maximum_over_whole_pixels() -> None:
    features = torch.arange(64.0).reshape(1, 1, 8, 8)
    pool = ROIPooler(2, scales=[0.25], sampling_ratio=0, pooler_type="ROIPool")
    pooled = pool([features], [Boxes(torch.tensor([[0.0, 0.0, 15.0, 15.0]]))])
    # The box spans pixels 0 to 4 on either axis: rows and columns 0 to 2, and 2 to 4.
    assert pooled.flatten().tolist() == [18, 20, 34, 36]


@pytest.mark.parametrize("size", [(3, 4), [3, 4]])
def test_an_output_size_is_height_and_width(size) -> None:
    assert pooler(output_size=size)(pyramid(images=1), [squares(9)]).shape == (1, 2, 3, 4)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="'ROIWarp' is not known"):
        pooler(pooler_type="ROIWarp")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"scales": [1 / 3]}, "powers of two"),
        ({"scales": [1 / 4, 1 / 16]}, "halve from one to the next"),
        ({"output_size": (1, 2, 3)}, "two sides"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pooler(**kwargs)


def test_there_is_one_feature_map_for_each_level() -> None:
    with pytest.raises(ValueError, match="3 feature maps for 4 levels"):
        pooler()(pyramid(images=1)[:3], [squares(9)])
