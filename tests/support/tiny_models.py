"""Small models of every architecture, with random weights: a pyramid of one convolution, few channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import BACKBONE_REGISTRY, Backbone, ShapeSpec, build_model
from models.config import Config, default_config


@BACKBONE_REGISTRY.register()
class PlainPyramid(Backbone):
    """One convolution and its average pools, as levels p2 to p6: a user's own backbone."""

    def __init__(self, cfg: Config, input_shape: ShapeSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape.known_channels, 8, 4, stride=4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.conv(x)
        return {f"p{i}": F.avg_pool2d(first, 2 ** (i - 2)) for i in range(2, 7)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 7)}

    @property
    def size_divisibility(self) -> int:
        return 64


LEVELS = ["p2", "p3", "p4", "p5", "p6"]
TINY = {
    "MODEL.BACKBONE.NAME": "PlainPyramid",
    "MODEL.PIXEL_STD": [60.0, 60.0, 60.0],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "MODEL.RPN.IN_FEATURES": LEVELS,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": LEVELS[:4],
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.2,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [8],
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 4,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 5,
    "MODEL.RETINANET.IN_FEATURES": LEVELS,
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.RETINANET.PRIOR_PROB": 0.3,
    "TEST.DETECTIONS_PER_IMAGE": 20,
}


def tiny_config(**overrides: Any) -> Config:
    """The config of a small model; keys with ``__`` for ``.``, below MODEL unless they start with TEST."""
    cfg = default_config()
    keys = {
        (key if key.startswith("TEST") else f"MODEL__{key}").replace("__", "."): value
        for key, value in overrides.items()
    }
    for key, value in (TINY | keys).items():
        cfg = cfg.override(key, value)
    return cfg


def tiny_model(seed: int = 0, **overrides: Any) -> Any:
    """A small model with random weights, large enough that scores and boxes differ."""
    torch.manual_seed(seed)
    model = build_model(tiny_config(**overrides))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.startswith("backbone"):
            gain = 0.1 if "bbox_pred" in name or "anchor_deltas" in name else 2.0
            std = (gain / parameter[0].numel()) ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return model


def tiny_image(height: int = 96, width: int = 128, seed: int = 0) -> Tensor:
    """A uint8 image (3, height, width) of coarse noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator) * 255
    fine = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return fine[0].to(torch.uint8)
