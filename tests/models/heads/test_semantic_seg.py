"""SemSegFPNHead: one resolution for all levels, names, and the upsampling at the end."""

import math

import pytest
import torch
import torch.nn.functional as F

from models import SEM_SEG_HEADS_REGISTRY, SemSegFPNHead, ShapeSpec, build_sem_seg_head
from models.config import default_config
from models.errors import ConfigError

SHAPES = {f"p{i}": ShapeSpec(channels=4, stride=2**i) for i in range(2, 6)}


def head(**kwargs) -> SemSegFPNHead:
    torch.manual_seed(0)
    return SemSegFPNHead(
        SHAPES, **({"num_classes": 5, "conv_dims": 6, "common_stride": 4} | kwargs)
    )


def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(2, 4, 64 // s.stride, 96 // s.stride, generator=generator)
        for name, s in SHAPES.items()
    }


def test_convolutions_have_even_numbers_since_upsampling_stands_between() -> None:
    weights = {name for name in head().state_dict() if name.endswith("weight")}
    assert weights == {
        "p2.0.weight",
        "p3.0.weight",
        "p4.0.weight",
        "p4.2.weight",
        "p5.0.weight",
        "p5.2.weight",
        "p5.4.weight",
        "predictor.weight",
    }


@pytest.mark.parametrize(("norm", "has_bias"), [("", True), ("BN", False)])
def test_a_norm_takes_the_place_of_the_bias(norm: str, has_bias: bool) -> None:
    names = set(head(norm=norm).state_dict())
    assert ("p2.0.bias" in names) is has_bias
    assert ("p5.4.norm.weight" in names) is not has_bias
    assert "predictor.bias" in names


def test_levels_are_upsampled_and_summed() -> None:
    ours, x = head(), features()
    total = torch.zeros(2, 6, 16, 24)
    for name, steps in (("p2", 0), ("p3", 1), ("p4", 2), ("p5", 3)):
        level = x[name]
        for i in range(max(steps, 1)):
            level = getattr(ours, name)[2 * i](level)
            if steps:
                level = F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False)
        total += level
    assert (total >= 0).all()  # each convolution ends in a ReLU
    torch.testing.assert_close(ours.layers(x), ours.predictor(total))


def test_logits_have_the_size_of_the_padded_images() -> None:
    ours, x = head().eval(), features()
    logits, losses = ours(x)
    assert losses == {}
    assert logits.shape == (2, 5, 64, 96)
    expected = F.interpolate(ours.layers(x), size=(64, 96), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_a_config_gives_the_head_of_the_paper() -> None:
    shapes = {f"p{i}": ShapeSpec(channels=256, stride=2**i) for i in range(2, 7)}
    with torch.device("meta"):
        ours = build_sem_seg_head(default_config(), shapes)
    assert ours.in_features == ("p2", "p3", "p4", "p5")
    assert ours.predictor.weight.shape == (54, 128, 1, 1)
    assert ours.p5[4].norm.num_groups == 32


def test_a_head_needs_a_feature_map() -> None:
    with pytest.raises(ValueError, match="at least one feature map"):
        SemSegFPNHead({}, num_classes=5, conv_dims=6, common_stride=4)


def test_an_unknown_head_is_named_with_the_known_ones() -> None:
    cfg = default_config().override("MODEL.SEM_SEG_HEAD.NAME", "MyHead")
    with pytest.raises(ConfigError, match="'MyHead', which is not in the SEM_SEG_HEADS registry"):
        build_sem_seg_head(cfg, SHAPES)
    assert SEM_SEG_HEADS_REGISTRY.get("SemSegFPNHead") is SemSegFPNHead


def test_the_loss_is_the_mean_entropy_of_the_pixels_that_count() -> None:
    ours = head(ignore_value=255, loss_weight=0.5)
    predictions = torch.zeros(1, 5, 2, 2)
    targets = torch.full((1, 8, 8), 255)
    targets[0, :3] = 4
    losses = ours.losses(predictions, targets)
    assert list(losses) == ["loss_sem_seg"]
    assert float(losses["loss_sem_seg"]) == pytest.approx(0.5 * math.log(5))


def test_predictions_are_upsampled_before_they_are_compared() -> None:
    ours, x = head(ignore_value=255), features()
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 5, (2, 64, 96), generator=generator)
    targets[:, :5] = 255
    logits, losses = ours(x, targets)
    full = F.interpolate(ours.layers(x), size=(64, 96), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full, targets, ignore_index=255)
    assert logits is None
    torch.testing.assert_close(losses["loss_sem_seg"], expected)


def test_where_all_pixels_are_ignored_the_loss_is_a_connected_zero() -> None:
    ours = head(ignore_value=255)
    _, losses = ours(features(), torch.full((2, 64, 96), 255))
    losses["loss_sem_seg"].backward()
    assert float(losses["loss_sem_seg"].detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_training_needs_targets() -> None:
    with pytest.raises(ValueError, match="a class for each pixel in training"):
        head()(features())
