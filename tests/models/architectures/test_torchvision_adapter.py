"""torchvision's detectors behind our interface, against torchvision itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.models.detection as detection
from torchvision.models.detection.roi_heads import paste_masks_in_image as torchvision_paste
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from models.architectures import build_model
from models.architectures.torchvision_adapter import (
    TorchvisionDetector,
    load_torchvision,
    torchvision_config,
)
from models.architectures.torchvision_transform import TorchvisionPreprocessing
from models.checkpoints import load_checkpoint
from models.checkpoints.torchvision_files import TorchvisionArchitecture
from models.errors import CheckpointError, ConfigError
from models.layers.mask_ops import paste_masks_in_image

SIZES = {"min_size": 64, "max_size": 96}


def pair(name: str, outputs: int = 4) -> tuple[Any, TorchvisionDetector]:
    """A detector of torchvision's with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=outputs, **SIZES
    ).eval()
    with torch.no_grad():
        # Untrained dense heads find nothing, since their bias says that nothing is there.
        for key, value in theirs.named_parameters():
            if key == "head.classification_head.cls_logits.bias":
                value.zero_()
    keypoints = 17 if name.startswith("keypoint") else 0
    architecture = TorchvisionArchitecture(name, outputs - 1, keypoints)
    ours = TorchvisionDetector(
        architecture=architecture, score_thresh=getattr(theirs, "score_thresh", 0.05), **SIZES
    ).eval()
    for model in (theirs, ours.detector):
        if hasattr(model, "rpn"):
            model.rpn._post_nms_top_n["testing"] = 30
        model.detections_per_img = 100
        model.nms_thresh = 0.5
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def faster() -> tuple[Any, TorchvisionDetector]:
    return pair("fasterrcnn_resnet50_fpn")


@pytest.fixture(scope="module")
def masks() -> tuple[Any, TorchvisionDetector]:
    return pair("maskrcnn_resnet50_fpn")


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def detect(model: Any, *images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    with torch.no_grad():
        answer: list[dict[str, torch.Tensor]] = model([image / 255 for image in images])
    return answer


def assert_same(instances: Any, expected: dict[str, torch.Tensor]) -> None:
    keep = expected["labels"] > 0
    assert torch.equal(instances.pred_boxes.tensor, expected["boxes"][keep])
    assert torch.equal(instances.scores, expected["scores"][keep])
    assert torch.equal(instances.pred_classes, expected["labels"][keep] - 1)


@pytest.mark.parametrize(
    "name",
    ["fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"],
)
def test_boxes_scores_and_classes_are_torchvisions(name: str) -> None:
    theirs, ours = pair(name)
    image = picture(70, 110)
    (expected,) = detect(theirs, image)
    (instances,) = ours.inference([{"image": image}], do_postprocess=False)
    assert len(instances) > 0
    assert instances.image_size == (70, 110)
    assert_same(instances, expected)


def test_faster_rcnn_answers_as_torchvision(faster: tuple[Any, TorchvisionDetector]) -> None:
    theirs, ours = faster
    image = picture(70, 110)
    (instances,) = ours.inference([{"image": image}], do_postprocess=False)
    assert len(instances) > 0
    assert_same(instances, detect(theirs, image)[0])
    (forwarded,) = ours([{"image": image}])
    assert torch.allclose(
        forwarded["instances"].pred_boxes.tensor, instances.pred_boxes.tensor, atol=1e-4
    )
    (scaled,) = ours.inference([{"image": image, "height": 140, "width": 55}])
    assert scaled.image_size == (140, 55)
    factors = torch.tensor([0.5, 2, 0.5, 2])
    assert torch.allclose(
        scaled.pred_boxes.tensor, instances.pred_boxes.tensor * factors, atol=1e-3
    )


def test_soft_masks_are_torchvisions_before_it_pastes_them(
    masks: tuple[Any, TorchvisionDetector],
) -> None:
    theirs, ours = masks
    image = picture(70, 110)
    (expected,) = detect(theirs, image)
    (instances,) = ours.inference([{"image": image}], do_postprocess=False)
    assert_same(instances, expected)
    assert instances.pred_masks.shape == (len(instances), 1, 28, 28)
    pasted = torchvision_paste(instances.pred_masks, instances.pred_boxes.tensor, (70, 110))
    assert torch.equal(pasted, expected["masks"])
    (forwarded,) = ours([{"image": image}])
    assert forwarded["instances"].pred_masks.shape == (len(instances), 70, 110)
    assert forwarded["instances"].pred_masks.dtype == torch.bool


def test_our_paste_and_torchvisions_agree() -> None:
    """torchvision rounds boxes to pixels before it pastes, we do not: borders differ, no more."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(50, 2, generator=generator) * 60
    sides = 20 + torch.rand(50, 2, generator=generator) * 100
    boxes = torch.cat([corners, corners + sides], dim=1)
    axis = torch.linspace(-1, 1, 28)
    disc = torch.sigmoid(8 * (0.8 - (axis[:, None] ** 2 + axis**2).sqrt()))
    soft = disc.expand(50, 1, 28, 28)
    theirs = torchvision_paste(soft, boxes, (180, 180))[:, 0] > 0.5
    ours = paste_masks_in_image(soft[:, 0], boxes, (180, 180), 0.5)
    intersection = (ours & theirs).sum((1, 2))
    union = (ours | theirs).sum((1, 2))
    ious = intersection / union
    assert float(ious.min()) > 0.85
    assert float(ious.mean()) > 0.96


def test_keypoints_are_torchvisions() -> None:
    theirs, ours = pair("keypointrcnn_resnet50_fpn", outputs=2)
    image = picture(60, 60)
    (expected,) = detect(theirs, image)
    (instances,) = ours.inference([{"image": image}], do_postprocess=False)
    assert len(instances) > 0
    assert_same(instances, expected)
    assert torch.equal(instances.pred_keypoints[:, :, :2], expected["keypoints"][:, :, :2])
    assert torch.equal(instances.pred_keypoints[:, :, 2], expected["keypoints_scores"])


def test_images_of_one_padded_size_do_not_influence_each_other(
    faster: tuple[Any, TorchvisionDetector],
) -> None:
    _, ours = faster
    images = [picture(70, 100, seed=1), picture(66, 97, seed=2)]
    sizes = {ours.preprocessing.padded_size(image) for image in images}
    assert sizes == {(64, 96)}
    together = ours.inference([{"image": image} for image in images], do_postprocess=False)
    for image, instances in zip(images, together, strict=True):
        (alone,) = ours.inference([{"image": image}], do_postprocess=False)
        assert torch.allclose(instances.pred_boxes.tensor, alone.pred_boxes.tensor, atol=1e-3)
        assert torch.allclose(instances.scores, alone.scores, atol=1e-3)


@pytest.mark.parametrize(("min_size", "max_size"), [(96, 128), (800, 1333), (33, 1000)])
def test_the_padded_size_is_torchvisions(min_size: int, max_size: int) -> None:
    preprocessing = TorchvisionPreprocessing(min_size, max_size)
    transform = GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3).eval()
    for height, width in [(1, 1), (7, 300), (97, 131), (480, 640), (427, 640), (333, 500)]:
        image = torch.zeros((3, height, width), device="meta")
        batch, _ = transform([image])
        assert preprocessing.padded_size(image) == tuple(batch.tensors.shape[-2:])


def test_preparing_changes_the_layout_only() -> None:
    preprocessing = TorchvisionPreprocessing(800, 1333)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert torch.equal(preprocessing(pixels), torch.from_numpy(pixels).permute(2, 0, 1))
    reversed_channels = np.ascontiguousarray(pixels[:, :, ::-1])
    assert torch.equal(preprocessing(reversed_channels, "BGR"), preprocessing(pixels))
    assert preprocessing == TorchvisionPreprocessing(800, 1333)
    assert hash(preprocessing) != hash(TorchvisionPreprocessing(800, 1000))


def test_a_file_is_served_without_a_config(
    tmp_path: Path, faster: tuple[Any, TorchvisionDetector]
) -> None:
    theirs, _ = faster
    path = tmp_path / "fasterrcnn.pth"
    torch.save(theirs.state_dict(), path)
    model, report = load_torchvision(path)
    assert (model.num_classes, model.architecture.name) == (3, "fasterrcnn_resnet50_fpn")
    assert report.tensors == len(theirs.state_dict())
    assert model.state_dict().keys() == theirs.state_dict().keys()
    assert model.device == torch.device("cpu")
    built = build_model(torchvision_config(path).override("INPUT.MIN_SIZE_TEST", 64))
    load_checkpoint(built, path)
    assert isinstance(built, TorchvisionDetector)
    assert built.preprocessing.min_size == 64
    assert not built.training
    with pytest.raises(NotImplementedError, match="not trained"):
        built.train()([])


def test_frozen_norms_run_without_epsilon_as_in_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    frozen = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "model.pth"
    torch.save({"model": frozen}, path)
    model, report = load_torchvision(path, name="fasterrcnn_mobilenet_v3_large_320_fpn")
    assert report.tensors == len(frozen)
    norms = [m for m in model.modules() if type(m).__name__ == "FrozenBatchNorm2d"]
    assert norms
    assert {norm.eps for norm in norms} == {1e-5}
    resnet = TorchvisionArchitecture("maskrcnn_resnet50_fpn", 3, frozen_norm=True)
    assert resnet.config().MODEL.TORCHVISION.FROZEN_NORM_EPS == 0.0


def test_a_file_of_something_else_needs_its_config(tmp_path: Path) -> None:
    torch.save({"model": {"stem.weight": torch.zeros(3)}}, tmp_path / "model_final.pth")
    with pytest.raises(CheckpointError, match=r"model_final\.pth needs its config"):
        load_torchvision(tmp_path / "model_final.pth")


def test_a_config_must_name_a_detector_of_torchvision() -> None:
    cfg = TorchvisionArchitecture("fcos_resnet50_fpn", 3).config()
    with pytest.raises(ConfigError, match="no detector 'resnet50'"):
        TorchvisionDetector(cfg.override("MODEL.TORCHVISION.NAME", "resnet50"))
