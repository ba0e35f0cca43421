"""Another NMS threshold and cap for single images, in torchvision's detectors.

torchvision chooses the boxes of a batch in one call, by settings of the module. Where an image overrides
them, the images go through that call one by one, each under its own settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from models.wanted import Wanted

Chosen = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""Boxes, scores and labels, each per image."""


def override_in_roi_heads_(heads: Any, wanted: Callable[[], Sequence[Wanted]]) -> None:
    """Have ``RoIHeads`` heed the overrides of a batch.

    Args:
        heads: of an R-CNN; its ``postprocess_detections`` is replaced.
        wanted: of the images that are run; empty is without.
    """
    choose = heads.postprocess_detections

    def postprocess_detections(
        logits: Tensor, deltas: Tensor, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Chosen:
        of_images = wanted()
        if not any(one.overrides for one in of_images):
            chosen: Chosen = choose(logits, deltas, proposals, sizes)
            return chosen
        lengths = [len(regions) for regions in proposals]
        boxes: list[Tensor] = []
        scores: list[Tensor] = []
        labels: list[Tensor] = []
        parts = zip(
            of_images,
            torch.split(logits, lengths),
            torch.split(deltas, lengths),
            proposals,
            sizes,
            strict=True,
        )
        for one, own_logits, own_deltas, regions, size in parts:
            with _settings(heads, one):
                found = choose(own_logits, own_deltas, [regions], [size])
            for whole, part in zip((boxes, scores, labels), found, strict=True):
                whole += part
        return boxes, scores, labels

    heads.postprocess_detections = postprocess_detections


def override_in_dense_detector_(detector: Any, wanted: Callable[[], Sequence[Wanted]]) -> None:
    """The same for RetinaNet and FCOS."""
    choose = detector.postprocess_detections

    def postprocess_detections(
        outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        of_images = wanted()
        if not any(one.overrides for one in of_images):
            chosen: list[dict[str, Tensor]] = choose(outputs, anchors, sizes)
            return chosen
        detections = []
        for i, one in enumerate(of_images):
            own = {name: [level[i : i + 1] for level in levels] for name, levels in outputs.items()}
            with _settings(detector, one):
                detections += choose(own, anchors[i : i + 1], sizes[i : i + 1])
        return detections

    detector.postprocess_detections = postprocess_detections


@contextlib.contextmanager
def _settings(owner: Any, wanted: Wanted) -> Iterator[None]:
    """Within it, ``owner`` has one image's settings; a model runs on one thread alone."""
    own = owner.nms_thresh, owner.detections_per_img
    if wanted.nms_threshold is not None:
        owner.nms_thresh = wanted.nms_threshold
    if wanted.detections_per_image is not None:
        owner.detections_per_img = wanted.detections_per_image
    try:
        yield
    finally:
        owner.nms_thresh, owner.detections_per_img = own
