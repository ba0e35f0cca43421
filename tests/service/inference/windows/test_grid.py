"""How areas are cut: everything covered, every tile of one size, neighbours share what was asked."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import TooLarge
from service.inference.windows.grid import Grid, Tiling, plan_tiles
from service.inference.windows.window import Window


def plan(area: Window, tiling: Tiling, most: int = 10_000, **model: int) -> Grid:
    sizes = {"min_size": 800, "max_size": 1333} | model
    return plan_tiles(area, tiling, most=most, **sizes)


AREAS = st.tuples(
    st.integers(0, 50), st.integers(0, 50), st.integers(1, 3000), st.integers(1, 3000)
).map(lambda v: Window(v[0], v[1], v[0] + v[2], v[1] + v[3]))


@given(AREAS, st.integers(32, 900), st.integers(32, 900), st.integers(0, 50))
def test_tiles_are_of_one_size_and_share_at_least_the_overlap(
    area: Window, width: int, height: int, percent: int
) -> None:
    overlap = min(width, height) * percent // 100
    grid = plan(area, Tiling((width, height), overlap), most=1_000_000)
    assert {(t.width, t.height) for t in grid.tiles} == {
        (min(width, area.width), min(height, area.height))
    }
    for spans, start, end in (
        (grid.columns, area.left, area.right),
        (grid.rows, area.top, area.bottom),
    ):
        assert (spans[0][0], spans[-1][1]) == (start, end)
        # Even spreading rounds, by less than a pixel at each end.
        assert all(a[1] - b[0] >= overlap - 1 for a, b in itertools.pairwise(spans))


@given(AREAS, st.integers(32, 900), st.integers(0, 50))
def test_cells_are_within_their_tiles_and_cover_every_pixel_once(
    area: Window, side: int, percent: int
) -> None:
    grid = plan(area, Tiling((side, side), side * percent // 100), most=1_000_000)
    assert all(c.shared(t) == c for c, t in zip(grid.cells, grid.tiles, strict=True))
    assert sum(cell.width * cell.height for cell in grid.cells) == area.width * area.height
    assert grid.cells[0].left == area.left
    assert grid.cells[-1].bottom == area.bottom


def test_without_an_overlap_it_is_a_fifth_of_each_side() -> None:
    grid = plan(Window(0, 0, 1800, 500), Tiling((1000, 500)))
    assert grid.columns == ((0, 1000), (800, 1800))
    assert grid.rows == ((0, 500),)


def test_too_many_tiles_are_refused_with_the_numbers() -> None:
    with pytest.raises(TooLarge) as caught:
        plan(Window(0, 0, 1000, 1000), Tiling((100, 100), 0), most=99)
    assert caught.value.code == "too_many_tiles"
    assert (caught.value.details["limit"], caught.value.details["value"]) == (99, 100)
    assert len(plan(Window(0, 0, 1000, 1000), Tiling((100, 100), 0), most=100).tiles) == 100


@pytest.mark.parametrize(("width", "height"), [(800, 800), (1333, 800), (500, 700), (1, 1)])
def test_automatic_tiles_leave_what_the_model_does_not_shrink_whole(
    width: int, height: int
) -> None:
    area = Window(7, 9, 7 + width, 9 + height)
    assert plan(area, Tiling()).tiles == (area,)


def test_automatic_tiles_are_as_large_as_the_model_sees_them() -> None:
    tiles = plan(Window(0, 0, 2000, 1500), Tiling()).tiles
    assert {(tile.width, tile.height) for tile in tiles} == {(800, 800)}
    assert len(tiles) == 3 * 3


@given(AREAS, st.integers(1, 20))
def test_automatic_tiles_never_are_too_many(area: Window, most: int) -> None:
    assert len(plan(area, Tiling(), most=most, min_size=40, max_size=60).tiles) <= most


def test_a_model_that_does_not_resize_has_automatic_tiles_too() -> None:
    tiles = plan(Window(0, 0, 2000, 1000), Tiling(), min_size=0, max_size=0).tiles
    assert {(tile.width, tile.height) for tile in tiles} == {(1024, 1000)}
