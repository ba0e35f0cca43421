"""What a built model answers with: its kind, its classes, its thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from models.architectures import (
    FCOS,
    GeneralizedRCNN,
    PanopticFPN,
    ProposalNetwork,
    SemanticSegmentor,
)
from models.architectures.dense_detector import DenseDetector
from models.architectures.torchvision_adapter import TorchvisionDetector
from models.config import Config

XYXY, XYWHA = "XYXY_ABS", "XYWHA_ABS"


@dataclass(frozen=True)
class ModelFacts:
    """What a model is, read off its modules, so that it holds however it was configured.

    Attributes:
        task: for people and programs, such as ``instance_segmentation``.
        outputs: out of ``instances``, ``masks``, ``keypoints``, ``sem_seg``, ``panoptic_seg`` and
            ``proposals``.
        box_mode: ``XYXY_ABS``, or ``XYWHA_ABS`` of rotated boxes.
        num_classes: foreground classes of instances, K; 0 without instances.
        num_stuff_classes: classes of a semantic head; 0 without one.
        num_keypoints: of an instance; 0 without keypoints.
        score_threshold: instances score more.
        score_threshold_key: the config key that sets it.
        nms_threshold: IoU above which a box of the same class is suppressed.
        max_detections: instances (or proposals) per image at most; negative is no bound.
        max_detections_key: the config key that sets it.
        takes_proposals: whether proposals must come with each image.
        supports_tta: whether there is test-time augmentation for it.
        takes_overrides: whether an image may have another NMS threshold and cap, see
            :class:`models.wanted.Wanted`.
    """

    task: str
    outputs: tuple[str, ...]
    box_mode: str = XYXY
    num_classes: int = 0
    num_stuff_classes: int = 0
    num_keypoints: int = 0
    score_threshold: float = 0.0
    score_threshold_key: str = ""
    nms_threshold: float = 0.0
    max_detections: int = -1
    max_detections_key: str = "TEST.DETECTIONS_PER_IMAGE"
    takes_proposals: bool = False
    supports_tta: bool = False
    takes_overrides: bool = False


def facts_of(model: nn.Module, cfg: Config) -> ModelFacts:
    """The facts of ``model``, which was built from ``cfg``."""
    if isinstance(model, ProposalNetwork):
        return _of_proposal_network(model)
    if isinstance(model, SemanticSegmentor):
        head: Any = model.sem_seg_head
        return ModelFacts("semantic_segmentation", ("sem_seg",), num_stuff_classes=head.num_classes)
    if isinstance(model, DenseDetector):
        return ModelFacts(
            "object_detection",
            ("instances",),
            num_classes=model.num_classes,
            score_threshold=model.test_score_thresh,
            score_threshold_key=(
                "model.test_score_thresh"
                if isinstance(model, FCOS)
                else "MODEL.RETINANET.SCORE_THRESH_TEST"
            ),
            nms_threshold=model.test_nms_thresh,
            max_detections=model.max_detections_per_image,
            supports_tta=True,
            takes_overrides=model.takes_overrides,
        )
    if isinstance(model, GeneralizedRCNN):
        return _of_rcnn(model, cfg)
    if isinstance(model, TorchvisionDetector):
        return _of_torchvision(model, cfg)
    return ModelFacts(
        "object_detection",
        ("instances", "masks") if cfg.MODEL.MASK_ON else ("instances",),
        num_classes=getattr(model, "num_classes", cfg.MODEL.ROI_HEADS.NUM_CLASSES),
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _of_proposal_network(model: ProposalNetwork) -> ModelFacts:
    generator: Any = model.proposal_generator
    rotated = len(generator.box2box_transform.weights) == 5
    return ModelFacts(
        "region_proposal",
        ("proposals",),
        box_mode=XYWHA if rotated else XYXY,
        nms_threshold=generator.nms_thresh,
        max_detections=generator.post_nms_topk[False],
        max_detections_key="MODEL.RPN.POST_NMS_TOPK_TEST",
    )


def _of_rcnn(model: GeneralizedRCNN, cfg: Config) -> ModelFacts:
    heads: Any = model.roi_heads
    predictor: Any = getattr(heads, "box_predictor", None)
    if isinstance(predictor, nn.ModuleList):
        predictor = predictor[-1]
    coder: Any = getattr(predictor, "box2box_transform", None)
    rotated = coder is not None and len(coder.weights) == 5
    masks, keypoints = getattr(heads, "mask_on", False), getattr(heads, "keypoint_on", False)
    panoptic = isinstance(model, PanopticFPN)
    outputs = ["instances"]
    outputs += ["masks"] * bool(masks) + ["keypoints"] * bool(keypoints)
    outputs += ["sem_seg", "panoptic_seg"] * panoptic
    task = "rotated_object_detection" if rotated else "object_detection"
    task = "instance_segmentation" if masks else task
    task = "keypoint_detection" if keypoints else task
    semantic: Any = model.sem_seg_head if isinstance(model, PanopticFPN) else None
    return ModelFacts(
        "panoptic_segmentation" if panoptic else task,
        tuple(outputs),
        box_mode=XYWHA if rotated else XYXY,
        # Heads of somebody's own may not say; the config does.
        num_classes=getattr(heads, "num_classes", cfg.MODEL.ROI_HEADS.NUM_CLASSES),
        num_stuff_classes=semantic.num_classes if semantic is not None else 0,
        num_keypoints=heads.keypoint_head.num_keypoints if keypoints else 0,
        score_threshold=getattr(
            predictor, "test_score_thresh", cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        ),
        score_threshold_key="MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        nms_threshold=getattr(predictor, "test_nms_thresh", cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST),
        max_detections=getattr(predictor, "test_topk_per_image", cfg.TEST.DETECTIONS_PER_IMAGE),
        takes_proposals=model.proposal_generator is None,
        supports_tta=(
            coder is not None
            and model.proposal_generator is not None
            and not rotated
            and not panoptic
        ),
        takes_overrides=model.takes_overrides,
    )


def _of_torchvision(model: TorchvisionDetector, cfg: Config) -> ModelFacts:
    architecture = model.architecture
    masks, keypoints = cfg.MODEL.MASK_ON, bool(architecture.num_keypoints)
    outputs = ["instances"] + ["masks"] * masks + ["keypoints"] * keypoints
    task = "instance_segmentation" if masks else "object_detection"
    return ModelFacts(
        "keypoint_detection" if keypoints else task,
        tuple(outputs),
        num_classes=architecture.num_classes,
        num_keypoints=architecture.num_keypoints or 0,
        score_threshold=cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        score_threshold_key="MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        nms_threshold=cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        takes_overrides=model.takes_overrides,
    )
