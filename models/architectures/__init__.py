"""Whole models: images in, instances, proposals or segmentations out."""

from models.architectures.build import META_ARCH_REGISTRY, build_model
from models.architectures.fcos import FCOS, FCOSHead
from models.architectures.mmdet_detector import MMDetDetector
from models.architectures.panoptic_fpn import PanopticFPN
from models.architectures.proposal_network import ProposalNetwork
from models.architectures.rcnn import GeneralizedRCNN
from models.architectures.retinanet import RetinaNet
from models.architectures.retinanet_head import RetinaNetHead
from models.architectures.semantic_segmentor import SemanticSegmentor
from models.architectures.torchvision_adapter import TorchvisionDetector

__all__ = [
    "FCOS",
    "META_ARCH_REGISTRY",
    "FCOSHead",
    "GeneralizedRCNN",
    "MMDetDetector",
    "PanopticFPN",
    "ProposalNetwork",
    "RetinaNet",
    "RetinaNetHead",
    "SemanticSegmentor",
    "TorchvisionDetector",
    "build_model",
]
