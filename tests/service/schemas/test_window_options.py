"""``region`` and ``tiles`` as text: what is taken, and what is refused with a sentence."""

from typing import Any

import pytest

from service.errors import Unprocessable
from service.inference.windows.grid import Tiling
from service.schemas.options import PredictOptions
from service.schemas.window_options import region_corners, tiling_of


@pytest.mark.parametrize(
    ("given", "corners"),
    [
        ("1,2,30,40", (1, 2, 30, 40)),
        (" -1.5, 2 ,3e1,40", (-1.5, 2, 30, 40)),
        ([1, 2, 30, 40.5], (1, 2, 30, 40.5)),
        (None, None),
    ],
)
def test_a_region_is_four_numbers(given: Any, corners: tuple[float, ...] | None) -> None:
    assert region_corners(PredictOptions.parse({"region": given}).region) == corners


@pytest.mark.parametrize(
    ("given", "tiling"),
    [
        ("none", None),
        ("AUTO", Tiling()),
        ("1024x768", Tiling((1024, 768), None)),
        ("1024 X 768, 200", Tiling((1024, 768), 200)),
        ("64x64,0", Tiling((64, 64), 0)),
    ],
)
def test_tiles_are_a_size_and_perhaps_an_overlap(given: str, tiling: Tiling | None) -> None:
    assert tiling_of(PredictOptions.parse({"tiles": given}).tiles) == tiling


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("region", "1,2,3"),
        ("region", "1,2,3,4,5"),
        ("region", "a,b,c,d"),
        ("region", "nan,0,10,10"),
        ("region", "0,0,inf,10"),
        ("region", "10,0,10,10"),
        ("region", "0,10,10,5"),
        ("region", [[1, 2, 3, 4]]),
        ("region", 5),
        ("region", ""),
        ("tiles", "large"),
        ("tiles", ""),
        ("tiles", "100"),
        ("tiles", "100x"),
        ("tiles", "100x100x100"),
        ("tiles", "100x100,"),
        ("tiles", "100x100,20,20"),
        ("tiles", "100x100,-5"),
        ("tiles", "100x100,51"),
        ("tiles", "31x100"),
        ("tiles", "100x10001"),
        ("tiles", "1e3x1e3"),
        ("tiles", "²00x100"),
        ("tiles", 5),
    ],
)
def test_a_bad_one_is_refused_with_the_name_of_its_option(option: str, value: object) -> None:
    with pytest.raises(Unprocessable) as caught:
        PredictOptions.parse({option: value})
    assert caught.value.code == "invalid_option"
    assert caught.value.details["option"] == option
    assert f"Option {option} cannot be" in caught.value.message
