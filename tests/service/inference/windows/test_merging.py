"""No object of two tiles is there twice, and none is lost: the rules one by one, then random scenes."""

import itertools
from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.structures import Boxes, Instances, RotatedBoxes
from service.inference.windows.grid import Grid, Tiling, plan_tiles
from service.inference.windows.merging import merge_instances
from service.inference.windows.window import Window

HEIGHT, WIDTH = 100, 180
# Tiles 0..100 and 80..180.
TWO = Grid(Window(0, 0, WIDTH, HEIGHT), ((0, 100), (80, 180)), ((0, HEIGHT),))

Found = tuple[list[float], float, int]
"""Box, score and class."""


def instances(*found: Found, masks: bool = False) -> Instances:
    boxes = Boxes(torch.tensor([box for box, _, _ in found]).reshape(-1, 4))
    fields = {"pred_masks": torch.ones(len(found), 1, 14, 14)} if masks else {}
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=boxes,
        scores=torch.tensor([score for _, score, _ in found]),
        pred_classes=torch.tensor([c for _, _, c in found], dtype=torch.int64),
        **fields,
    )


def merged(
    left: Sequence[Found], right: Sequence[Found], *, nms: float = 0.5, masks: bool = False
) -> Instances:
    found = [instances(*left, masks=masks), instances(*right, masks=masks)]
    return merge_instances(found, TWO, nms_threshold=nms)


def told(found: Instances) -> list[Found]:
    boxes = found.pred_boxes.tensor.tolist()
    scores = [round(score, 3) for score in found.scores.tolist()]
    return list(zip(boxes, scores, found.pred_classes.tolist(), strict=True))


def test_what_only_one_tile_sees_is_kept_best_first() -> None:
    left, right = [([10.0, 10, 40, 40], 0.5, 0)], [([120.0, 10, 150, 40], 0.9, 0)]
    assert told(merged(left, right)) == right + left


def test_nothing_found_is_nothing() -> None:
    assert len(merged([], [])) == 0
    assert told(merged([], [([120.0, 10, 150, 40], 0.9, 0)])) == [([120.0, 10, 150, 40], 0.9, 0)]


def test_an_object_in_the_overlap_is_there_once() -> None:
    left, right = [([84.0, 10, 95, 20], 0.8, 0)], [([84.5, 10, 95, 20], 0.9, 0)]
    assert told(merged(left, right)) == right


@pytest.mark.parametrize("score", [0.9, 0.5])
def test_a_cut_object_gives_way_to_the_whole_one_even_if_that_scores_less(score: float) -> None:
    # The object is 84..120: the left tile sees less than half of it.
    whole = ([84.0, 10, 120, 40], score, 0)
    assert told(merged([([84.0, 10, 100, 40], 0.95, 0)], [whole])) == [whole]


def test_a_cut_object_gives_way_whatever_class_it_seems_to_be() -> None:
    whole = ([84.0, 10, 120, 40], 0.9, 0)
    assert told(merged([([84.0, 10, 100, 40], 0.95, 1)], [whole])) == [whole]


def test_a_piece_that_another_tile_shows_as_part_of_something_is_dropped() -> None:
    # The left tile shows the tip of a star as a triangle; the right one shows the tip and the star.
    star, tip = ([84.0, 10, 140, 60], 0.9, 0), ([86.0, 25, 100, 45], 0.95, 1)
    assert told(merged([tip], [star])) == [star]


def test_a_piece_that_another_tile_shows_alone_stays() -> None:
    tip = ([86.0, 25, 100, 45], 0.95, 1)
    assert told(merged([tip], [([96.0, 42, 140, 90], 0.9, 0)]))[0] == tip


def test_an_unsure_box_does_not_replace_a_sure_one() -> None:
    cut = ([85.0, 10, 100, 40], 0.9, 0)
    assert told(merged([cut], [([85.0, 10, 150, 40], 0.06, 0)]))[0] == cut


def test_a_cut_object_that_nobody_else_sees_stays() -> None:
    cut = ([70.0, 10, 100, 40], 0.9, 0)
    assert told(merged([cut], [([85.0, 60, 120, 90], 0.9, 0)])) == [
        cut, ([85.0, 60, 120, 90], 0.9, 0),
    ]  # fmt: skip


def test_pieces_of_an_object_larger_than_the_overlap_become_one() -> None:
    found = merged([([40.0, 10, 100, 50], 0.8, 0)], [([80.0, 10, 150, 50], 0.9, 0)], masks=True)
    assert told(found) == [([40.0, 10.0, 150.0, 50.0], 0.9, 0)]
    [mask] = found.pred_masks
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[10:50, 40:150] = 1
    # A soft mask has round corners.
    assert (mask_api.decode(mask) != expected).sum() <= 4


def test_pieces_of_different_classes_stay_apart() -> None:
    assert len(merged([([40.0, 10, 100, 50], 0.8, 0)], [([80.0, 10, 150, 50], 0.9, 1)])) == 2


def test_a_much_less_sure_piece_is_dropped_and_widens_nothing() -> None:
    sure = ([40.0, 10, 100, 50], 0.9, 0)
    assert told(merged([sure], [([80.0, 10, 160, 50], 0.1, 0)])) == [sure]


def test_each_piece_has_one_counterpart_in_a_tile() -> None:
    left = [([40.0, 10, 100, 50], 0.9, 0)]
    right = [([80.0, 10, 130, 50], 0.9, 0), ([80.0, 13, 170, 50], 0.8, 0)]
    assert told(merged(left, right)) == [
        ([40.0, 10.0, 130.0, 50.0], 0.9, 0), ([80.0, 13.0, 170.0, 50.0], 0.8, 0),
    ]  # fmt: skip


def test_on_instances_of_one_tile_the_model_has_decided() -> None:
    pair = [([10.0, 10, 50, 50], 0.9, 0), ([12.0, 10, 52, 50], 0.8, 0)]
    assert told(merged(pair, [])) == pair


def test_two_objects_that_overlap_are_both_kept_from_either_tile() -> None:
    both = [([83.0, 10, 97, 50], 0.9, 0), ([88.0, 10, 97.5, 50], 0.8, 0)]
    assert told(merged(both, both)) == both


def test_a_weak_nms_of_the_model_leaves_no_duplicates() -> None:
    left, right = [([84.0, 10, 96, 50], 0.8, 0)], [([86.0, 12, 97, 50], 0.9, 0)]
    assert told(merged(left, right, nms=0.95)) == right


def test_a_strict_nms_of_the_model_holds_between_tiles_too() -> None:
    left, right = [([83.0, 10, 97, 30], 0.8, 0)], [([83.0, 20, 97, 40], 0.9, 0)]
    assert len(merged(left, right)) == 2
    assert told(merged(left, right, nms=0.3)) == right


def test_other_classes_are_not_suppressed() -> None:
    left, right = [([84.0, 10, 95, 20], 0.8, 0)], [([84.0, 10, 95, 20], 0.9, 1)]
    assert len(merged(left, right)) == 2


def test_rotated_boxes_are_merged_and_of_pieces_the_largest_stays() -> None:
    def rotated(*boxes: list[float]) -> Instances:
        return Instances(
            (HEIGHT, WIDTH),
            pred_boxes=RotatedBoxes(torch.tensor(boxes)),
            scores=torch.full((len(boxes),), 0.9),
            pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        )

    left = rotated([70.0, 20, 60, 10, 0], [90.0, 60, 14, 6, 20])
    right = rotated([100.0, 20, 40, 10, 0], [90.0, 60, 14, 6, 22], [150.0, 80, 9, 9, 45])
    found = merge_instances([left, right], TWO, nms_threshold=0.5)
    assert sorted(found.pred_boxes.tensor[:, :2].tolist()) == [[70, 20], [90, 60], [150, 80]]


def test_keypoints_of_a_joined_object_are_those_of_its_largest_piece() -> None:
    left, right = instances(([40.0, 10, 100, 50], 0.9, 0)), instances(([80.0, 10, 190, 50], 0.9, 0))
    left.pred_keypoints, right.pred_keypoints = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    found = merge_instances([left, right], TWO, nms_threshold=0.5)
    assert len(found) == 1
    assert torch.equal(found.pred_keypoints, torch.ones(1, 2, 3))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Grid, list[tuple[int, int, int, int]]]:
    """A grid, and objects that do not touch: one in some cells of 60 pixels, smaller than that."""
    side = draw(st.integers(120, 200))
    grid = plan_tiles(
        Window(0, 0, draw(st.integers(200, 500)), draw(st.integers(100, 400))),
        Tiling((side, side), draw(st.integers(0, side // 2))),
        min_size=0,
        max_size=0,
        most=10_000,
    )
    objects = []
    for top in range(0, grid.area.bottom - 60, 60):
        for left in range(0, grid.area.right - 60, 60):
            if draw(st.booleans()):
                w, h = draw(st.integers(12, 50)), draw(st.integers(12, 50))
                objects.append((left + 4, top + 4, left + 4 + w, top + 4 + h))
    return grid, objects


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_objects_as_every_tile_sees_them_come_back_whole_and_once(
    scene: tuple[Grid, list[tuple[int, int, int, int]]],
) -> None:
    grid, objects = scene
    size = (grid.area.bottom, grid.area.right)
    found = []
    for tile in grid.tiles:
        parts = [Window(*box).shared(tile) for box in objects]
        # Nobody sees an object in a strip of a few pixels.
        boxes = [
            [float(v) for v in (p.left, p.top, p.right, p.bottom)]
            for p in parts
            if min(p.width, p.height) >= 4
        ]
        found.append(
            Instances(
                size,
                pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
                scores=torch.full((len(boxes),), 0.9),
                pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
            )
        )
    merged = merge_instances(found, grid, nms_threshold=0.5)
    # With an overlap that a piece is seen in, every object is there, whole, and nothing else is.
    overlaps = [
        a[1] - b[0] for spans in (grid.columns, grid.rows) for a, b in itertools.pairwise(spans)
    ]
    if min(overlaps, default=99) >= 12:
        boxes = [tuple(int(v) for v in box) for box in merged.pred_boxes.tensor.tolist()]
        assert sorted(boxes) == sorted(objects)
