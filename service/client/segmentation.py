"""Semantic and panoptic maps of an answer, out of a PNG of ids or out of masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.client.rle import decode_rle


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """A value for every pixel.

    Attributes:
        ids: (H, W) int32: class ids of a semantic map; of a panoptic one ids of segments, 0 is none.
        segments: what occurs, as the answer tells it: ``category_id``, ``category_name``, ``area`` in
            pixels; of a panoptic map also ``id`` and ``isthing``.
    """

    ids: NDArray[np.int32]
    segments: tuple[dict[str, Any], ...]

    @classmethod
    def from_json(
        cls, answer: Mapping[str, Any], image_size: tuple[int, int], *, panoptic: bool
    ) -> SegmentMap:
        """Of ``sem_seg`` or ``panoptic_seg`` in an answer.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        segments = tuple(answer["segments_info" if panoptic else "segments"])
        if answer["format"] == "png":
            with Image.open(io.BytesIO(base64.b64decode(answer["png"])), formats=["PNG"]) as file:
                if file.size != (image_size[1], image_size[0]):
                    raise ValueError("a map has not the size of its picture")
                ids = np.array(file).astype(np.int32)
        else:
            ids = np.zeros(image_size, dtype=np.int32)
            for segment in segments:
                mask = decode_rle(segment["segmentation"])
                if mask.shape != image_size:
                    raise ValueError("a mask has not the size of its picture")
                ids[mask] = segment["id" if panoptic else "category_id"]
        return cls(ids, tuple(_without_mask(segment) for segment in segments))


def _without_mask(segment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in segment.items() if key != "segmentation"}
