"""From a mask head's small soft masks straight to run-length encodings, without their pixels.

Down a column of the image a pasted mask is linear between the centres of its rows, so it crosses the
threshold at most once between two of them: some thirty numbers a column say where its runs begin and
end, however large the box. All columns of many masks are computed together.

The answer is that of :func:`models.layers.mask_ops.paste_mask_crop`, bit for bit: columns in which
rounding could decide, within some millionths of the threshold, are sampled as that function does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.layers.mask_ops import paste_mask_crop
from models.structures.rle import RLE, encode_rle_crop, encode_rle_edges

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

THRESHOLD = 0.5
"""A pixel is foreground from this probability on."""

# So many columns are worked on together, or sampled: what belongs to them stays in a core's cache.
_COLUMNS = 8192
_SAMPLED_COLUMNS = 256


def encode_pasted_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> list[RLE]:
    """COCO RLE of R soft masks pasted into their boxes.

    Args:
        masks: (R, M, M) float, foreground probabilities over the boxes.
        boxes: (R, 4) XYXY in image pixels.
        image_size: (height, width) of the image.

    Returns:
        R masks; one whose box lies outside of the image is empty.
    """
    height, width = image_size
    soft, corners = masks.float().cpu(), boxes.float().cpu()
    ordinary = ((soft >= 0) & (soft <= 1)).flatten(1).all(dim=1)
    ordinary &= (corners[:, 2:] > corners[:, :2]).all(dim=1) & corners.isfinite().all(dim=1)
    # The rest, which models do not make, is an empty mask here and pasted below.
    plain = torch.where(ordinary[:, None, None], soft, 0.0).numpy()
    ends = torch.where(ordinary[:, None], corners, torch.tensor([0.0, 0.0, 1.0, 1.0])).numpy()
    edges, owners = [], []
    for part in _portions(ends, width):
        columns = _Columns.of(ends[part], image_size)
        index, row = _edges(plain[part], ends[part], columns, height)
        edges.append(columns.x[index] * height + row)
        owners.append(columns.owner[index] + part.start)
    answer = encode_rle_edges(
        np.concatenate(edges), np.concatenate(owners), len(soft), height, width
    )
    for i in np.flatnonzero(~ordinary.numpy()).tolist():
        left, top, bits = paste_mask_crop(soft[i], corners[i], image_size, THRESHOLD)
        answer[i] = encode_rle_crop(bits.numpy(), left=left, top=top, height=height, width=width)
    return answer


def _portions(boxes: Floats, width: int) -> list[slice]:
    """Boxes (R, 4) in succession, as many at a time as have about ``_COLUMNS`` columns."""
    columns = np.cumsum((boxes[:, 2] - boxes[:, 0]).clip(max=width))
    stops = (np.flatnonzero(np.diff(columns // _COLUMNS)) + 1).tolist()
    return [slice(a, b) for a, b in zip([0, *stops], [*stops, len(boxes)], strict=True)]


@dataclass(frozen=True)
class _Columns:
    """Columns of the image that masks can touch, mask after mask.

    Attributes:
        owner: (C,) index of the mask.
        x: (C,) place in the image, pixels.
    """

    owner: Integers
    x: Integers

    @classmethod
    def of(cls, boxes: Floats, image_size: tuple[int, int]) -> _Columns:
        """Those of boxes (R, 4), one pixel wider on each side, cut to the image."""
        left, right = _reach(boxes[:, 0], boxes[:, 2], image_size[1])
        number = right - left
        owner = np.arange(len(boxes)).repeat(number)
        first = np.cumsum(number) - number
        return cls(owner, np.arange(len(owner)) + (left - first)[owner])


def _edges(
    masks: Floats, boxes: Floats, columns: _Columns, height: int
) -> tuple[Integers, Integers]:
    """Where the columns change between background and foreground, column after column, downwards.

    Returns:
        (E,) index of the column, and (E,) the row before which it changes, 0 to ``height``.
    """
    number, side = masks.shape[:2]
    tolerance = _rounding_error(side)
    owner = columns.owner
    x1, y1, x2, y2 = boxes.T

    # The masks' rows (and one of zeros above and below) along each column of the image, interpolated
    # between the two nearest columns of the mask, beyond which lie zeros too.
    threshold = np.float32(THRESHOLD)
    padded = np.full((number, side + 2, side + 2), -threshold)
    np.subtract(masks.transpose(0, 2, 1), threshold, out=padded[:, 1:-1, 1:-1])
    lines = padded.reshape(-1, side + 2)
    place = (_grid(columns.x, x1[owner], x2[owner]) + 1) * np.float32(side / 2) - np.float32(0.5)
    before = np.floor(place)
    nearest = before.astype(np.int64) + 1
    first = owner * (side + 2)
    knots = lines.take(first + (nearest + 1).clip(0, side + 1), axis=0)
    others = lines.take(first + nearest.clip(0, side + 1), axis=0)
    knots -= others
    knots *= (place - before)[:, None]
    knots += others

    # From one column to the next nothing changes: both ends are background.
    flat = knots.reshape(-1)
    inside = flat >= 0
    changes = np.flatnonzero(inside[1:] != inside[:-1])
    index, row = np.divmod(changes, side + 2)
    value = flat[changes].astype(np.float64)
    slope = flat[changes + 1] - value
    # In rows of the mask, whose centres lie at 0, 1, ...; then in pixels of the image.
    crossing, reach = row - 0.5 - value / slope, tolerance / np.abs(slope)
    of_mask = owner[index]
    top = y1.astype(np.float64)
    scale, offset = ((y2 - top) / side)[of_mask], (top - 0.5)[of_mask]
    low = np.ceil((crossing - reach) * scale + offset).clip(0, height).astype(np.int64)
    high = np.ceil((crossing + reach) * scale + offset).clip(0, height).astype(np.int64)

    doubtful = np.zeros(len(owner), dtype=bool)
    doubtful[np.flatnonzero(np.abs(flat) < tolerance) // (side + 2)] = True
    doubtful[index[low != high]] = True
    if not doubtful.any():
        return index, low
    sure = ~doubtful[index]
    sampled = _sampled_edges(masks, boxes, columns, np.flatnonzero(doubtful), height)
    index = np.concatenate((index[sure], sampled[0]))
    low = np.concatenate((low[sure], sampled[1]))
    order = np.argsort(index * (height + 1) + low, kind="stable")
    return index[order], low[order]


def _sampled_edges(
    masks: Floats, boxes: Floats, columns: _Columns, chosen: Integers, height: int
) -> tuple[Integers, Integers]:
    """As of :func:`_edges`, for some of the columns, from every pixel of theirs."""
    found = []
    for start in range(0, len(chosen), _SAMPLED_COLUMNS):
        part = chosen[start : start + _SAMPLED_COLUMNS]
        owner = columns.owner[part]
        x1, y1, x2, y2 = boxes[owner].T
        top, bottom = _reach(y1, y2, height)
        rows = top[:, None] + np.arange(int((bottom - top).max()))
        grid = np.empty((*rows.shape, 1, 2), dtype=np.float32)
        grid[:, :, 0, 0] = _grid(columns.x[part], x1, x2)[:, None]
        grid[:, :, 0, 1] = _grid(rows, y1[:, None], y2[:, None])
        values = F.grid_sample(
            torch.from_numpy(masks[owner, None]), torch.from_numpy(grid), align_corners=False
        )
        # Background above and below, so that each run has two edges; behind a mask's own rows, which
        # may be fewer than another's, its values are zero or outside of the image.
        inside = np.zeros((len(part), rows.shape[1] + 2), dtype=bool)
        inside[:, 1:-1] = (values[:, 0, :, 0] >= THRESHOLD).numpy() & (rows < height)
        index, row = np.divmod(np.flatnonzero(inside[:, 1:] != inside[:, :-1]), inside.shape[1] - 1)
        found.append((part[index], top[index] + row))
    return np.concatenate([x[0] for x in found]), np.concatenate([x[1] for x in found])


def _reach(start: Floats, end: Floats, limit: int) -> tuple[Integers, Integers]:
    """First and last-but-one pixel that the side of a box can touch, within 0 to ``limit``."""
    first = np.clip(np.floor(start) - 1, 0, limit).astype(np.int64)
    return first, np.maximum(np.clip(np.ceil(end) + 1, 0, limit).astype(np.int64), first)


def _grid(pixel: Integers, start: Floats, end: Floats) -> Floats:
    """Pixel centres in a box's own coordinates, -1 to 1, rounded as in ``paste_mask_crop``."""
    centre = pixel.astype(np.float32) + np.float32(0.5)
    grid: Floats = (centre - start) / (end - start) * np.float32(2) - np.float32(1)
    return grid


def _rounding_error(side: int) -> float:
    """Bound on the error of a pixel's value in float32, for masks (side, side) of 0 to 1.

    With half a unit in the last place of 1 (6e-8) as the measure: a coordinate is off by 6 per row of
    the mask, one more per column may differ between implementations, and weights and sums add 10. A
    value changes by at most 1 from one row or column to the next.
    """
    return 6e-8 * (7 * side + 10)
