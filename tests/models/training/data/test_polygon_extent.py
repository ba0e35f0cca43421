"""The tight box around the visible part of polygons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.data.polygon_extent import visible_extent

HEIGHT, WIDTH = 40, 60


def extent(*polygons: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    return visible_extent([np.array(p, dtype=np.float64) for p in polygons], HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        pytest.param([(5, 6), (20, 8), (11, 30)], (5, 6, 20, 30), id="inside"),
        pytest.param([(-10, 10), (10, 10), (10, 20)], (0, 10, 10, 20), id="cut at the left"),
        pytest.param(
            [(-100, -100), (200, -100), (200, 200), (-100, 200)], (0, 0, 60, 40), id="all"
        ),
        pytest.param(
            [(-10, 20), (30, -20), (70, 20), (30, 60)], (0, 0, 60, 40), id="two corners out"
        ),
        pytest.param([(-5, -5), (-1, 50), (-9, 3)], (0, 0, 0, 0), id="outside"),
        pytest.param(
            [(50, 30), (90, 30), (90, 70), (50, 70)], (50, 30, 60, 40), id="over a corner"
        ),
        pytest.param([(-20, 30), (30, -20), (-20, -20)], (0, 0, 10, 10), id="a corner cut off"),
    ],
)
def test_extents(
    polygon: list[tuple[float, float]], expected: tuple[float, float, float, float]
) -> None:
    assert extent(polygon) == pytest.approx(expected)
    assert extent(polygon[::-1]) == pytest.approx(expected)


def test_arms_whose_joint_is_outside_do_not_reach_for_the_corner() -> None:
    # A C that opens to the right; its back is left of the picture, its lower arm below.
    shape = [(-10, 10), (20, 10), (20, 15), (-5, 15), (-5, 50), (20, 50), (20, 55), (-10, 55)]
    assert extent(shape) == pytest.approx((0, 10, 20, 15))


def test_several_polygons_are_one_object() -> None:
    assert extent([(1, 1), (4, 1), (4, 4)], [(30, 20), (80, 20), (80, 30)]) == pytest.approx(
        (1, 1, 60, 26)
    )
    assert extent() == (0, 0, 0, 0)


def clipped(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A convex polygon cut by one side of the picture after the other (Sutherland and Hodgman)."""
    for axis, sign, limit in ((0, 1, 0), (0, -1, -WIDTH), (1, 1, 0), (1, -1, -HEIGHT)):
        kept = []
        for start, end in zip(corners, [*corners[1:], *corners[:1]], strict=True):
            before, after = sign * start[axis] - limit, sign * end[axis] - limit
            if before >= 0:
                kept.append(start)
            if before * after < 0:
                part = before / (before - after)
                kept.append(
                    (start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]))
                )
        corners = kept
    return corners


@given(
    st.lists(
        st.tuples(st.integers(-WIDTH, 2 * WIDTH), st.integers(-HEIGHT, 2 * HEIGHT)),
        min_size=3,
        max_size=3,
    )
)
def test_it_is_the_box_of_the_clipped_triangle(corners: list[tuple[int, int]]) -> None:
    points = clipped([(float(x), float(y)) for x, y in corners])
    xs, ys = zip(*points, strict=True) if points else ((0.0,), (0.0,))
    found = extent([(float(x), float(y)) for x, y in corners])
    assert found == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=1e-9)
