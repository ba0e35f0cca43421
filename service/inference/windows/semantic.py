"""Semantic maps of tiles, stitched to one of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from service.inference.windows.grid import Grid
from service.inference.windows.placing import NO_CLASS


def stitch(maps: Sequence[Tensor], grid: Grid, height: int, width: int) -> Tensor:
    """(height, width): each pixel as the tile says to whose centre it is nearest.

    Args:
        maps: per tile of ``grid`` its map (h, w).
        grid: the tiles; outside of its area is :data:`NO_CLASS`.
        height, width: of the picture.
    """
    whole = torch.full((height, width), NO_CLASS, dtype=maps[0].dtype)
    for values, tile, cell in zip(maps, grid.tiles, grid.cells, strict=True):
        rows = slice(cell.top - tile.top, cell.bottom - tile.top)
        columns = slice(cell.left - tile.left, cell.right - tile.left)
        whole[cell.top : cell.bottom, cell.left : cell.right] = values[rows, columns]
    return whole
