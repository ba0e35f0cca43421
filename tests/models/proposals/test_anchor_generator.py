"""Anchors: their shapes, their order and where they lie."""

import math

import pytest
import torch

from models import build_anchor_generator
from models.config import default_config
from models.errors import ConfigError
from models.layers import ShapeSpec
from models.proposals import DefaultAnchorGenerator


def generator(**kwargs) -> DefaultAnchorGenerator:
    arguments = {"sizes": [[32.0]], "aspect_ratios": [[1.0]], "strides": [16], "offset": 0.0}
    return DefaultAnchorGenerator(**(arguments | kwargs))


def test_cell_anchors_are_not_rounded() -> None:
    anchors = generator(aspect_ratios=[[0.5]]).cell_anchors_0
    width, height = 32 * math.sqrt(2), 32 / math.sqrt(2)
    expected = torch.tensor([[-width / 2, -height / 2, width / 2, height / 2]])
    torch.testing.assert_close(anchors, expected)


def test_sizes_are_the_outer_and_ratios_the_inner_loop() -> None:
    anchors = generator(sizes=[[32, 64]], aspect_ratios=[[0.5, 1.0, 2.0]]).cell_anchors_0
    sides = anchors[:, 2:] - anchors[:, :2]
    areas, ratios = sides.prod(dim=1), sides[:, 1] / sides[:, 0]
    torch.testing.assert_close(areas.sqrt(), torch.tensor([32.0] * 3 + [64.0] * 3))
    torch.testing.assert_close(ratios, torch.tensor([0.5, 1.0, 2.0] * 2))


def test_the_grid_runs_along_x_first() -> None:
    (boxes,) = generator()([torch.zeros(1, 8, 2, 3)])
    assert boxes.get_centers().tolist() == [[0, 0], [16, 0], [32, 0], [0, 16], [16, 16], [32, 16]]


def test_all_anchors_of_a_cell_come_together() -> None:
    (boxes,) = generator(aspect_ratios=[[0.5, 1.0]])([torch.zeros(1, 8, 1, 2)])
    assert boxes.get_centers().tolist() == [[0, 0], [0, 0], [16, 0], [16, 0]]


@pytest.mark.parametrize(("offset", "first"), [(0.0, 0.0), (0.5, 8.0)])
def test_the_offset_moves_centres_by_a_part_of_the_stride(offset: float, first: float) -> None:
    (boxes,) = generator(offset=offset)([torch.zeros(1, 8, 1, 2)])
    assert boxes.get_centers().tolist() == [[first, first], [first + 16, first]]


@pytest.mark.parametrize("sizes", [[[32.0, 64.0]], [32.0, 64.0]], ids=["nested", "flat"])
def test_one_list_serves_every_level(sizes: list) -> None:
    anchors = generator(sizes=sizes, strides=[8, 16, 32])
    assert anchors.num_anchors == [2, 2, 2]


def test_each_level_has_its_own_sizes_and_stride() -> None:
    levels = generator(sizes=[[32.0], [64.0]], strides=[16, 32])(
        [torch.zeros(2, 8, 2, 2), torch.zeros(2, 8, 1, 1)]
    )
    assert [len(boxes) for boxes in levels] == [4, 1]
    assert levels[0].tensor[1].tolist() == [0, -16, 32, 16]
    assert levels[1].tensor[0].tolist() == [-32, -32, 32, 32]


def test_as_many_lists_as_levels_are_needed() -> None:
    with pytest.raises(ConfigError, match="SIZES has 2 lists for 3 feature maps"):
        generator(sizes=[[32.0], [64.0]], strides=[8, 16, 32])


@pytest.mark.parametrize("offset", [-0.1, 1.0])
def test_an_offset_outside_of_the_cell_is_refused(offset: float) -> None:
    with pytest.raises(ConfigError, match="OFFSET is"):
        generator(offset=offset)


def test_anchors_are_not_in_checkpoints() -> None:
    assert generator().state_dict() == {}


def test_a_config_gives_the_default_anchors() -> None:
    shapes = [ShapeSpec(channels=8, stride=16)]
    built = build_anchor_generator(default_config(), shapes)
    assert isinstance(built, DefaultAnchorGenerator)
    assert built.num_anchors == [15]
    assert (built.strides, built.offset, built.box_dim) == ([16], 0.0, 4)


def test_an_unknown_generator_is_refused() -> None:
    cfg = default_config().override("MODEL.ANCHOR_GENERATOR.NAME", "MyAnchors")
    with pytest.raises(ConfigError, match="'MyAnchors', which is not in the ANCHOR_GENERATOR"):
        build_anchor_generator(cfg, [])
