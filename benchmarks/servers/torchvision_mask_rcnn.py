"""torchvision's Mask R-CNN R50-FPN as people serve it: eager, float32, masks pasted and then encoded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms.functional import to_tensor

sys.path.append(str(Path(__file__).parent.parent.parent / "tests" / "support"))

from seeded_weights import seeded_tensor  # see the path above

# The names that decide how a tensor is seeded, so that both models have weights of one kind.
_RENAMED = (
    ("body.conv1", "stem.conv1"),
    ("bn3", "conv3.norm"),
    ("cls_logits", "objectness_logits"),
    ("rpn.head.bbox_pred", "rpn.head.anchor_deltas"),
    ("conv5_mask", "deconv"),
)


def frozen_model() -> TorchvisionMaskRCNN:
    """The detector in evaluation mode, its norms frozen as in the published weights, and so in all
    that start from them; its weights are still to come.
    """
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    _freeze_norms_(model)
    return model.eval()


def seeded_model(*, seed: int = 7) -> TorchvisionMaskRCNN:
    """The detector with weights that depend on ``seed`` and on names and shapes alone."""
    model = frozen_model()
    state = {}
    for name, value in model.state_dict().items():
        alias = name
        for ours, theirs in _RENAMED:
            alias = alias.replace(ours, theirs)
        # The input is normalised to unit variance, so the stem gets the gain of any other layer.
        state[name] = seeded_tensor(
            alias, value.shape, seed, stem_gain=2.0, damped="conv3.norm" in alias
        )
    model.load_state_dict(state)
    return model


class MaskRCNN:
    """Pictures in, one dict a picture out."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = seeded_model().to(self.device)

    @torch.inference_mode()
    def __call__(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        outputs = self.model([to_tensor(image).to(self.device) for image in images])
        return [encode(output) for output in outputs]


def encode(output: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Boxes, scores, labels, and masks in COCO's run-length encoding, one by one."""
    masks = (output["masks"][:, 0] > 0.5).cpu().numpy().astype(np.uint8)
    encoded = []
    for mask in masks:
        rle = coco_mask.encode(np.asfortranarray(mask))
        encoded.append({"size": rle["size"], "counts": rle["counts"].decode()})
    return {
        "boxes": output["boxes"].tolist(),
        "scores": output["scores"].tolist(),
        "labels": output["labels"].tolist(),
        "masks": encoded,
    }


def _freeze_norms_(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            _freeze_norms_(child)
