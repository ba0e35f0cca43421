"""Predictions to JSON: the request's filters, then what the model has found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.layers.mask_ops import paste_mask_crop
from models.layers.mask_runs import encode_pasted_masks
from models.structures import Instances, RotatedBoxes
from models.structures.rle import RLE, encode_rle_crop
from models.wanted import Wanted
from service.encoding.segmentation import encode_panoptic_seg, encode_sem_seg
from service.errors import Unprocessable
from service.inference.detector import ModelDescription, Prediction, Views
from service.schemas.options import PredictOptions


@dataclass(frozen=True)
class Selection:
    """A request's options, resolved for one model."""

    wanted: Wanted
    masks: bool
    segmentation: str
    tta: Views | None

    @classmethod
    def resolve(cls, options: PredictOptions, model: ModelDescription) -> Selection:
        """What ``options`` mean for ``model``.

        Raises:
            Unprocessable: the threshold is below the model's own, the cap above it, a class unknown, or
                something is asked for that the model has not, or not given that it needs.
        """
        threshold, cap = options.score_threshold, options.max_detections
        if model.takes_proposals and options.proposals is None:
            raise Unprocessable(
                "proposals_required",
                "This model has no proposal generator: send proposals, a list of boxes for each image.",
            )
        if options.proposals is not None and not model.takes_proposals:
            raise Unprocessable(
                "proposals_not_taken", "This model makes its own proposals; leave proposals out."
            )
        if threshold is not None and threshold < model.score_threshold:
            raise Unprocessable(
                "score_threshold_too_low",
                f"score_threshold {threshold:g} is below the model's own, {model.score_threshold:g}, "
                f"and the model computes nothing there. Lower {model.score_threshold_key} in its "
                "config and reload.",
                value=threshold,
                minimum=model.score_threshold,
            )
        if cap is not None and 0 <= model.max_detections < cap:
            raise Unprocessable(
                "max_detections_too_high",
                f"max_detections {cap} is above the model's own, {model.max_detections}, and the "
                f"model keeps no more. Raise {model.max_detections_key} in its config and reload.",
                value=cap,
                maximum=model.max_detections,
            )
        return cls(
            wanted=Wanted(
                score_threshold=model.default_score if threshold is None else threshold,
                max_detections=model.default_most if cap is None else cap,
                class_ids=None if options.classes is None else _class_ids(options.classes, model),
                masks=options.masks == "rle",
                segmentation=options.segmentation != "none",
            ),
            masks=options.masks == "rle" and "masks" in model.outputs,
            segmentation=options.segmentation,
            tta=options.views(model.tta, min_size=model.min_size, max_size=model.max_size),
        )


def _class_ids(wanted: Sequence[int | str], model: ModelDescription) -> frozenset[int]:
    by_name = {name: i for i, name in enumerate(model.class_names)}
    ids = set()
    for given in wanted:
        if isinstance(given, int):
            ids.add(_class_id(given, given, model))
            continue
        # A name may hold a comma itself, so the whole is tried first.
        for part in [given] if given in by_name else given.split(","):
            name = part.strip()
            is_number = name.isascii() and name.isdigit() and len(name) < 10
            ids.add(_class_id(by_name.get(name, int(name) if is_number else -1), name, model))
    return frozenset(ids)


def _class_id(class_id: int, given: int | str, model: ModelDescription) -> int:
    names = model.class_names
    if 0 <= class_id < len(names):
        return class_id
    if not names:
        raise Unprocessable(
            "unknown_class", "This model finds no classes of instances; leave classes out."
        )
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    value = given if isinstance(given, int) else given[:64]
    raise Unprocessable(
        "unknown_class",
        f"The model has no class {value!r}; its {len(names)} classes are {shown} "
        f"(ids 0 to {len(names) - 1}). GET /models lists them all.",
        value=value,
    )


def select(instances: Instances, selection: Selection) -> Instances:
    """The instances that a request wants, of a model that may have given others too."""
    index = selection.wanted.index(instances)
    # As a rule the model has given no others, and a copy of them all would buy nothing.
    return instances if len(index) == len(instances) else instances[index]


def mask_crops(instances: Instances) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Per instance (left, top, bits): its mask as a crop of the picture, made one at a time."""
    masks = instances.pred_masks
    if masks.dtype == torch.bool:  # whole frames already, of an architecture that is not ours
        for frame in masks:
            yield 0, 0, frame.numpy()
        return
    for mask, box in zip(masks[:, 0], instances.pred_boxes.tensor, strict=True):
        left, top, bits = paste_mask_crop(mask, box, instances.image_size)
        yield left, top, bits.numpy()


def _encode_masks(instances: Instances) -> list[RLE]:
    """RLE of each instance's mask; soft masks go there without becoming pixels."""
    masks = instances.pred_masks
    if masks.dtype == torch.bool:
        height, width = instances.image_size
        return [
            encode_rle_crop(bits, left=left, top=top, height=height, width=width)
            for left, top, bits in mask_crops(instances)
        ]
    return encode_pasted_masks(masks[:, 0], instances.pred_boxes.tensor, instances.image_size)


def encode_instances(
    instances: Instances, selection: Selection, model: ModelDescription
) -> dict[str, Any]:
    """The JSON object of one image's selected instances; arrays stay NumPy, for the serialiser."""
    classes = instances.pred_classes.numpy()
    encoded: dict[str, Any] = {
        "box_mode": model.box_mode,
        "pred_boxes": instances.pred_boxes.tensor.contiguous().numpy(),
        "pred_classes": np.ascontiguousarray(classes),
        "class_names": [model.class_names[i] for i in classes.tolist()],
        "scores": instances.scores.contiguous().numpy(),
    }
    if isinstance(instances.pred_boxes, RotatedBoxes):
        encoded["polygons"] = instances.pred_boxes.polygons().contiguous().numpy()
    if selection.masks:
        encoded["masks"] = _encode_masks(instances)
    if instances.has("pred_keypoints"):
        encoded["pred_keypoints"] = instances.pred_keypoints.contiguous().numpy()
    return encoded


def encode_prediction(
    prediction: Prediction, selection: Selection, model: ModelDescription
) -> dict[str, Any]:
    """The JSON object of one image, by output: what the model has and the request wants."""
    encoded: dict[str, Any] = {}
    if prediction.instances is not None:
        selected = select(prediction.instances, selection)
        encoded["instances"] = encode_instances(selected, selection, model)
    if prediction.proposals is not None:
        proposals = prediction.proposals
        if selection.wanted.max_detections >= 0:
            proposals = proposals[: selection.wanted.max_detections]
        encoded["proposals"] = {
            "box_mode": model.box_mode,
            "proposal_boxes": proposals.proposal_boxes.tensor.contiguous().numpy(),
            "objectness_logits": proposals.objectness_logits.contiguous().numpy(),
        }
    form = selection.segmentation
    if prediction.sem_seg is not None and form != "none":
        encoded["sem_seg"] = encode_sem_seg(
            prediction.sem_seg.numpy(), model.stuff_class_names, form
        )
    if prediction.panoptic_seg is not None and form != "none":
        segments, infos = prediction.panoptic_seg
        encoded["panoptic_seg"] = encode_panoptic_seg(
            segments.numpy(),
            infos,
            things=model.class_names,
            stuff=model.stuff_class_names,
            form=form,
        )
    return encoded
