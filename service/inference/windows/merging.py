"""Instances of overlapping tiles, merged so that none is there twice.

In what two tiles share, both have seen the same objects. An instance whose box ends at an inner border
of its tile (one behind which another tile goes on) is *cut*. Two instances of two tiles *agree* when
what the tiles share of their boxes has an IoU of at least 0.5. Then:

1. A cut instance is dropped where a whole one of another tile is at least half as sure and agrees with
   it, or covers half of it while that tile shows all of it and what lies around it. The class does not
   matter: half a star may look like a triangle.
2. Cut instances of one class that agree are pieces of one object, larger than the overlap: they become
   one, with the box around them, all of their masks' pixels and the highest score; its keypoints are
   those of the largest piece. A piece less than half as sure as the other is dropped instead, and of
   rotated boxes the largest stays.
3. What is left is suppressed by class, best first, where it comes from different tiles and the IoU is
   above the model's own threshold (at most 0.5), or one that is cut has at least half of the smaller
   box in common with the better one. On instances of one tile the model's own NMS has decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.layers.rotated_iou import enclosing_boxes
from models.structures import Boxes, Instances, RotatedBoxes
from service.inference.windows.grid import Grid
from service.inference.windows.overlaps import (
    Floats,
    Integers,
    box_areas,
    box_around,
    clip_boxes,
    common_areas,
    corners_of,
    meeting,
    overlaps,
    rotated_overlaps,
)
from service.inference.windows.run_lengths import as_run_lengths, union

AGREE = 0.5
"""Least IoU, within what two tiles share, of two boxes around the same."""

HALF_AS_SURE = 0.5
"""An instance with less than this share of the other's score does not stand for the same object."""

COVERED = 0.5
"""Share of a cut instance that has to be covered by what a tile that sees more has found there."""

SMALLER = 0.5
"""Share of the smaller box that a better one covers, from which on a cut instance is its piece."""

MOST_IOU = 0.5
"""Models with a weaker NMS of their own must not leave duplicates."""

BORDER = 0.01
"""A box that ends so near to a border, as a share of the tile's shorter side, ends at it."""

LEAST_BORDER = 2.0
"""The same in pixels, for small tiles."""


def merge_instances(found: Sequence[Instances], grid: Grid, *, nms_threshold: float) -> Instances:
    """One object of all tiles' instances, best first.

    Args:
        found: per tile of ``grid`` its instances, in pixels of the picture.
        grid: the tiles.
        nms_threshold: the model's own, or the request's in its place.

    Returns:
        Instances of the picture; where pieces were joined ``pred_masks`` are a list of run lengths.
    """
    filled = [instances for instances in found if len(instances)]
    if not filled:
        return found[0]
    joined = Instances.cat(filled)
    parts = _Parts.of(joined, found, grid)
    alive = np.ones(len(joined), dtype=bool)
    pairs = _compare(parts, grid, alive)
    _drop_pieces_of_whole(parts, pairs, alive)
    groups = _join_pieces(parts, pairs, alive)
    boxes = parts.boxes.copy()
    for group in groups:
        boxes[group[0]] = box_around(parts.boxes[group])
        alive[group[1:]] = False
    members = {group[0]: group for group in groups}
    kept = _suppress(parts, boxes, members, alive, min(nms_threshold, MOST_IOU), joined)
    return _gather(joined, kept, members)


@dataclass(frozen=True)
class _Parts:
    """Instances of all tiles, N.

    Attributes:
        boxes: (N, 4) XYXY in pixels of the picture, around rotated ones.
        scores, classes, tiles: (N,).
        cut: (N,) bool, see the head of this module.
        rotated: whether boxes are.
    """

    boxes: Floats
    scores: Floats
    classes: Integers
    tiles: Integers
    cut: NDArray[np.bool_]
    rotated: bool

    @classmethod
    def of(cls, joined: Instances, found: Sequence[Instances], grid: Grid) -> _Parts:
        boxes = joined.pred_boxes
        rotated = isinstance(boxes, RotatedBoxes)
        corners = enclosing_boxes(boxes.tensor) if rotated else boxes.tensor
        array = corners.double().numpy()
        tiles = np.arange(len(grid.tiles)).repeat([len(instances) for instances in found])
        return cls(
            boxes=array,
            scores=joined.scores.double().numpy(),
            classes=joined.pred_classes.numpy(),
            tiles=tiles,
            cut=_cut(array, tiles, grid),
            rotated=rotated,
        )


def _cut(boxes: Floats, tiles: Integers, grid: Grid) -> NDArray[np.bool_]:
    """(N,) whether a box ends at an inner border of its tile."""
    windows = np.stack([corners_of(tile) for tile in grid.tiles])
    sides = windows[:, 2:] - windows[:, :2]
    near = np.maximum(sides.min(axis=1) * BORDER, LEAST_BORDER)
    area = corners_of(grid.area)
    inner = windows != area
    # How far a box stays inside of each side: left, top, right, bottom.
    inside = (boxes - windows[tiles]) * np.array([1, 1, -1, -1])
    cut: NDArray[np.bool_] = ((inside <= near[tiles, None]) & inner[tiles]).any(axis=1)
    return cut


@dataclass(frozen=True)
class _Pairs:
    """Instances of two tiles that agree, and by how much; (P,) each."""

    first: Integers
    second: Integers
    iou: Floats


def _compare(parts: _Parts, grid: Grid, alive: NDArray[np.bool_]) -> _Pairs:
    """All pairs that agree and of which at least one is cut; the second half of rule 1, in ``alive``."""
    members = [np.flatnonzero(parts.tiles == tile) for tile in range(len(grid.tiles))]
    found: list[tuple[Integers, Integers, Floats]] = []
    for a, window_a in enumerate(grid.tiles):
        for b in range(a + 1, len(grid.tiles)):
            shared = window_a.shared(grid.tiles[b])
            if shared.empty or not len(members[a]) or not len(members[b]):
                continue
            first, second = members[a], members[b]
            corners = corners_of(shared)
            iou, _ = overlaps(
                clip_boxes(parts.boxes[first], corners), clip_boxes(parts.boxes[second], corners)
            )
            i, j = np.nonzero((iou >= AGREE) & (parts.cut[first, None] | parts.cut[second]))
            found.append((first[i], second[j], iou[i, j]))
            alive[first[_seen_better(parts, first, second, b, grid)]] = False
            alive[second[_seen_better(parts, second, first, a, grid)]] = False
    if not found:
        none = np.empty(0, dtype=np.int64)
        return _Pairs(none, none, np.empty(0))
    firsts, seconds, ious = zip(*found, strict=True)
    return _Pairs(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(ious))


def _seen_better(
    parts: _Parts, pieces: Integers, others: Integers, tile: int, grid: Grid
) -> NDArray[np.bool_]:
    """(P,) which of ``pieces`` are cut, lie well inside of another ``tile``, and have half of their area
    in common with a whole one of the ``others``, which are that tile's."""
    inside = parts.cut[pieces] & ~_cut(parts.boxes[pieces], np.full(len(pieces), tile), grid)
    window = corners_of(grid.tiles[tile])
    beyond = (parts.boxes[pieces] - window) * np.array([1, 1, -1, -1])
    inside &= (beyond >= 0).all(axis=1)
    common = common_areas(parts.boxes[pieces], parts.boxes[others])
    covered = common >= COVERED * box_areas(parts.boxes[pieces])[:, None]
    sure = parts.scores[others] >= HALF_AS_SURE * parts.scores[pieces][:, None]
    better: NDArray[np.bool_] = inside & (covered & sure & ~parts.cut[others]).any(axis=1)
    return better


def _drop_pieces_of_whole(parts: _Parts, pairs: _Pairs, alive: NDArray[np.bool_]) -> None:
    """Rule 1, in ``alive``."""
    for piece, whole in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        gives_way = (
            parts.cut[piece]
            & ~parts.cut[whole]
            & (parts.scores[whole] >= HALF_AS_SURE * parts.scores[piece])
        )
        alive[piece[gives_way]] = False


def _join_pieces(parts: _Parts, pairs: _Pairs, alive: NDArray[np.bool_]) -> list[list[int]]:
    """Rule 2: groups of pieces of one object, the largest first; what is dropped, in ``alive``."""
    first, second = pairs.first, pairs.second
    pieces = (
        alive[first]
        & alive[second]
        & parts.cut[first]
        & parts.cut[second]
        & (parts.classes[first] == parts.classes[second])
    )
    first, second, iou = first[pieces], second[pieces], pairs.iou[pieces]
    least = np.minimum(parts.scores[first], parts.scores[second])
    alike = least >= HALF_AS_SURE * np.maximum(parts.scores[first], parts.scores[second])
    # Who agrees best is joined first: an object has at most one piece in each tile.
    order = np.lexsort((-least, -iou, ~alike))
    groups: dict[int, list[int]] = {}
    for k in order.tolist():
        a, b = int(first[k]), int(second[k])
        if not (alive[a] and alive[b]):
            continue
        if not alike[k]:
            weaker = a if parts.scores[a] < parts.scores[b] else b
            # A piece that was joined has others as sure as itself.
            alive[weaker] = weaker in groups
            continue
        of_a, of_b = groups.get(a, [a]), groups.get(b, [b])
        if of_a is of_b or set(parts.tiles[of_a]) & set(parts.tiles[of_b]):
            continue
        together = of_a + of_b
        groups |= dict.fromkeys(together, together)
    areas = box_areas(parts.boxes)
    found = []
    for group in {id(group): group for group in groups.values() if len(group) > 1}.values():
        group.sort(key=lambda i: (-areas[i] * parts.scores[i], i))
        if parts.rotated:
            alive[group[1:]] = False
        else:
            found.append(group)
    return found


def _suppress(
    parts: _Parts,
    boxes: Floats,
    members: dict[int, list[int]],
    alive: NDArray[np.bool_],
    most_iou: float,
    joined: Instances,
) -> list[int]:
    """Rule 3: indices of the instances that stay, best first.

    Args:
        parts: the instances.
        boxes: (N, 4), those of joined pieces at the first of them.
        members: the pieces of those that were joined, by the first of them.
        alive: (N,) those that are left.
        most_iou: above it another one of the class is suppressed.
        joined: for rotated boxes.
    """
    left = np.flatnonzero(alive)
    best = {i: max(parts.scores[members.get(i, [i])].tolist()) for i in left.tolist()}
    tiles = {i: set(parts.tiles[members.get(i, [i])].tolist()) for i in left.tolist()}
    order = sorted(left.tolist(), key=lambda i: (-best[i], i))
    kept: list[int] = []
    gone: set[int] = set()
    ranked = np.array(order, dtype=np.int64)
    for rank, i in enumerate(order):
        if i in gone:
            continue
        kept.append(i)
        others = ranked[rank + 1 :]
        others = others[
            (parts.classes[others] == parts.classes[i]) & meeting(boxes[i], boxes[others])
        ]
        if not len(others):
            continue
        if parts.rotated:
            iou, smaller = rotated_overlaps(joined.pred_boxes, i, others)
        else:
            matrices = overlaps(boxes[i][None], boxes[others])
            iou, smaller = matrices[0][0], matrices[1][0]
        # Joined pieces are not cut any more.
        cut = parts.cut[others] & np.array([other not in members for other in others.tolist()])
        same = (iou > most_iou) | (cut & (smaller >= SMALLER))
        gone.update(j for j in others[same].tolist() if not tiles[i] & tiles[j])
    return kept


def _gather(joined: Instances, kept: list[int], members: dict[int, list[int]]) -> Instances:
    """The instances that stay, with those of the pieces that were joined into them."""
    index = torch.tensor(kept, dtype=torch.int64)
    merged = joined[index]
    together = [(place, members[i]) for place, i in enumerate(kept) if i in members]
    if not together:
        return merged
    boxes, scores = merged.pred_boxes.tensor.clone(), merged.scores.clone()
    masks = as_run_lengths(merged) if merged.has("pred_masks") else None
    for place, group in together:
        pieces = joined[torch.tensor(group)]
        corners = pieces.pred_boxes.tensor
        boxes[place] = torch.cat((corners[:, :2].amin(dim=0), corners[:, 2:].amax(dim=0)))
        scores[place] = pieces.scores.max()
        if masks is not None:
            masks[place] = union(as_run_lengths(pieces))
    merged.pred_boxes, merged.scores = Boxes(boxes), scores
    if masks is not None:
        merged.pred_masks = masks
    return merged
