"""Building blocks that detectors are made of."""

from models.layers.batch_norm import FrozenBatchNorm2d, get_norm
from models.layers.blocks import CNNBlockBase
from models.layers.conv import Conv2d
from models.layers.mask_ops import paste_mask_crop, paste_masks_in_image
from models.layers.roi_align import ROIAlign
from models.layers.roi_align_rotated import ROIAlignRotated
from models.layers.rotated_iou import pairwise_iou_rotated
from models.layers.rotated_nms import batched_nms_rotated, nms_rotated
from models.layers.shape_spec import ShapeSpec

__all__ = [
    "CNNBlockBase",
    "Conv2d",
    "FrozenBatchNorm2d",
    "ROIAlign",
    "ROIAlignRotated",
    "ShapeSpec",
    "batched_nms_rotated",
    "get_norm",
    "nms_rotated",
    "pairwise_iou_rotated",
    "paste_mask_crop",
    "paste_masks_in_image",
]
