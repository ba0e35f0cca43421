"""Masks as polygons: what is inside of them, their parts and holes."""

from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_decoding import iou, of_polygons
from numpy.typing import NDArray
from pycocotools import mask as coco

from models.structures.rle import RLE
from service.encoding.polygons import encode_polygons

Bits = NDArray[np.bool_]


def rle(bits: Bits) -> RLE:
    encoded = coco.encode(np.asfortranarray(bits.astype(np.uint8)))
    return {"size": list(bits.shape), "counts": encoded["counts"].decode()}


def polygons_of(bits: Bits) -> list[Any]:
    [polygons] = encode_polygons([rle(bits)], bits.shape)
    return list(polygons)


def shoelace(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def area_of(polygons: list[Any]) -> float:
    return sum(shoelace(ring) for p in polygons for ring in (p["exterior"], *p["holes"]))


def picture(*rows: str) -> Bits:
    return np.array([[cell == "#" for cell in row] for row in rows])


def disc(radius: float, size: tuple[int, int] | None = None) -> Bits:
    height, width = size or (round(2 * radius) + 5,) * 2
    y, x = np.mgrid[:height, :width] + 0.5
    found: Bits = np.hypot(x - width / 2, y - height / 2) <= radius
    return found


SMALL = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: arrays.arrays(np.bool_, shape)
)


@given(SMALL)
@settings(max_examples=200, deadline=None)
def test_any_mask_comes_back(bits: Bits) -> None:
    decoded = of_polygons(polygons_of(bits), bits.shape)
    assert iou(decoded, bits) >= 0.97


@given(SMALL)
@settings(max_examples=100, deadline=None)
def test_of_any_mask_outlines_enclose_their_holes(bits: Bits) -> None:
    for polygon in polygons_of(bits):
        exterior = polygon["exterior"]
        assert shoelace(exterior) > 0
        for hole in polygon["holes"]:
            assert shoelace(hole) < 0
            assert (hole.min(axis=0) >= exterior.min(axis=0)).all()
            assert (hole.max(axis=0) <= exterior.max(axis=0)).all()
            inside = of_polygons([{"exterior": exterior, "holes": []}], bits.shape)
            assert inside[of_polygons([{"exterior": hole, "holes": []}], bits.shape)].all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 5, 9, 17]))
@settings(max_examples=60, deadline=None)
def test_large_masks_of_many_shapes_come_back(seed: int, coarseness: int) -> None:
    random = np.random.default_rng(seed)
    coarse = random.random((140 // coarseness, 180 // coarseness)) < random.uniform(0.2, 0.95)
    bits = np.kron(coarse, np.ones((coarseness, coarseness), dtype=bool))
    assert iou(of_polygons(polygons_of(bits), bits.shape), bits) >= 0.97


@pytest.mark.parametrize("radius", [0.6, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377])
def test_discs_of_every_size_come_back_in_pixels_and_in_area(radius: float) -> None:
    bits = disc(radius)
    polygons = polygons_of(bits)
    assert iou(of_polygons(polygons, bits.shape), bits) >= 0.97
    assert area_of(polygons) == pytest.approx(bits.sum(), rel=0.03)


def test_a_pixel_is_a_square_along_its_edges() -> None:
    bits = picture("....", "..#.", "....")
    [polygon] = polygons_of(bits)
    assert sorted(map(tuple, polygon["exterior"])) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert polygon["holes"] == []


@pytest.mark.parametrize(
    "bits",
    [
        np.ones((1, 60), dtype=bool),
        np.ones((60, 1), dtype=bool),
        np.eye(40, dtype=bool),
        np.eye(40, dtype=bool)[::-1],
        np.ones((3, 2), dtype=bool),
        np.indices((9, 9)).sum(axis=0) % 2 == 0,
    ],
    ids=["row", "column", "diagonal", "other diagonal", "full", "checkers"],
)
def test_thin_masks_come_back_exactly(bits: Bits) -> None:
    np.testing.assert_array_equal(of_polygons(polygons_of(bits), bits.shape), bits)


def test_parts_that_touch_at_corners_are_one() -> None:
    assert len(polygons_of(picture("#..", ".#.", "..#"))) == 1
    assert len(polygons_of(picture("..#", ".#.", "#.."))) == 1


def test_parts_that_do_not_touch_are_polygons_of_their_own() -> None:
    polygons = polygons_of(picture("##..#", "##..#", ".....", "###.."))
    assert len(polygons) == 3
    assert sum(area_of([polygon]) for polygon in polygons) == 9


def test_holes_are_of_the_part_around_them_and_islands_are_not() -> None:
    bits = picture(
        "#########",
        "#.......#",
        "#.#####.#",
        "#.#.#.#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    )
    outer, inner = sorted(polygons_of(bits), key=lambda polygon: polygon["exterior"][:, 0].min())
    assert [len(outer["holes"]), len(inner["holes"])] == [1, 2]
    assert outer["exterior"][:, 0].max() == 9
    assert [hole[:, 0].min() for hole in inner["holes"]] == [3, 5]


def test_holes_below_each_other_are_all_of_the_one_outline() -> None:
    bits = np.ones((41, 7), dtype=bool)
    bits[1:-1:2, 2:5] = False
    [polygon] = polygons_of(bits)
    assert len(polygon["holes"]) == 20


def test_an_empty_mask_has_no_polygons_and_moves_no_others() -> None:
    full, empty = np.ones((5, 6), dtype=bool), np.zeros((5, 6), dtype=bool)
    answer = encode_polygons([rle(mask) for mask in (empty, full, empty, full)], (5, 6))
    assert [len(polygons) for polygons in answer] == [0, 1, 0, 1]
    assert encode_polygons([], (5, 6)) == []


def test_masks_do_not_depend_on_those_beside_them() -> None:
    random = np.random.default_rng(0)
    masks = [rle(random.random((30, 40)) < share) for share in (0.1, 0.5, 0.9, 0.5)]
    together = encode_polygons(masks, (30, 40))
    for mask, polygons in zip(masks, together, strict=True):
        [alone] = encode_polygons([mask], (30, 40))
        assert len(alone) == len(polygons)
        for one, other in zip(alone, polygons, strict=True):
            np.testing.assert_array_equal(one["exterior"], other["exterior"])
            assert len(one["holes"]) == len(other["holes"])


def test_a_large_mask_needs_few_points() -> None:
    [polygon] = polygons_of(disc(200))
    assert len(polygon["exterior"]) < 60
