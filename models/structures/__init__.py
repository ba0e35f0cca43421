"""Containers that detectors pass around: boxes, masks, instances, batched images."""

from models.structures.boxes import Boxes, pairwise_iou
from models.structures.image_list import ImageList
from models.structures.instances import Instances
from models.structures.keypoints import Keypoints
from models.structures.masks import BitMasks, PolygonMasks
from models.structures.rle import encode_rle_crop
from models.structures.rotated_boxes import RotatedBoxes, pairwise_iou_rotated

__all__ = [
    "BitMasks",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PolygonMasks",
    "RotatedBoxes",
    "encode_rle_crop",
    "pairwise_iou",
    "pairwise_iou_rotated",
]
