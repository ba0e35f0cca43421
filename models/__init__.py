"""A detection library with the names of Detectron2's modeling API, on PyTorch and torchvision alone.

Build a model from a Detectron2 config and checkpoint and use it::

    from models import Predictor

    predictor = Predictor.from_files("config.yaml", "model_final.pth")
    instances = predictor(Image.open("photo.jpg"))
"""

from models.architectures import META_ARCH_REGISTRY, GeneralizedRCNN, build_model
from models.backbones import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    ResNet,
    build_backbone,
    build_resnet_backbone,
)
from models.box_regression import Box2BoxTransform, Box2BoxTransformRotated
from models.checkpoints import LoadReport, load_checkpoint
from models.config import Config, load_config
from models.errors import CheckpointError, ConfigError, ModelError, PathNotAllowedError
from models.heads import (
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    BaseMaskRCNNHead,
    FastRCNNOutputLayers,
    ROIHeads,
    RROIHeads,
    StandardROIHeads,
    build_box_head,
    build_mask_head,
    build_roi_heads,
)
from models.layers import ShapeSpec, batched_nms_rotated, nms_rotated
from models.matcher import Matcher
from models.poolers import ROIPooler
from models.postprocessing import detector_postprocess
from models.predictor import Predictor
from models.proposals import (
    ANCHOR_GENERATOR_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    RPN_HEAD_REGISTRY,
    RRPN,
    RotatedAnchorGenerator,
    build_anchor_generator,
    build_proposal_generator,
    build_rpn_head,
)
from models.sampling import subsample_labels
from models.structures import (
    BitMasks,
    Boxes,
    ImageList,
    Instances,
    RotatedBoxes,
    pairwise_iou_rotated,
)

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "FPN",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "Backbone",
    "BaseMaskRCNNHead",
    "BitMasks",
    "Box2BoxTransform",
    "Box2BoxTransformRotated",
    "Boxes",
    "CheckpointError",
    "Config",
    "ConfigError",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "ImageList",
    "Instances",
    "LoadReport",
    "Matcher",
    "ModelError",
    "PathNotAllowedError",
    "Predictor",
    "ROIHeads",
    "ROIPooler",
    "RROIHeads",
    "ResNet",
    "RotatedAnchorGenerator",
    "RotatedBoxes",
    "ShapeSpec",
    "StandardROIHeads",
    "batched_nms_rotated",
    "build_anchor_generator",
    "build_backbone",
    "build_box_head",
    "build_mask_head",
    "build_model",
    "build_proposal_generator",
    "build_resnet_backbone",
    "build_roi_heads",
    "build_rpn_head",
    "detector_postprocess",
    "load_checkpoint",
    "load_config",
    "nms_rotated",
    "pairwise_iou_rotated",
    "subsample_labels",
]
