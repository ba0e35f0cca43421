"""What a model is, read off the names and shapes of its tensors; no config is needed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import torch

from models.checkpoints.reading import Checkpoint
from models.checkpoints.torchvision_files import TorchvisionArchitecture, detect_torchvision

Shape = tuple[int, ...]

# Blocks per stage of a ResNet and whether they are bottlenecks -> its depth.
_DEPTHS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What the tensors tell; None and 0 where they do not.

    Attributes:
        architecture: for people, such as ``Mask R-CNN FPN``; ``unknown`` if nothing fits.
        backbone: for people, such as ``ResNet-50``.
        depth, groups, width_per_group: of a ResNet or ResNeXt.
        norm: of the backbone: ``BN`` (or SyncBN), ``FrozenBN``, ``GN``, ``none``, or ``FrozenBN or
            GN`` where a file without running statistics can be either.
        input_channels: of an image.
        fpn_channels: of each level of the feature pyramid.
        num_classes: K classes of instances, without the background.
        num_stuff_classes: classes of the semantic head.
        num_keypoints: of each instance.
        masks, cascade, rotated, deformable: what it has.
        class_agnostic_boxes: one box serves all classes.
        is_backbone: it is a backbone for training to start from, not a detector.
        torchvision: the function in ``torchvision.models.detection`` that builds it.
    """

    architecture: str
    backbone: str | None = None
    depth: int | None = None
    groups: int | None = None
    width_per_group: int | None = None
    norm: str | None = None
    input_channels: int | None = None
    fpn_channels: int | None = None
    num_classes: int | None = None
    num_stuff_classes: int | None = None
    num_keypoints: int = 0
    masks: bool = False
    cascade: bool = False
    rotated: bool = False
    deformable: bool = False
    class_agnostic_boxes: bool = False
    is_backbone: bool = False
    torchvision: str | None = None


def recognise(checkpoint: Checkpoint) -> ModelFacts:
    """What model a file is of."""
    architecture = detect_torchvision(checkpoint.state_dict)
    if architecture is not None:
        return _torchvision(architecture, checkpoint.state_dict)
    return _Tensors(checkpoint).facts()


def _torchvision(
    architecture: TorchvisionArchitecture, state_dict: dict[str, torch.Tensor]
) -> ModelFacts:
    mobile = "mobilenet" in architecture.name
    return ModelFacts(
        architecture=f"torchvision {architecture.name}",
        backbone="MobileNet V3 large" if mobile else "ResNet-50",
        depth=None if mobile else 50,
        norm="FrozenBN" if architecture.frozen_norm else "BN",
        input_channels=3,
        fpn_channels=state_dict["backbone.fpn.inner_blocks.0.0.weight"].shape[0],
        num_classes=architecture.num_classes,
        num_keypoints=architecture.num_keypoints,
        masks=architecture.family == "maskrcnn",
        torchvision=architecture.name,
    )


class _Tensors:
    """Shapes by name; short names (Caffe2, backbones) and full ones are found alike."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.shapes: dict[str, Shape] = {
            k: tuple(v.shape) for k, v in checkpoint.state_dict.items()
        }
        self.names = list(self.shapes)
        self.folded = checkpoint.kind in ("model zoo .pkl", "Caffe2 .pkl")

    def shape(self, pattern: str) -> Shape | None:
        """Of the first tensor whose name, from its start or a dot on, is ``pattern``."""
        regex = re.compile(rf"(.*\.)?({pattern})")
        return next((shape for name, shape in self.shapes.items() if regex.fullmatch(name)), None)

    def rows(self, pattern: str) -> int | None:
        """The first dimension of :meth:`shape`."""
        shape = self.shape(pattern)
        return shape[0] if shape else None

    def has(self, pattern: str) -> bool:
        """Whether there is such a tensor."""
        return self.shape(pattern) is not None

    def facts(self) -> ModelFacts:
        classes, boxes = self.rows(r"cls_score\.weight"), self.rows(r"bbox_pred\.weight")
        semantic = self.rows(r"sem_seg_head\.predictor\.weight")
        dense = self.has(r"cls_subnet\.0\.weight")
        rpn = self.has(r"rpn_head\.objectness_logits\.weight")
        num_classes, rotated, agnostic = None, False, False
        if dense and classes and boxes:
            # FCOS has one anchor a cell and a centre-ness beside it.
            anchors = max(boxes // 4, 1)
            num_classes = classes // anchors
        elif classes and boxes:
            num_classes = classes - 1
            agnostic = boxes in (4, 5) and num_classes != 1
            rotated = boxes == 5 * num_classes or (agnostic and boxes == 5)
        if rpn:
            anchors = self.rows(r"rpn_head\.objectness_logits\.weight") or 1
            rotated = rotated or self.rows(r"rpn_head\.anchor_deltas\.weight") == 5 * anchors
        keypoints = self.shape(r"keypoint_head\.score_lowres\.weight")
        masks = self.has(r"mask_head\.predictor\.weight")
        cascade = self.has(r"box_predictor\.[1-9]\.cls_score\.weight")
        detector = bool(dense or rpn or semantic or num_classes is not None)
        backbone = self._backbone()
        if dense:
            architecture = "FCOS" if self.has(r"ctrness\.weight") else "RetinaNet"
        elif detector:
            architecture = self._named(num_classes, semantic, masks, keypoints, cascade, rotated)
        elif backbone.get("backbone"):
            architecture = "ImageNet backbone"
        else:
            architecture = "unknown"
        return ModelFacts(
            architecture=architecture,
            num_classes=num_classes,
            num_stuff_classes=semantic,
            num_keypoints=keypoints[1] if keypoints and len(keypoints) > 1 else 0,
            masks=masks,
            cascade=cascade,
            rotated=rotated,
            deformable=self.has(r"conv2_offset\.weight"),
            class_agnostic_boxes=agnostic,
            fpn_channels=self.rows(r"fpn_lateral\d\.weight"),
            is_backbone=not detector and bool(backbone.get("backbone")),
            **backbone,
        )

    def _named(
        self,
        num_classes: int | None,
        semantic: int | None,
        masks: bool,
        keypoints: Shape | None,
        cascade: bool,
        rotated: bool,
    ) -> str:
        """Such as ``Cascade Mask R-CNN FPN``."""
        if num_classes is None:
            name = "Semantic segmentor" if semantic else "Region proposal network"
        elif semantic:
            name = "Panoptic FPN, cascade" if cascade else "Panoptic FPN"
        else:
            rpn = self.has(r"rpn_head\.objectness_logits\.weight")
            name = "Faster R-CNN" if rpn else "Fast R-CNN (proposals given)"
            if keypoints:
                name = "Keypoint R-CNN"
            elif masks:
                name = "Mask R-CNN"
            name = f"Cascade {name}" if cascade else name
        name = f"Rotated {name}" if rotated else name
        if semantic:
            return name
        if self.has(r"fpn_lateral\d\.weight"):
            return f"{name} FPN"
        if any(n.startswith("roi_heads.res5.") for n in self.names) or not self.has(r"res5\..*"):
            return f"{name} C4"
        # Caffe2's names do not say where res5 is, but C4 has no box head of its own.
        has_box_head = self.has(r"box_head\..*") or num_classes is None
        return f"{name} DC5" if has_box_head else f"{name} C4"

    def _backbone(self) -> dict[str, Any]:
        stem = self.shape(r"stem\.(conv1|conv1_1|conv)\.weight")
        input_channels = stem[1] if stem and len(stem) == 4 else None
        if self.has(r"s1\.b1\.f\.a\.weight"):
            counted = any(name.endswith(".num_batches_tracked") for name in self.names)
            norm = "BN" if counted else "FrozenBN"
            return {"backbone": "RegNet", "norm": norm, "input_channels": input_channels}
        if self.has(r"layer1\.0\.conv1\.weight"):
            return {"backbone": "torchvision ResNet"}
        conv = self.shape(r"res2\.0\.conv2\.weight")
        if conv is None or len(conv) != 4:
            return {}
        bottleneck = self.has(r"res2\.0\.conv3\.weight")
        # A proposal network on res4 has no res5.
        blocks = tuple(n for n in (self._blocks(f"res{stage}") for stage in (2, 3, 4, 5)) if n)
        depth = next(
            (
                depth
                for (known, of_bottlenecks), depth in _DEPTHS.items()
                if of_bottlenecks == bottleneck and known[: len(blocks)] == blocks
            ),
            None,
        )
        groups = conv[0] // max(conv[1], 1) if bottleneck else 1
        width = conv[0] // groups
        name = f"ResNet-{depth}" if depth else f"residual network of {sum(blocks)} blocks"
        if groups > 1:
            name = f"ResNeXt-{depth or '?'} {groups}x{width}d"
        return {
            "backbone": name,
            "depth": depth,
            "groups": groups,
            "width_per_group": width,
            "norm": self._norm(),
            "input_channels": input_channels,
        }

    def _blocks(self, stage: str) -> int:
        regex = re.compile(rf"(?:.*\.)?{stage}\.(\d+)\.")
        return len({match[1] for name in self.names if (match := regex.match(name))})

    def _norm(self) -> str:
        if self.has(r"res2\.0\.conv1\.norm\.running_mean"):
            return "BN" if self.has(r"res2\.0\.conv1\.norm\.num_batches_tracked") else "FrozenBN"
        if not self.has(r"res2\.0\.conv1\.norm\.weight"):
            return "none"
        return "FrozenBN or GN" if self.folded else "GN"
