"""The deformable bottleneck block, v1 and v2, against a plain definition."""

import pytest
import torch
import torch.nn.functional as F
from slow_deform_conv import slow_deform_conv

from models import ShapeSpec, build_resnet_backbone
from models.backbones import BottleneckBlock, DeformBottleneckBlock
from models.config import default_config


def block(**kwargs) -> DeformBottleneckBlock:
    torch.manual_seed(0)
    arguments = {"bottleneck_channels": 4, "norm": "FrozenBN"}
    return DeformBottleneckBlock(6, 8, **(arguments | kwargs)).eval()


def bend_(ours: DeformBottleneckBlock) -> None:
    """Offsets and masks of all sizes. In place."""
    torch.nn.init.normal_(ours.conv2_offset.weight, std=0.5)
    torch.nn.init.normal_(ours.conv2_offset.bias, std=0.5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_untrained_v1_is_the_plain_block(stride: int, dilation: int) -> None:
    ours = block(stride=stride, dilation=dilation)
    plain = BottleneckBlock(
        6, 8, bottleneck_channels=4, norm="FrozenBN", stride=stride, dilation=dilation
    )
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if "offset" not in k})
    x = torch.randn(2, 6, 8, 10)
    torch.testing.assert_close(ours(x), plain(x))


def test_untrained_v2_halves_the_3x3_convolution() -> None:
    ours = block(deform_modulated=True)
    plain = BottleneckBlock(6, 8, bottleneck_channels=4, norm="FrozenBN")
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if "offset" not in k})
    plain.conv2.weight.data *= 0.5  # the sigmoid of 0
    x = torch.randn(2, 6, 8, 10)
    torch.testing.assert_close(ours(x), plain(x))


@pytest.mark.parametrize("deform_groups", [1, 2])
@pytest.mark.parametrize("modulated", [False, True])
def test_offsets_and_masks_follow_the_definition(modulated: bool, deform_groups: int) -> None:
    ours = block(deform_modulated=modulated, deform_num_groups=deform_groups)
    bend_(ours)
    x = torch.randn(1, 6, 4, 5)
    with torch.no_grad():
        hidden = F.relu(ours.conv1(x))
        predicted = ours.conv2_offset(hidden)
        pairs = 18 * deform_groups  # (y, x) of each tap, then one number for the mask of each
        assert predicted.shape[1] == pairs + 9 * deform_groups * modulated
        mask = predicted[:, pairs:].sigmoid() if modulated else None
        bent = slow_deform_conv(
            hidden, predicted[:, :pairs], ours.conv2.weight, mask, deform_groups=deform_groups
        )
        expected = F.relu(ours.conv3(F.relu(ours.conv2.norm(bent))) + ours.shortcut(x))
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("in_1x1", "strides"), [(True, (2, 1)), (False, (1, 2))])
def test_the_stride_is_on_the_1x1_or_on_the_3x3(in_1x1: bool, strides: tuple[int, int]) -> None:
    ours = block(stride=2, stride_in_1x1=in_1x1)
    assert (ours.conv1.stride[0], ours.conv2.stride) == strides
    assert ours.conv2_offset.stride[0] == strides[1]
    assert ours(torch.randn(1, 6, 8, 10)).shape == (1, 8, 4, 5)


def test_parameters_have_the_names_of_checkpoints() -> None:
    shapes = {name: tuple(value.shape) for name, value in block().state_dict().items()}
    assert shapes["conv2.weight"] == (4, 4, 3, 3)
    assert shapes["conv2.norm.weight"] == (4,)
    assert shapes["conv2_offset.weight"] == (18, 4, 3, 3)
    assert shapes["conv2_offset.bias"] == (18,)
    assert block(deform_modulated=True).conv2_offset.out_channels == 27


def test_a_config_chooses_the_stages() -> None:
    cfg = default_config().override("MODEL.RESNETS.OUT_FEATURES", ["res5"])
    cfg = cfg.override("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, False, True])
    cfg = cfg.override("MODEL.RESNETS.DEFORM_MODULATED", True)
    cfg = cfg.override("MODEL.RESNETS.DEFORM_NUM_GROUPS", 2)
    with torch.device("meta"):
        resnet = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    stages = [getattr(resnet, f"res{i}")[0] for i in range(2, 6)]
    assert [type(x) is DeformBottleneckBlock for x in stages] == [False, True, False, True]
    assert stages[3].conv2_offset.out_channels == 54
