"""Instances to JSON: the request's filters, then boxes, classes, scores and run-length encoded masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.layers.mask_ops import paste_mask_crop
from models.structures import Instances, encode_rle_crop
from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.schemas.options import PredictOptions


@dataclass(frozen=True)
class Selection:
    """A request's options, resolved for one model."""

    score_threshold: float
    max_detections: int
    class_ids: frozenset[int] | None
    masks: bool

    @classmethod
    def resolve(cls, options: PredictOptions, model: ModelDescription) -> Selection:
        """What ``options`` mean for ``model``.

        Raises:
            Unprocessable: the threshold is below the model's own, the cap above it, or a class unknown.
        """
        threshold, cap = options.score_threshold, options.max_detections
        if threshold is not None and threshold < model.score_threshold:
            raise Unprocessable(
                "score_threshold_too_low",
                f"score_threshold {threshold:g} is below the model's own, {model.score_threshold:g}, and "
                "the model computes nothing there. Lower MODEL.ROI_HEADS.SCORE_THRESH_TEST in its "
                "config and reload.",
                value=threshold,
                minimum=model.score_threshold,
            )
        if cap is not None and 0 <= model.max_detections < cap:
            raise Unprocessable(
                "max_detections_too_high",
                f"max_detections {cap} is above the model's own, {model.max_detections}, and the model "
                "keeps no more. Raise TEST.DETECTIONS_PER_IMAGE in its config and reload.",
                value=cap,
                maximum=model.max_detections,
            )
        return cls(
            score_threshold=model.score_threshold if threshold is None else threshold,
            max_detections=model.max_detections if cap is None else cap,
            class_ids=None if options.classes is None else _class_ids(options.classes, model),
            masks=options.masks == "rle" and model.task == "instance_segmentation",
        )


def _class_ids(wanted: list[str], model: ModelDescription) -> frozenset[int]:
    by_name = {name: i for i, name in enumerate(model.class_names)}
    ids = set()
    for text in wanted:
        # A name may hold a comma itself, so the whole is tried first.
        for part in [text] if text in by_name else text.split(","):
            name = part.strip()
            if name in by_name:
                ids.add(by_name[name])
            elif name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(by_name):
                ids.add(int(name))
            else:
                shown = ", ".join(model.class_names[:20]) + (", ..." if len(by_name) > 20 else "")
                raise Unprocessable(
                    "unknown_class",
                    f"The model has no class {name[:64]!r}; its {len(by_name)} classes are {shown} "
                    f"(ids 0 to {len(by_name) - 1}). GET /models lists them all.",
                    value=name[:64],
                )
    return frozenset(ids)


def select(instances: Instances, selection: Selection) -> Instances:
    """The instances that a request wants: filters act behind the model's own choice, best first."""
    keep = instances.scores >= selection.score_threshold
    if selection.class_ids is not None:
        ids = torch.tensor(sorted(selection.class_ids), dtype=instances.pred_classes.dtype)
        keep &= torch.isin(instances.pred_classes, ids)
    index = keep.nonzero().flatten()
    if selection.max_detections >= 0:
        index = index[: selection.max_detections]
    return instances[index]


def mask_crops(instances: Instances) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Per instance (left, top, bits): its mask as a crop of the picture, made one at a time."""
    boxes = instances.pred_boxes.tensor
    for mask, box in zip(instances.pred_masks[:, 0], boxes, strict=True):
        left, top, bits = paste_mask_crop(mask, box, instances.image_size)
        yield left, top, bits.numpy()


def encode_instances(
    instances: Instances, selection: Selection, model: ModelDescription
) -> dict[str, Any]:
    """The JSON object of one image's selected instances; arrays stay NumPy, for the serialiser."""
    classes = instances.pred_classes.numpy()
    encoded: dict[str, Any] = {
        "pred_boxes": instances.pred_boxes.tensor.contiguous().numpy(),
        "pred_classes": np.ascontiguousarray(classes),
        "class_names": [model.class_names[i] for i in classes.tolist()],
        "scores": instances.scores.contiguous().numpy(),
    }
    if selection.masks:
        height, width = instances.image_size
        encoded["masks"] = [
            encode_rle_crop(bits, left=left, top=top, height=height, width=width)
            for left, top, bits in mask_crops(instances)
        ]
    return encoded
