"""Whole models: images in, instances out."""

from models.architectures.build import META_ARCH_REGISTRY, build_model
from models.architectures.rcnn import GeneralizedRCNN

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "build_model"]
