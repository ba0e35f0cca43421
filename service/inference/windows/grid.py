"""How a picture, or a region of it, is cut into overlapping tiles."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from models.transforms import resized_size
from service.errors import TooLarge
from service.inference.windows.window import Window

OVERLAP = 0.2
"""Of a tile's side, where a request names no overlap."""

UNRESIZED_SIDE = 1024
"""Of an automatic tile, for a model that takes pictures as they are."""

Span = tuple[int, int]
"""Where a column or row of tiles begins and ends, pixels of the picture."""


@dataclass(frozen=True)
class Tiling:
    """Tiles that a request asks for.

    Attributes:
        size: (width, height), pixels of the picture; None leaves it to :func:`plan_tiles`.
        overlap: pixels that neighbours share at least; None is :data:`OVERLAP` of each side.
    """

    size: tuple[int, int] | None = None
    overlap: int | None = None


@dataclass(frozen=True)
class Grid:
    """Tiles of equal size in rows and columns, which together are ``area``."""

    area: Window
    columns: tuple[Span, ...]
    rows: tuple[Span, ...]

    @cached_property
    def tiles(self) -> tuple[Window, ...]:
        """Row by row."""
        return _windows(self.columns, self.rows)

    @cached_property
    def cells(self) -> tuple[Window, ...]:
        """For each tile the part of ``area`` to whose pixels no other tile's centre is nearer."""
        return _windows(_without_overlap(self.columns), _without_overlap(self.rows))


def _windows(columns: tuple[Span, ...], rows: tuple[Span, ...]) -> tuple[Window, ...]:
    return tuple(
        Window(left, top, right, bottom) for top, bottom in rows for left, right in columns
    )


def _without_overlap(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Each span, cut in the middle of what it shares with its neighbours."""
    seams = [(end + start) // 2 for (_, end), (start, _) in itertools.pairwise(spans)]
    starts, ends = [spans[0][0], *seams], [*seams, spans[-1][1]]
    return tuple(zip(starts, ends, strict=True))


def plan_tiles(area: Window, tiling: Tiling, *, min_size: int, max_size: int, most: int) -> Grid:
    """Cut ``area`` into tiles.

    Automatic tiles are squares that the model sees pixel by pixel, or larger ones where those would be
    too many; an area that the model does not shrink stays whole.

    Args:
        area: what to cut.
        tiling: how.
        min_size, max_size: the model's own resize.
        most: tiles that are allowed.

    Raises:
        TooLarge: ``too_many_tiles``.
    """
    if tiling.size is not None:
        grid_size = _number(area, tiling.size, tiling.overlap)
        if grid_size > most:
            raise TooLarge(
                "too_many_tiles",
                f"Tiles of {tiling.size[0]} x {tiling.size[1]} pixels cut this image into {grid_size}; "
                f"the limit is {most}. Ask for larger tiles or less overlap, or for tiles=auto.",
                limit=most,
                value=grid_size,
            )
        return _grid(area, tiling.size, tiling.overlap)
    height, width = resized_size(area.height, area.width, min_size, max_size)
    if min_size and height >= area.height and width >= area.width:
        return _grid(area, (area.width, area.height), 0)
    side = min_size or UNRESIZED_SIDE
    while _number(area, (side, side), None) > most:
        side = math.ceil(side * 1.1)
    return _grid(area, (side, side), None)


def _grid(area: Window, size: tuple[int, int], overlap: int | None) -> Grid:
    return Grid(
        area,
        _spans(area.left, area.width, size[0], overlap),
        _spans(area.top, area.height, size[1], overlap),
    )


def _number(area: Window, size: tuple[int, int], overlap: int | None) -> int:
    return _parts(area.width, size[0], overlap) * _parts(area.height, size[1], overlap)


def _parts(length: int, tile: int, overlap: int | None) -> int:
    """How many tiles a side of ``length`` pixels takes."""
    if tile >= length:
        return 1
    shared = math.ceil(tile * OVERLAP) if overlap is None else overlap
    return math.ceil((length - shared) / (tile - shared))


def _spans(start: int, length: int, tile: int, overlap: int | None) -> tuple[Span, ...]:
    """Tiles of one size, the last one ends with the area: what they share is spread evenly."""
    number, tile = _parts(length, tile, overlap), min(tile, length)
    gaps = max(number - 1, 1)
    starts = [start + round(i * (length - tile) / gaps) for i in range(number)]
    return tuple((at, at + tile) for at in starts)
