"""Masks of a large picture as run lengths, and their union: no frame of the picture is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pycocotools.mask as mask_api

from models.layers.mask_runs import encode_pasted_masks
from models.structures import Instances
from models.structures.rle import RLE


def as_run_lengths(instances: Instances) -> list[RLE]:
    """The masks of instances of a picture, soft ones or run lengths already, in a list of its own."""
    masks: Any = instances.pred_masks
    if isinstance(masks, list):
        return list(masks)
    return encode_pasted_masks(masks[:, 0], instances.pred_boxes.tensor, instances.image_size)


def union(masks: Sequence[RLE]) -> RLE:
    """All pixels of masks of one picture."""
    merged = mask_api.merge([{**mask, "counts": mask["counts"].encode("ascii")} for mask in masks])
    return {"size": list(merged["size"]), "counts": merged["counts"].decode("ascii")}
