"""RotatedAnchorGenerator: shapes, order and places of anchors."""

import pytest
import torch

from models import RotatedAnchorGenerator, RotatedBoxes
from models.errors import ConfigError


def generator(**changes: object) -> RotatedAnchorGenerator:
    keywords = {
        "sizes": [[8], [16]],
        "aspect_ratios": [[0.25, 1.0]],
        "angles": [[-90, 0, 45]],
        "strides": [4, 8],
        "offset": 0.0,
    }
    return RotatedAnchorGenerator(**(keywords | changes))


def test_a_cell_has_sizes_then_ratios_then_angles() -> None:
    ours = RotatedAnchorGenerator.generate_cell_anchors([4, 8], [0.25, 1.0], [0, 45])
    expected = [
        [0, 0, 8, 2, 0],
        [0, 0, 8, 2, 45],
        [0, 0, 4, 4, 0],
        [0, 0, 4, 4, 45],
        [0, 0, 16, 4, 0],
        [0, 0, 16, 4, 45],
        [0, 0, 8, 8, 0],
        [0, 0, 8, 8, 45],
    ]
    assert ours.tolist() == expected


def test_anchors_go_row_by_row_with_all_of_a_cell_together() -> None:
    ours = generator()
    levels = ours([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])
    assert ours.num_anchors == [6, 6]
    assert ours.box_dim == 5
    assert all(isinstance(level, RotatedBoxes) for level in levels)
    assert [len(level) for level in levels] == [36, 6]
    first = levels[0].tensor.view(2, 3, 6, 5)
    assert first[1, 2, :, :2].tolist() == [[8, 4]] * 6
    assert torch.equal(first[1, 2, :, 2:], first[0, 0, :, 2:])
    assert first[0, 0, :3].tolist() == [[0, 0, 16, 4, -90], [0, 0, 16, 4, 0], [0, 0, 16, 4, 45]]


def test_an_offset_moves_centres_by_a_part_of_the_stride() -> None:
    levels = generator(offset=0.5)([torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)])
    assert [level.tensor[0, :2].tolist() for level in levels] == [[2, 2], [4, 4]]


def test_anchors_are_not_in_checkpoints() -> None:
    assert generator().state_dict() == {}


def test_a_feature_map_without_cells_has_no_anchors() -> None:
    levels = generator()([torch.zeros(1, 1, 0, 3), torch.zeros(1, 1, 1, 1)])
    assert len(levels[0]) == 0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"offset": 1.0}, "OFFSET"),
        ({"sizes": [[8], [16], [32]]}, "SIZES"),
        ({"angles": [[0], [1], [2]]}, "ANGLES"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        generator(**changes)
