"""The box head: its layers, their names and the shape that it announces."""

import pytest
import torch

from models import ROI_BOX_HEAD_REGISTRY, build_box_head
from models.config import Config, default_config
from models.errors import ConfigError
from models.heads import FastRCNNConvFCHead
from models.layers import ShapeSpec

REGION = ShapeSpec(channels=8, height=7, width=5)


def config(**head: object) -> Config:
    cfg = default_config()
    for key, value in {"NAME": "FastRCNNConvFCHead", **head}.items():
        cfg = cfg.override(f"MODEL.ROI_BOX_HEAD.{key}", value)
    return cfg


def test_two_linear_layers() -> None:
    head = build_box_head(config(NUM_FC=2, FC_DIM=16), REGION)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        "fc1.weight": (16, 8 * 7 * 5),
        "fc1.bias": (16,),
        "fc2.weight": (16, 16),
        "fc2.bias": (16,),
    }
    assert head.output_shape == ShapeSpec(channels=16)
    assert head(torch.zeros(3, 8, 7, 5)).shape == (3, 16)


@pytest.mark.parametrize(("norm", "extra"), [("", "conv1.bias"), ("GN", "conv1.norm.weight")])
def test_convolutions_before_linear_layers(norm: str, extra: str) -> None:
    head = build_box_head(config(NUM_CONV=2, CONV_DIM=32, NUM_FC=1, FC_DIM=16, NORM=norm), REGION)
    assert {"conv1.weight", "conv2.weight", "fc1.weight", extra} <= set(head.state_dict())
    assert head.fc1.in_features == 32 * 7 * 5
    assert head(torch.zeros(3, 8, 7, 5)).shape == (3, 16)


def test_only_convolutions_keep_height_and_width() -> None:
    head = build_box_head(config(NUM_CONV=1, CONV_DIM=4), REGION)
    assert head.output_shape == ShapeSpec(channels=4, height=7, width=5)
    assert head(torch.zeros(3, 8, 7, 5)).shape == (3, 4, 7, 5)


def test_every_layer_ends_in_a_relu() -> None:
    torch.manual_seed(0)
    head = FastRCNNConvFCHead(REGION, conv_dims=[4], fc_dims=[6])
    assert head(torch.randn(5, 8, 7, 5)).min() == 0


def test_no_regions_are_no_error() -> None:
    head = build_box_head(config(NUM_CONV=1, NUM_FC=1, NORM="GN", FC_DIM=16), REGION)
    assert head(torch.zeros(0, 8, 7, 5)).shape == (0, 16)


def test_a_head_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no layers"):
        build_box_head(config(), REGION)


def test_linear_layers_need_a_known_size() -> None:
    with pytest.raises(ValueError, match="height and width"):
        FastRCNNConvFCHead(ShapeSpec(channels=8), conv_dims=[], fc_dims=[4])


def test_an_unknown_head_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'FastHead', .* ROI_BOX_HEAD .*FastRCNNConvFCHead"):
        build_box_head(config(NAME="FastHead"), REGION)


def test_the_head_of_the_paper_is_registered() -> None:
    assert "FastRCNNConvFCHead" in ROI_BOX_HEAD_REGISTRY
