"""The page's own decoder of COCO's run-length encoding, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from browser_page import box, encode
from numpy.typing import NDArray
from playwright.sync_api import Page

DECODE = """async (rle) => {
    const { decodeMask } = await import(new URL("playground/rle.js", document.baseURI).href);
    try {
        const { bits, ...crop } = decodeMask(rle);
        return { ...crop, bits: [...bits] };
    } catch (error) {
        return { error: error.message };
    }
}"""
# Fills the outlines again and counts how the pixels differ.
REFILL = """async (rle) => {
    const url = new URL("playground/rle.js", document.baseURI).href;
    const { decodeMask, outlines } = await import(url);
    const mask = decodeMask(rle);
    const path = new Path2D();
    for (const line of outlines(mask)) {
        for (let at = 0; at < line.length; at += 2) path[at ? "lineTo" : "moveTo"](line[at], line[at + 1]);
        path.closePath();
    }
    const context = document.createElement("canvas").getContext("2d");
    let wrong = 0;
    for (let y = -1; y <= mask.height; y++) {
        for (let x = -1; x <= mask.width; x++) {
            const inside = x >= 0 && y >= 0 && x < mask.width && y < mask.height;
            const set = inside && mask.bits[y * mask.width + x] === 1;
            const [px, py] = [mask.left + x + 0.5, mask.top + y + 0.5];
            if (context.isPointInPath(path, px, py, "evenodd") !== set) wrong++;
        }
    }
    return { wrong, area: mask.area };
}"""


def blob(seed: int, height: int, width: int) -> NDArray[np.bool_]:
    """Random pixels where low values lie together: regions, specks and holes."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(height + 4, width + 4))
    smooth = sum(field[a : a + height, b : b + width] for a in range(5) for b in range(5))
    return np.asarray(smooth > 0)


MASKS = {
    "one pixel in a corner": box(0, 0, 1, 1),
    "the last pixel": box(29, 39, 30, 40),
    "all": box(0, 0, 30, 40),
    "a column": box(0, 7, 30, 8),
    "a row": box(11, 0, 12, 40),
    "a hole": box(3, 3, 20, 20) & ~box(8, 8, 12, 12),
    "two corners that touch": box(0, 0, 5, 5) | box(5, 5, 9, 9),
    "noise": np.random.default_rng(1).random((37, 53)) > 0.5,
    "large": blob(2, 300, 500),
    "tall": blob(3, 700, 60),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_decodes_to_its_pixels(page: Page, name: str) -> None:
    mask = MASKS[name]
    crop = page.evaluate(DECODE, encode(mask))
    decoded = np.zeros_like(mask)
    rows = slice(crop["top"], crop["top"] + crop["height"])
    columns = slice(crop["left"], crop["left"] + crop["width"])
    decoded[rows, columns] = np.reshape(crop["bits"], (crop["height"], crop["width"]))
    assert crop["area"] == mask.sum()
    assert (decoded == mask).all()


@pytest.mark.parametrize("name", ["a hole", "two corners that touch", "all", "a row"])
def test_outlines_enclose_the_pixels_of_a_mask(page: Page, name: str) -> None:
    assert page.evaluate(REFILL, encode(MASKS[name])) == {
        "wrong": 0,
        "area": int(MASKS[name].sum()),
    }


def test_the_crop_is_as_tight_as_the_mask(page: Page) -> None:
    crop = page.evaluate(DECODE, encode(box(4, 6, 9, 13)))
    assert [crop[key] for key in ("left", "top", "width", "height")] == [6, 4, 7, 5]


def test_an_empty_mask_is_empty(page: Page) -> None:
    crop = page.evaluate(DECODE, encode(np.zeros((5, 6), dtype=bool)))
    assert (crop["area"], crop["bits"]) == (0, [])


@pytest.mark.parametrize("counts", ["Pm>5k42N2N2", "`", "\x00", "PPP", "ooooooooooooo1"])
def test_what_is_no_mask_is_refused_and_not_looped_over(page: Page, counts: str) -> None:
    assert "error" in page.evaluate(DECODE, {"size": [10, 10], "counts": counts})
