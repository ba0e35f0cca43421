"""Which torchvision detector a state dict is of."""

import re

import pytest
import torch
import torchvision.models.detection as detection

from models.checkpoints.torchvision_files import (
    TorchvisionArchitecture,
    canonical_names,
    detect_torchvision,
)
from models.config import default_config

State = dict[str, torch.Tensor]
NAMES = [
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
]


def state_of(name: str, num_classes: int = 5) -> State:
    """Names and shapes of a detector, without content."""
    with torch.device("meta"):
        model = getattr(detection, name)(
            weights=None, weights_backbone=None, num_classes=num_classes
        )
    state: State = model.state_dict()
    return state


@pytest.mark.parametrize("name", NAMES)
def test_each_detector_is_recognised(name: str) -> None:
    found = detect_torchvision(state_of(name))
    keypoints = 17 if name.startswith("keypointrcnn") else 0
    assert found == TorchvisionArchitecture(name, num_classes=4, num_keypoints=keypoints)


def test_frozen_norms_are_those_without_a_batch_count() -> None:
    state = state_of("maskrcnn_resnet50_fpn")
    frozen = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    found = detect_torchvision(frozen)
    assert found is not None
    assert found.frozen_norm


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.clear(),
        lambda s: s.pop("backbone.fpn.inner_blocks.0.0.weight"),
        lambda s: s.pop("roi_heads.box_predictor.cls_score.weight"),
        lambda s: s.update({"roi_heads.box_predictor.cls_score.weight": torch.zeros(1, 8)}),
        lambda s: s.update({"roi_heads.box_predictor.cls_score.weight": torch.zeros(())}),
        lambda s: s.update({"backbone.body.layer3.6.conv1.weight": torch.zeros(1)}),
    ],
)
def test_what_is_none_of_them(change: object) -> None:
    state = state_of("fasterrcnn_resnet50_fpn")
    assert callable(change)
    change(state)
    assert detect_torchvision(state) is None


def test_a_combination_that_torchvision_does_not_have() -> None:
    state = state_of("fasterrcnn_mobilenet_v3_large_fpn")
    state["roi_heads.mask_predictor.mask_fcn_logits.weight"] = torch.zeros(5, 8, 1, 1)
    assert detect_torchvision(state) is None


def test_names_of_the_published_classes() -> None:
    names = TorchvisionArchitecture("fasterrcnn_resnet50_fpn", num_classes=90).class_names
    assert names is not None
    assert (names[0], names[11], names[89]) == ("person", "N/A", "toothbrush")
    assert TorchvisionArchitecture("fasterrcnn_resnet50_fpn", num_classes=3).class_names is None
    person = TorchvisionArchitecture("keypointrcnn_resnet50_fpn", num_classes=1, num_keypoints=17)
    assert person.class_names == ("person",)
    assert person.keypoint_names is not None
    assert person.keypoint_names[0] == "nose"
    other = TorchvisionArchitecture("keypointrcnn_resnet50_fpn", num_classes=1, num_keypoints=4)
    assert other.keypoint_names is None
    assert other.class_names is None  # trained on other data, so its class is not known either


def test_the_config_says_what_the_file_is() -> None:
    cfg = TorchvisionArchitecture(
        "retinanet_resnet50_fpn", num_classes=7, frozen_norm=True
    ).config()
    assert cfg.MODEL.META_ARCHITECTURE == "TorchvisionDetector"
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 7
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 300
    assert cfg.INPUT.FORMAT == "RGB"
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON) == (False, False)
    assert cfg.MODEL.TORCHVISION.FROZEN_NORM_EPS == 0.0
    assert cfg.override("MODEL.TORCHVISION.FROZEN_NORM_EPS", 1e-5) != cfg
    assert "TORCHVISION" not in default_config().MODEL
    keypoints = TorchvisionArchitecture("keypointrcnn_resnet50_fpn", 1, num_keypoints=4).config()
    assert keypoints.MODEL.KEYPOINT_ON
    assert keypoints.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 4


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_names_of_the_first_generation_become_todays(name: str) -> None:
    state = state_of(name)

    def old(key: str) -> str:
        key = re.sub(r"(blocks\.\d)\.0\.", r"\1.", key)
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        key = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)
        return re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", key)

    first = {old(key): tensor for key, tensor in state.items()}
    assert first.keys() != state.keys()
    assert canonical_names(first).keys() == state.keys()


@pytest.mark.parametrize("name", NAMES)
def test_todays_names_stay(name: str) -> None:
    state = state_of(name)
    assert list(canonical_names(state)) == list(state)


def test_other_files_keep_their_names() -> None:
    state = {"rpn.head.conv.weight": torch.zeros(1)}
    assert canonical_names(state) is state
