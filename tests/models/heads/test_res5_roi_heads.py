"""Res5ROIHeads and a small C4 model, against torchvision's own bottleneck blocks."""

import pytest
import torch
import torchvision.ops
from tiny_models import tiny_config, tiny_image
from torch import nn
from torchvision.models.resnet import Bottleneck

from models import Boxes, Instances, Res5ROIHeads, ShapeSpec, build_model, build_roi_heads
from models.config import Config
from models.errors import ConfigError

SHAPES = {"res4": ShapeSpec(channels=32, stride=16)}
NARROW = {"RESNETS__RES2_OUT_CHANNELS": 8, "RESNETS__WIDTH_PER_GROUP": 2, "RESNETS__NORM": "BN"}
C4 = {
    "ROI_HEADS__NAME": "Res5ROIHeads",
    "ROI_HEADS__IN_FEATURES": ["res4"],
    "ROI_HEADS__SCORE_THRESH_TEST": 0.1,
    "ROI_BOX_HEAD__POOLER_RESOLUTION": 6,
    "ROI_MASK_HEAD__NUM_CONV": 0,
}


def config(**overrides) -> Config:
    return tiny_config(**(NARROW | C4 | overrides))


def heads(**overrides) -> Res5ROIHeads:
    torch.manual_seed(0)
    built = build_roi_heads(config(**overrides), SHAPES)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    return built.eval()


def torchvision_res5(ours: Res5ROIHeads) -> nn.Module:
    """The same stage out of torchvision's blocks: 32 channels in, 64 out, stride 2 on the 3x3."""
    shortcut = nn.Sequential(nn.Conv2d(32, 64, 1, stride=2, bias=False), nn.BatchNorm2d(64))
    stage = nn.Sequential(
        Bottleneck(32, 16, stride=2, downsample=shortcut), Bottleneck(64, 16), Bottleneck(64, 16)
    )
    renamed = {}
    for name, value in ours.res5.state_dict().items():
        block, layer, *rest = name.split(".")
        if layer == "shortcut":
            place = "downsample.1" if rest[0] == "norm" else "downsample.0"
        else:
            place = layer.replace("conv", "bn") if rest[0] == "norm" else layer
        renamed[f"{block}.{place}.{rest[-1]}"] = value
    stage.load_state_dict(renamed)
    return stage.eval()


def proposed(*counts: int) -> list[Instances]:
    boxes = torch.tensor(
        [[8.0, 4.0, 90.0, 60.0], [30.0, 20.0, 120.0, 95.0], [0.0, 0.0, 40.0, 40.0]]
    )
    return [Instances((96, 128), proposal_boxes=Boxes(boxes[:n])) for n in counts]


FEATURES = {"res4": torch.randn(2, 32, 6, 8, generator=torch.Generator().manual_seed(1))}


def test_boxes_use_the_mean_of_res5_on_the_pooled_regions() -> None:
    ours = heads(RESNETS__STRIDE_IN_1X1=False)
    proposals = proposed(3, 2)
    pooled = torchvision.ops.roi_align(
        FEATURES["res4"], [p.proposal_boxes.tensor for p in proposals], 6, 1 / 16, 0, aligned=True
    )
    with torch.no_grad():
        regions = torchvision_res5(ours)(pooled)
        assert regions.shape == (5, 64, 3, 3)
        predictions = ours.box_predictor(regions.flatten(2).mean(dim=2))
        expected, _ = ours.box_predictor.inference(predictions, proposals)
        found = ours.detect_boxes(FEATURES, proposals)
    for one, other in zip(found, expected, strict=True):
        assert len(one) > 0
        assert one.pred_classes.tolist() == other.pred_classes.tolist()
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor)
        torch.testing.assert_close(one.scores, other.scores)


def test_masks_use_res5_on_the_predicted_boxes() -> None:
    ours = heads(RESNETS__STRIDE_IN_1X1=False, MASK_ON=True)
    with torch.no_grad():
        found, losses = ours(None, FEATURES, proposed(3, 2))
        boxes = [x.pred_boxes.tensor for x in found]
        pooled = torchvision.ops.roi_align(FEATURES["res4"], boxes, 6, 1 / 16, 0, aligned=True)
        logits = ours.mask_head.layers(torchvision_res5(ours)(pooled))
    assert losses == {}
    classes = torch.cat([x.pred_classes for x in found])
    expected = logits[torch.arange(len(classes)), classes].sigmoid()[:, None]
    assert expected.shape[2:] == (6, 6)
    torch.testing.assert_close(torch.cat([x.pred_masks for x in found]), expected)


def test_without_a_mask_head_given_boxes_stay_as_they_are() -> None:
    given = [Instances((96, 128), pred_boxes=p.proposal_boxes) for p in proposed(1, 1)]
    assert heads().forward_with_given_boxes(FEATURES, given) is given


def test_no_proposals_are_no_error() -> None:
    found, _ = heads(MASK_ON=True)(None, FEATURES, proposed(0, 0))
    assert [len(x) for x in found] == [0, 0]


def test_parameters_have_the_names_of_checkpoints() -> None:
    names = set(heads(MASK_ON=True).state_dict())
    assert {
        "res5.0.shortcut.weight",
        "res5.0.conv1.norm.running_var",
        "res5.2.conv3.weight",
    } < names
    assert {"box_predictor.cls_score.weight", "mask_head.deconv.weight"} < names
    assert not any(name.startswith("mask_head.mask_fcn") for name in names)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ROI_HEADS__IN_FEATURES": ["res3", "res4"]}, "takes one feature map, not 2"),
        ({"KEYPOINT_ON": True}, "no keypoint head"),
        ({"RESNETS__DEFORM_ON_PER_STAGE": [False, False, False, True]}, "no deformable"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        heads(**overrides)


def test_a_whole_model_on_res4_answers_and_pads_nothing() -> None:
    torch.manual_seed(0)
    model = build_model(
        config(
            BACKBONE__NAME="build_resnet_backbone",
            RESNETS__STEM_OUT_CHANNELS=8,
            RPN__IN_FEATURES=["res4"],
            ANCHOR_GENERATOR__SIZES=[[32, 64]],
            RPN__POST_NMS_TOPK_TEST=10,
            MASK_ON=True,
        )
    )
    image = tiny_image(80, 104)
    assert model.size_divisibility == 0
    assert model.preprocess_image([{"image": image}]).tensor.shape == (1, 3, 80, 104)
    (answer,) = model([{"image": image, "height": 40, "width": 52}])
    instances = answer["instances"]
    assert len(instances) > 0
    assert instances.pred_masks.shape == (len(instances), 40, 52)
