"""What a file is of, for tensors as Detectron2 has them: a few decisive ones of each architecture."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.reading import Checkpoint
from models.checkpoints.recognition import ModelFacts, recognise

SHAPES: dict[str, dict[str, list[int]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "parameter_shapes.json").read_text()
)


def facts_of(shapes: dict[str, list[int]], kind: str = "trainer .pth") -> ModelFacts:
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return recognise(Checkpoint(state, kind, False, None, "", 0))


@pytest.mark.parametrize(
    ("name", "architecture", "backbone", "num_classes"),
    [
        ("COCO-Detection__fast_rcnn_R_50_FPN_1x", "Fast R-CNN (proposals given) FPN", 50, 80),
        ("COCO-Detection__faster_rcnn_R_50_C4_3x", "Faster R-CNN C4", 50, 80),
        ("COCO-Detection__faster_rcnn_R_50_DC5_3x", "Faster R-CNN DC5", 50, 80),
        ("COCO-Detection__faster_rcnn_R_50_FPN_3x", "Faster R-CNN FPN", 50, 80),
        ("COCO-Detection__faster_rcnn_X_101_32x8d_FPN_3x", "Faster R-CNN FPN", 101, 80),
        ("COCO-Detection__retinanet_R_50_FPN_3x", "RetinaNet", 50, 80),
        ("COCO-Detection__rpn_R_50_C4_1x", "Region proposal network C4", 50, None),
        ("COCO-Detection__rpn_R_50_FPN_1x", "Region proposal network FPN", 50, None),
        ("COCO-InstanceSegmentation__mask_rcnn_R_50_C4_3x", "Mask R-CNN C4", 50, 80),
        ("COCO-InstanceSegmentation__mask_rcnn_R_50_DC5_3x", "Mask R-CNN DC5", 50, 80),
        ("COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x", "Mask R-CNN FPN", 50, 80),
        ("COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x", "Keypoint R-CNN FPN", 50, 1),
        ("COCO-PanopticSegmentation__panoptic_fpn_R_50_3x", "Panoptic FPN", 50, 80),
        ("Cityscapes__mask_rcnn_R_50_FPN", "Mask R-CNN FPN", 50, 8),
        ("LVISv1-InstanceSegmentation__mask_rcnn_R_50_FPN_1x", "Mask R-CNN FPN", 50, 1203),
        ("Misc__cascade_mask_rcnn_R_50_FPN_3x", "Cascade Mask R-CNN FPN", 50, 80),
        ("Misc__mask_rcnn_R_50_FPN_1x_cls_agnostic", "Mask R-CNN FPN", 50, 80),
        ("Misc__mask_rcnn_R_50_FPN_3x_dconv_c3-c5", "Mask R-CNN FPN", 50, 80),
        ("Misc__mask_rcnn_R_50_FPN_3x_gn", "Mask R-CNN FPN", 50, 80),
        ("Misc__panoptic_fpn_R_101_dconv_cascade_gn_3x", "Panoptic FPN, cascade", 101, 80),
        ("Misc__semantic_R_50_FPN_1x", "Semantic segmentor", 50, None),
        ("PascalVOC-Detection__faster_rcnn_R_50_C4", "Faster R-CNN C4", 50, 20),
        ("custom__faster_rcnn_R_50_FPN_rotated", "Rotated Faster R-CNN FPN", 50, 15),
        ("custom__mask_rcnn_R_18_FPN", "Mask R-CNN FPN", 18, 20),
        ("custom__mask_rcnn_R_50_FPN_sigmoid_avg", "Mask R-CNN FPN", 50, 12),
        ("lazy__fcos_R_50_FPN_1x", "FCOS", 50, 80),
        ("lazy__mask_rcnn_R_50_FPN_100ep_LSJ", "Mask R-CNN FPN", 50, 80),
        ("lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ", "Mask R-CNN FPN", None, 80),
    ],
)
def test_each_architecture_is_recognised(
    name: str, architecture: str, backbone: int | None, num_classes: int | None
) -> None:
    facts = facts_of(SHAPES[name])
    assert (facts.architecture, facts.depth) == (architecture, backbone)
    assert facts.num_classes == num_classes
    assert facts.input_channels == 3
    assert not facts.is_backbone


def test_what_else_the_tensors_tell() -> None:
    resnext = facts_of(SHAPES["COCO-Detection__faster_rcnn_X_101_32x8d_FPN_3x"])
    assert (resnext.backbone, resnext.groups, resnext.width_per_group) == (
        "ResNeXt-101 32x8d",
        32,
        8,
    )
    assert facts_of(SHAPES["COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x"]).num_keypoints == 17
    panoptic = facts_of(SHAPES["COCO-PanopticSegmentation__panoptic_fpn_R_50_3x"])
    assert panoptic.num_stuff_classes == 54
    assert panoptic.masks
    assert facts_of(SHAPES["Misc__mask_rcnn_R_50_FPN_1x_cls_agnostic"]).class_agnostic_boxes
    assert facts_of(SHAPES["Misc__mask_rcnn_R_50_FPN_3x_dconv_c3-c5"]).deformable
    assert facts_of(SHAPES["custom__faster_rcnn_R_50_FPN_rotated"]).rotated
    assert facts_of(SHAPES["lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ"]).backbone == "RegNet"


def test_the_norm_of_the_backbone() -> None:
    group_norm = SHAPES["Misc__mask_rcnn_R_50_FPN_3x_gn"]
    assert facts_of(group_norm).norm == "GN"
    assert facts_of(group_norm, "model zoo .pkl").norm == "FrozenBN or GN"
    frozen = SHAPES["COCO-Detection__retinanet_R_50_FPN_3x"]
    assert facts_of(frozen).norm == "FrozenBN"
    counts = {"backbone.bottom_up.res2.0.conv1.norm.num_batches_tracked": []}
    assert facts_of({**frozen, **counts}).norm == "BN"
    assert facts_of({k: v for k, v in frozen.items() if ".norm." not in k}).norm == "none"


def test_short_names_are_recognised() -> None:
    full = SHAPES["COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x"]
    short = {
        name.removeprefix("backbone.").removeprefix("bottom_up.").removeprefix("roi_heads."): shape
        for name, shape in full.items()
    }
    short = {name.removeprefix("box_predictor."): shape for name, shape in short.items()}
    facts = facts_of(short, "Caffe2 .pkl")
    assert (facts.architecture, facts.num_classes) == ("Mask R-CNN FPN", 80)
    assert (facts.backbone, facts.norm) == ("ResNet-50", "FrozenBN")


def test_a_backbone_alone() -> None:
    full = SHAPES["COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x"]
    body = "backbone.bottom_up."
    short = {k.removeprefix(body): v for k, v in full.items() if k.startswith(body)}
    facts = facts_of({**short, "fc1000.weight": [1000, 2048]}, "model zoo .pkl")
    assert facts.architecture == "ImageNet backbone"
    assert facts.is_backbone
    assert facts.backbone == "ResNet-50"
    classifier = facts_of({"layer1.0.conv1.weight": [64, 64, 1, 1], "fc.weight": [1000, 2048]})
    assert classifier.backbone == "torchvision ResNet"
    assert classifier.is_backbone


def test_something_else_is_unknown() -> None:
    facts = facts_of({"encoder.weight": [3], "res2.0.conv2.weight": [4]})
    assert facts == ModelFacts(architecture="unknown")
    assert facts_of({}).architecture == "unknown"


def test_a_residual_network_of_no_known_depth() -> None:
    shapes = {f"backbone.res2.{i}.conv1.weight": [8, 8, 1, 1] for i in range(5)}
    shapes["backbone.res2.0.conv2.weight"] = [8, 8, 3, 3]
    facts = facts_of(shapes)
    assert (facts.depth, facts.backbone) == (None, "residual network of 5 blocks")
