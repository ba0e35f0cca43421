"""A detection library with the names of Detectron2's modeling API, on PyTorch and torchvision alone.

Build a model from a Detectron2 config and checkpoint and use it::

    from models import Predictor

    predictor = Predictor.from_files("config.yaml", "model_final.pth")
    instances = predictor(Image.open("photo.jpg"))
"""

from models.architectures import (
    FCOS,
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    MMDetDetector,
    PanopticFPN,
    ProposalNetwork,
    RetinaNet,
    SemanticSegmentor,
    build_model,
)
from models.backbones import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    MMDetBackbone,
    ResNet,
    build_backbone,
    build_resnet_backbone,
)
from models.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
)
from models.checkpoints import LoadReport, load_checkpoint
from models.classes import extend_classes, num_classes, replace_predictor
from models.config import Config, load_config
from models.errors import CheckpointError, ConfigError, ModelError, PathNotAllowedError
from models.heads import (
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
    Res5ROIHeads,
    ROIHeads,
    RROIHeads,
    SemSegFPNHead,
    StandardROIHeads,
    build_box_head,
    build_keypoint_head,
    build_mask_head,
    build_roi_heads,
    build_sem_seg_head,
)
from models.layers import ShapeSpec, batched_nms_rotated, nms_rotated
from models.matcher import Matcher
from models.poolers import ROIPooler
from models.postprocessing import detector_postprocess, sem_seg_postprocess
from models.predictor import Predictor
from models.proposals import (
    ANCHOR_GENERATOR_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    RPN,
    RPN_HEAD_REGISTRY,
    RRPN,
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    StandardRPNHead,
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
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
    pairwise_iou_rotated,
)
from models.test_time_augmentation import GeneralizedRCNNWithTTA
from models.tta_views import DatasetMapperTTA

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "FCOS",
    "FPN",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "SEM_SEG_HEADS_REGISTRY",
    "Backbone",
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "BitMasks",
    "Box2BoxTransform",
    "Box2BoxTransformLinear",
    "Box2BoxTransformRotated",
    "Boxes",
    "CascadeROIHeads",
    "CheckpointError",
    "Config",
    "ConfigError",
    "DatasetMapperTTA",
    "DefaultAnchorGenerator",
    "FastRCNNConvFCHead",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "GeneralizedRCNNWithTTA",
    "ImageList",
    "Instances",
    "KRCNNConvDeconvUpsampleHead",
    "Keypoints",
    "LoadReport",
    "MMDetBackbone",
    "MMDetDetector",
    "MaskRCNNConvUpsampleHead",
    "Matcher",
    "ModelError",
    "PanopticFPN",
    "PathNotAllowedError",
    "PolygonMasks",
    "Predictor",
    "ProposalNetwork",
    "ROIHeads",
    "ROIPooler",
    "RROIHeads",
    "Res5ROIHeads",
    "ResNet",
    "RetinaNet",
    "RotatedAnchorGenerator",
    "RotatedBoxes",
    "SemSegFPNHead",
    "SemanticSegmentor",
    "ShapeSpec",
    "StandardROIHeads",
    "StandardRPNHead",
    "batched_nms_rotated",
    "build_anchor_generator",
    "build_backbone",
    "build_box_head",
    "build_keypoint_head",
    "build_mask_head",
    "build_model",
    "build_proposal_generator",
    "build_resnet_backbone",
    "build_roi_heads",
    "build_rpn_head",
    "build_sem_seg_head",
    "detector_postprocess",
    "extend_classes",
    "load_checkpoint",
    "load_config",
    "nms_rotated",
    "num_classes",
    "pairwise_iou_rotated",
    "replace_predictor",
    "sem_seg_postprocess",
    "subsample_labels",
]
