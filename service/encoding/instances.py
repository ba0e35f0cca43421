"""Predictions to JSON: the request's filters, then what the model has found."""

from __future__ import annotations

from collections.abc import Iterator
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
from service.encoding.boxes import BoxForm, encode_boxes
from service.encoding.class_references import class_ids
from service.encoding.mask_runs import MaskRuns
from service.encoding.masks import MaskForm, encode_masks
from service.encoding.segmentation import encode_panoptic_seg, encode_sem_seg
from service.encoding.thresholds import resolve_thresholds
from service.errors import Unprocessable
from service.inference.detector import ModelDescription, Prediction, Views
from service.inference.windows.grid import Tiling
from service.schemas.options import Extra, PredictOptions
from service.schemas.window_options import check_tileable, region_corners, tiling_of


@dataclass(frozen=True)
class Selection:
    """A request's options, resolved for one model.

    ``masks`` is whether there are any, ``mask_form`` in which form; ``include`` is None for all outputs.
    ``region`` is XYXY in pixels of the picture, None all of it; ``tiles`` is None without tiles.
    """

    wanted: Wanted
    masks: bool
    segmentation: str
    tta: Views | None
    region: tuple[float, float, float, float] | None = None
    tiles: Tiling | None = None
    mask_form: MaskForm = "rle"
    box_form: BoxForm = "xyxy"
    include: frozenset[str] | None = None

    def includes(self, *extras: Extra) -> bool:
        """Whether one of these outputs is wanted."""
        return self.include is None or not self.include.isdisjoint(extras)

    @classmethod
    def resolve(cls, options: PredictOptions, model: ModelDescription) -> Selection:
        """What ``options`` mean for ``model``.

        Raises:
            Unprocessable: a threshold is below the model's own, the cap too high, a class unknown, or
                something is asked for that the model has not, or not given that it needs.
        """
        include = None if options.include is None else frozenset(options.include)
        if model.takes_proposals and options.proposals is None:
            raise Unprocessable(
                "proposals_required",
                "This model has no proposal generator: send proposals, a list of boxes for each image.",
            )
        if options.proposals is not None and not model.takes_proposals:
            raise Unprocessable(
                "proposals_not_taken", "This model makes its own proposals; leave proposals out."
            )
        tiles = tiling_of(options.tiles)
        if tiles is not None:
            maps = options.segmentation != "none"
            check_tileable(
                model.outputs, panoptic=maps and (include is None or "panoptic" in include)
            )
        return cls(
            wanted=Wanted(
                **resolve_thresholds(options, model),
                class_ids=None if options.classes is None else class_ids(options.classes, model),
                masks=options.masks != "none",
                keypoints=include is None or "keypoints" in include,
                segmentation=options.segmentation != "none"
                and (include is None or not include.isdisjoint(("sem_seg", "panoptic"))),
            ),
            masks=options.masks != "none" and "masks" in model.outputs,
            segmentation=options.segmentation,
            mask_form=options.masks,
            box_form=options.boxes,
            include=include,
            tta=options.views(model.tta, min_size=model.min_size, max_size=model.max_size),
            region=region_corners(options.region),
            tiles=tiles,
        )


def select(instances: Instances, selection: Selection) -> Instances:
    """The instances that a request wants, of a model that may have given others too."""
    index = selection.wanted.index(instances)
    # As a rule the model has given no others, and a copy of them all would buy nothing.
    return instances if len(index) == len(instances) else instances[index]


def mask_crops(instances: Instances) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Per instance (left, top, bits): its mask as a crop of the picture, made one at a time."""
    masks = instances.pred_masks
    if isinstance(masks, list):  # run lengths already, of a picture in tiles
        yield from MaskRuns.of(masks, instances.image_size).crops()
        return
    if masks.dtype == torch.bool:  # whole frames already, of an architecture that is not ours
        for frame in masks:
            yield 0, 0, frame.numpy()
        return
    for mask, box in zip(masks[:, 0], instances.pred_boxes.tensor, strict=True):
        left, top, bits = paste_mask_crop(mask, box, instances.image_size)
        yield left, top, bits.numpy()


def _mask_runs(instances: Instances) -> list[RLE]:
    """RLE of each instance's mask; soft masks go there without becoming pixels."""
    masks = instances.pred_masks
    if isinstance(masks, list):  # run lengths already, of a picture in tiles
        return list(masks)
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
    size = instances.image_size
    box_mode, boxes = encode_boxes(instances.pred_boxes, size, selection.box_form)
    encoded: dict[str, Any] = {
        "box_mode": box_mode,
        "pred_boxes": boxes,
        "pred_classes": np.ascontiguousarray(classes),
        "class_names": [model.class_names[i] for i in classes.tolist()],
        "scores": instances.scores.contiguous().numpy(),
    }
    if isinstance(instances.pred_boxes, RotatedBoxes):
        encoded["polygons"] = instances.pred_boxes.polygons().contiguous().numpy()
    if selection.masks:
        encoded["masks"] = encode_masks(_mask_runs(instances), size, selection.mask_form)
    if instances.has("pred_keypoints") and selection.includes("keypoints"):
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
    if prediction.proposals is not None and selection.includes("proposals"):
        proposals = prediction.proposals
        if selection.wanted.max_detections >= 0:
            proposals = proposals[: selection.wanted.max_detections]
        box_mode, boxes = encode_boxes(
            proposals.proposal_boxes, proposals.image_size, selection.box_form
        )
        encoded["proposals"] = {
            "box_mode": box_mode,
            "proposal_boxes": boxes,
            "objectness_logits": proposals.objectness_logits.contiguous().numpy(),
        }
    form = selection.segmentation
    if prediction.sem_seg is not None and form != "none" and selection.includes("sem_seg"):
        encoded["sem_seg"] = encode_sem_seg(
            prediction.sem_seg.numpy(), model.stuff_class_names, form
        )
    if prediction.panoptic_seg is not None and form != "none" and selection.includes("panoptic"):
        segments, infos = prediction.panoptic_seg
        encoded["panoptic_seg"] = encode_panoptic_seg(
            segments.numpy(),
            infos,
            things=model.class_names,
            stuff=model.stuff_class_names,
            form=form,
        )
    return encoded
