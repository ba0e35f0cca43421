"""The forms in which an answer gives boxes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.structures import Boxes, RotatedBoxes

BoxForm = Literal["xyxy", "xywh", "normalized"]


def encode_boxes(
    boxes: Boxes | RotatedBoxes, size: tuple[int, int], form: BoxForm
) -> tuple[str, NDArray[np.float32]]:
    """Boxes and what their numbers are, by the names of Detectron2's ``BoxMode``.

    Args:
        boxes: R of one picture, in its pixels.
        size: (height, width) of the picture.
        form: as the request wants them; rotated boxes have only one.

    Returns:
        ``XYXY_ABS`` (corners, pixels), ``XYWH_ABS`` (left, top, width, height), ``XYXY_REL`` (corners,
        shares of the picture from 0 to 1) or ``XYWHA_ABS`` (centre, sides, angle in degrees), and the
        boxes, (R, 4) or (R, 5) float32.
    """
    array: NDArray[np.float32] = boxes.tensor.contiguous().numpy()
    if isinstance(boxes, RotatedBoxes):
        return "XYWHA_ABS", array
    if form == "xywh":
        return "XYWH_ABS", np.concatenate((array[:, :2], array[:, 2:] - array[:, :2]), axis=1)
    if form == "normalized":
        height, width = size
        sides = np.array([width, height, width, height], dtype=np.float32)
        return "XYXY_REL", np.divide(array, sides, dtype=np.float32)
    return "XYXY_ABS", array
