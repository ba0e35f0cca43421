"""Heads: classes, boxes, masks and keypoints of regions, classes of pixels."""

from models.heads.box_head import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead, build_box_head
from models.heads.cascade_rcnn import CascadeROIHeads
from models.heads.detections import fast_rcnn_inference
from models.heads.fast_rcnn import FastRCNNOutputLayers
from models.heads.keypoint_head import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    BaseKeypointRCNNHead,
    KRCNNConvDeconvUpsampleHead,
    build_keypoint_head,
)
from models.heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    BaseMaskRCNNHead,
    MaskRCNNConvUpsampleHead,
    build_mask_head,
)
from models.heads.res5_roi_heads import Res5ROIHeads
from models.heads.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, build_roi_heads
from models.heads.rotated_roi_heads import (
    RotatedFastRCNNOutputLayers,
    RROIHeads,
)
from models.heads.semantic_seg import (
    SEM_SEG_HEADS_REGISTRY,
    SemSegFPNHead,
    build_sem_seg_head,
)
from models.heads.standard_roi_heads import StandardROIHeads

__all__ = [
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "CascadeROIHeads",
    "FastRCNNConvFCHead",
    "FastRCNNOutputLayers",
    "KRCNNConvDeconvUpsampleHead",
    "MaskRCNNConvUpsampleHead",
    "ROIHeads",
    "RROIHeads",
    "Res5ROIHeads",
    "RotatedFastRCNNOutputLayers",
    "SemSegFPNHead",
    "StandardROIHeads",
    "build_box_head",
    "build_keypoint_head",
    "build_mask_head",
    "build_roi_heads",
    "build_sem_seg_head",
    "fast_rcnn_inference",
]
