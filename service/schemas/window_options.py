"""The texts of the options ``region`` and ``tiles``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from service.errors import Unprocessable
from service.inference.windows.grid import Tiling

MIN_TILE, MAX_TILE = 32, 10_000


def _region_text(value: Any) -> str:
    """Four numbers with commas between them; a JSON list of them likewise."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    try:
        x1, y1, x2, y2 = (float(part) for part in parts)
        if not all(math.isfinite(number) for number in (x1, y1, x2, y2)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError("it is four numbers, x1,y1,x2,y2") from None
    if not (x1 < x2 and y1 < y2):
        raise ValueError("x1,y1,x2,y2 is the upper left and the lower right corner")
    return ",".join(str(number) for number in (x1, y1, x2, y2))


def _tiles_text(value: Any) -> str:
    """``none``, ``auto``, ``WxH`` or ``WxH,overlap``, small letters without spaces."""
    text = str(value).replace(" ", "").lower()
    if text in {"none", "auto"}:
        return text
    sides, _, overlap = text.partition(",")
    numbers = [*sides.split("x"), *([overlap] if "," in text else [])]
    whole = all(n.isascii() and n.isdigit() and len(n) < 6 for n in numbers)
    if sides.count("x") != 1 or not whole:
        raise ValueError("it is none, auto, WxH or WxH,overlap in pixels, such as 1024x1024,200")
    width, height = (int(side) for side in sides.split("x"))
    if min(width, height) < MIN_TILE or max(width, height) > MAX_TILE:
        raise ValueError(f"the sides of a tile are {MIN_TILE} to {MAX_TILE} pixels")
    if "," in text and 2 * int(overlap) > min(width, height):
        raise ValueError("neighbours share at most half of a tile's shorter side")
    return text


RegionText = Annotated[str, BeforeValidator(_region_text), Field(max_length=200)]
TilesText = Annotated[str, BeforeValidator(_tiles_text), Field(max_length=200)]


def region_corners(text: str | None) -> tuple[float, float, float, float] | None:
    """XYXY of a checked region."""
    if text is None:
        return None
    x1, y1, x2, y2 = (float(number) for number in text.split(","))
    return x1, y1, x2, y2


def tiling_of(text: str) -> Tiling | None:
    """What a checked ``tiles`` asks for; None is without."""
    if text == "none":
        return None
    if text == "auto":
        return Tiling()
    sides, comma, overlap = text.partition(",")
    width, height = (int(side) for side in sides.split("x"))
    return Tiling((width, height), int(overlap) if comma else None)


def check_tileable(outputs: Sequence[str], *, panoptic: bool) -> None:
    """Raise Unprocessable where a model's answers of tiles cannot be put together.

    Args:
        outputs: what the model gives, see :class:`models.facts.ModelFacts`.
        panoptic: whether a panoptic map is wanted.
    """
    if panoptic and "panoptic_seg" in outputs:
        raise Unprocessable(
            "tiles_not_supported",
            "The panoptic maps of tiles cannot be put together; leave tiles out, or ask for the "
            "rest alone with include=sem_seg or segmentation=none.",
            option="tiles",
        )
    if not {"instances", "sem_seg"} & set(outputs):
        raise Unprocessable(
            "tiles_not_supported",
            "Only instances and semantic maps of tiles can be put together, and this model gives "
            "neither; leave tiles out.",
            option="tiles",
        )
