"""The names of Detectron2's modeling API, and where they live."""

import importlib
import subprocess
import sys

import pytest

import models
from models.registry import Registry

MODELING_API = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "Backbone",
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "DatasetMapperTTA",
    "FCOS",
    "FPN",
    "FastRCNNOutputLayers",
    "GeneralizedRCNN",
    "GeneralizedRCNNWithTTA",
    "META_ARCH_REGISTRY",
    "MMDetBackbone",
    "MMDetDetector",
    "PROPOSAL_GENERATOR_REGISTRY",
    "PanopticFPN",
    "ProposalNetwork",
    "ROIHeads",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "RPN_HEAD_REGISTRY",
    "ResNet",
    "RetinaNet",
    "SemanticSegmentor",
    "StandardROIHeads",
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
]
STRUCTURES = ["BitMasks", "Boxes", "ImageList", "Instances", "RotatedBoxes"]
OURS = ["Config", "LoadReport", "Predictor", "load_checkpoint", "load_config"]
MODULES = [("poolers", "ROIPooler"), ("sampling", "subsample_labels"), ("matcher", "Matcher")]
MODULES += [
    ("box_regression", name)
    for name in ("Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated")
]
REGISTERED = [
    ("META_ARCH_REGISTRY", "GeneralizedRCNN"),
    ("META_ARCH_REGISTRY", "PanopticFPN"),
    ("META_ARCH_REGISTRY", "ProposalNetwork"),
    ("META_ARCH_REGISTRY", "RetinaNet"),
    ("META_ARCH_REGISTRY", "SemanticSegmentor"),
    ("BACKBONE_REGISTRY", "build_resnet_backbone"),
    ("BACKBONE_REGISTRY", "build_resnet_fpn_backbone"),
    ("BACKBONE_REGISTRY", "build_retinanet_resnet_fpn_backbone"),
    ("PROPOSAL_GENERATOR_REGISTRY", "RPN"),
    ("PROPOSAL_GENERATOR_REGISTRY", "RRPN"),
    ("RPN_HEAD_REGISTRY", "StandardRPNHead"),
    ("ANCHOR_GENERATOR_REGISTRY", "DefaultAnchorGenerator"),
    ("ANCHOR_GENERATOR_REGISTRY", "RotatedAnchorGenerator"),
    ("ROI_HEADS_REGISTRY", "CascadeROIHeads"),
    ("ROI_HEADS_REGISTRY", "RROIHeads"),
    ("ROI_HEADS_REGISTRY", "Res5ROIHeads"),
    ("ROI_HEADS_REGISTRY", "StandardROIHeads"),
    ("ROI_BOX_HEAD_REGISTRY", "FastRCNNConvFCHead"),
    ("ROI_KEYPOINT_HEAD_REGISTRY", "KRCNNConvDeconvUpsampleHead"),
    ("ROI_MASK_HEAD_REGISTRY", "MaskRCNNConvUpsampleHead"),
    ("SEM_SEG_HEADS_REGISTRY", "SemSegFPNHead"),
]


@pytest.mark.parametrize("name", MODELING_API + STRUCTURES + OURS)
def test_a_name_imports_from_models_and_is_public(name: str) -> None:
    assert hasattr(models, name)
    assert name in models.__all__


@pytest.mark.parametrize(("module", "name"), MODULES)
def test_a_module_exists_as_in_the_api(module: str, name: str) -> None:
    assert getattr(importlib.import_module(f"models.{module}"), name) is getattr(models, name)


@pytest.mark.parametrize(("registry", "name"), REGISTERED)
def test_a_component_is_registered_under_its_name(registry: str, name: str) -> None:
    found = getattr(models, registry)
    assert isinstance(found, Registry)
    assert found.get(name).__name__ == name


def test_everything_public_exists() -> None:
    assert all(hasattr(models, name) for name in models.__all__)


def test_the_library_imports_nothing_of_the_service() -> None:
    code = (
        "import sys, models; "
        "print([m for m in sys.modules if m.split('.')[0] in {'service', 'fastapi', 'uvicorn'}])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
