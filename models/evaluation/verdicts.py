"""Which detections of a picture are right, which are false, and what was missed or confused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.detail import ImageVerdict, Match

_GONE = -1.0
"""In a table of overlaps: may not be matched any more."""

_BELOW_ONE = 1 - 1e-10
"""COCO's: with a threshold of 1 a perfect match still counts."""


@dataclass(frozen=True)
class Objects:
    """Instances or detections of one picture.

    Attributes:
        boxes: (N, 4) float64, XYWH in pixels.
        classes: (N,) int64 places of their categories in the data set.
        scores: (N,) of detections; empty of instances.
        crowd: (N,) bool of instances; empty of detections.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]


def judge(
    truth: Objects, found: Objects, *, iou_threshold: float, score_threshold: float
) -> tuple[tuple[Match, ...], tuple[int, ...], tuple[int, ...]]:
    """Match one to one by the IoU of boxes, the best score first.

    First within classes, as COCO's AP does (the same pairs, whatever lies below the score threshold);
    detections left over that lie on a crowd region of their class are ignored; then what is left is
    matched across classes: those are confused.

    Args:
        truth: the annotations of a picture, G of them.
        found: its detections, D of them.
        iou_threshold: least IoU of a pair; of a detection and a crowd region the least share of the
            detection that lies on it.
        score_threshold: detections below are left out.

    Returns:
        The fields ``matches``, ``false`` and ``missed`` of :class:`ImageVerdict`.
    """
    kept = np.flatnonzero(found.scores >= score_threshold)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    least = min(iou_threshold, _BELOW_ONE)
    overlaps = _overlaps(found.boxes[kept], truth)
    same = found.classes[kept][:, None] == truth.classes[None]
    on_crowd = (np.where(same & truth.crowd, overlaps, _GONE) >= least).any(axis=1)
    overlaps[:, truth.crowd] = _GONE

    matches: list[Match] = []
    is_open = np.ones(len(kept), dtype=bool)
    for is_same_class in (True, False):
        table = np.where(same, overlaps, _GONE) if is_same_class else overlaps
        for i, j, iou in _pair_off(table, least, is_open):
            matches.append(Match(j, int(kept[i]), iou, is_same_class))
            is_open[i] = False
            overlaps[:, j] = _GONE
        is_open &= ~on_crowd
    taken = {match.truth for match in matches}
    missed = (int(j) for j in np.flatnonzero(~truth.crowd) if j not in taken)
    false = tuple(sorted(kept[is_open].tolist()))
    return tuple(matches), false, tuple(missed)


def confusion_matrix(
    verdicts: list[ImageVerdict],
    truths: list[Objects],
    found: list[Objects],
    num_classes: int,
) -> NDArray[np.int64]:
    """(K + 1, K + 1) numbers of instances, as :class:`models.evaluation.detail.Confusion` has them.

    Args:
        verdicts: of all pictures.
        truths, found: what they are about, in the same order.
        num_classes: K.
    """
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for verdict, truth, detections in zip(verdicts, truths, found, strict=True):
        false, missed = len(verdict.false), len(verdict.missed)
        rows.append(_picked(truth.classes, [m.truth for m in verdict.matches]))
        columns.append(_picked(detections.classes, [m.detection for m in verdict.matches]))
        rows.append(np.full(false, num_classes))
        columns.append(_picked(detections.classes, verdict.false))
        rows.append(_picked(truth.classes, verdict.missed))
        columns.append(np.full(missed, num_classes))
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    if rows:
        np.add.at(matrix, (np.concatenate(rows), np.concatenate(columns)), 1)
    return matrix


def _picked(classes: NDArray[np.int64], places: list[int] | tuple[int, ...]) -> NDArray[np.int64]:
    return classes[np.asarray(places, dtype=np.int64)]


def _overlaps(boxes: NDArray[np.float64], truth: Objects) -> NDArray[np.float64]:
    """(D, G) IoU; with a crowd region the share of the detection that lies on it."""
    if not len(boxes) or not len(truth.boxes):
        return np.zeros((len(boxes), len(truth.boxes)))
    import pycocotools.mask as mask_api  # here: importing the library need not take it

    found: NDArray[np.float64] = mask_api.iou(
        np.ascontiguousarray(boxes), np.ascontiguousarray(truth.boxes), truth.crowd.astype(int)
    )
    return found


def _pair_off(
    table: NDArray[np.float64], least: float, is_open: NDArray[np.bool_]
) -> list[tuple[int, int, float]]:
    """Row, column and overlap of each pair: open rows in turn take the best column that is left.

    Only rows that have a column at all are looked at one by one.
    """
    pairs: list[tuple[int, int, float]] = []
    if not table.size:
        return pairs
    for i in np.flatnonzero(is_open & (table >= least).any(axis=1)).tolist():
        # Of equal ones the last, as pycocotools takes it.
        j = table.shape[1] - 1 - int(table[i, ::-1].argmax())
        iou = float(table[i, j])
        if iou >= least:
            pairs.append((i, j, iou))
            table[:, j] = _GONE
    return pairs
