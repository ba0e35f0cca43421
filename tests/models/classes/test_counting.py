"""The number of classes of every architecture, and the sentence where its parts disagree."""

from typing import Any

import golden
import pytest
import torch
import torchvision.models.detection as detection
from tiny_models import tiny_model
from torch import nn

from models import MMDetDetector, ModelError, build_model, load_config, num_classes
from models.architectures.torchvision_adapter import TorchvisionDetector
from models.checkpoints.torchvision_files import detect_torchvision

COUNTS = {
    "COCO-Detection__faster_rcnn_R_50_C4_3x": (80, None),
    "COCO-Detection__fast_rcnn_R_50_FPN_1x": (80, None),
    "COCO-Detection__retinanet_R_50_FPN_3x": (80, None),
    "COCO-Detection__rpn_R_50_FPN_1x": (1, None),
    "COCO-Keypoints__keypoint_rcnn_R_50_FPN_3x": (1, None),
    "COCO-PanopticSegmentation__panoptic_fpn_R_50_3x": (80, 54),
    "Cityscapes__mask_rcnn_R_50_FPN": (8, None),
    "LVISv1-InstanceSegmentation__mask_rcnn_R_50_FPN_1x": (1203, None),
    "Misc__cascade_mask_rcnn_R_50_FPN_3x": (80, None),
    "Misc__mask_rcnn_R_50_FPN_1x_cls_agnostic": (80, None),
    "Misc__semantic_R_50_FPN_1x": (None, 54),
    "PascalVOC-Detection__faster_rcnn_R_50_C4": (20, None),
    "custom__faster_rcnn_R_50_FPN_rotated": (15, None),
    "custom__mask_rcnn_R_50_FPN_sigmoid_avg": (12, None),
    "lazy__fcos_R_50_FPN_1x": (80, None),
    "lazy__mask_rcnn_R_50_FPN_100ep_LSJ": (80, None),
}


@pytest.mark.parametrize("case", COUNTS)
def test_every_architecture_is_counted(case: str) -> None:
    with torch.device("meta"):
        model = build_model(load_config(golden.GOLDEN / case / "config.yaml"))
    things, stuff = COUNTS[case]
    assert num_classes(model) == (things or stuff)
    for part, count in (("things", things), ("stuff", stuff)):
        if count is None:
            with pytest.raises(ModelError, match=rf"no classes of '{part}'"):
                num_classes(model, part)  # type: ignore[arg-type]  # from a table
        else:
            assert num_classes(model, part) == count  # type: ignore[arg-type]  # from a table


def test_torchvisions_background_is_not_counted() -> None:
    inner = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    architecture = detect_torchvision(inner.state_dict())
    assert architecture is not None
    assert num_classes(TorchvisionDetector(architecture=architecture)) == 3


class SomebodysDetector(nn.Module):
    """Has mmdetection's method."""

    def simple_test(self, imgs: Any, img_metas: Any, rescale: bool) -> Any:
        raise NotImplementedError


def test_mmdetections_number_is_its_own() -> None:
    model = MMDetDetector(SomebodysDetector(), pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    with pytest.raises(ModelError, match="mmdetection keeps the number of classes to itself"):
        num_classes(model)


def test_a_model_without_known_heads() -> None:
    with pytest.raises(ModelError, match="A Linear has none of the heads"):
        num_classes(nn.Linear(2, 2))


def test_a_layer_that_forgets_the_background_is_found() -> None:
    model = tiny_model()
    predictor = model.roi_heads.box_predictor
    predictor.cls_score = nn.Linear(predictor.cls_score.in_features, 3)
    with pytest.raises(ModelError) as caught:
        num_classes(model)
    assert caught.value.message == (
        "roi_heads.box_predictor.cls_score.weight has 3 rows, but the model's 3 classes and the "
        "background, which comes last, need 4. Let replace_predictor(model, num_classes) make the last "
        "layers: it changes all of them together."
    )


def test_a_predictor_of_somebodys_own_is_named() -> None:
    model = tiny_model()
    del model.roi_heads.box_predictor.cls_score
    with pytest.raises(ModelError, match=r"no roi_heads\.box_predictor\.cls_score\.weight"):
        num_classes(model)
