"""The picture of docs/api.md: pasted validation pictures, predicted in tiles, with the seams drawn.

PYTHONPATH=.:tests/support python benchmarks/tiles_picture.py docs/images/tiles.jpg
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import httpx
from live_server import live_server
from pasted_pictures import SIDE, pasted_pictures, png
from PIL import Image, ImageDraw

from models.transforms import resized_size
from service.inference.windows.grid import Tiling, plan_tiles
from service.inference.windows.window import Window

TILING = Tiling((SIDE, SIDE), SIDE // 2)
ZOOM = 2
SCORE = 0.9


def main(target: Path) -> None:
    """Predict, draw and save."""
    pixels = pasted_pictures(4, 2, first=4)
    height, width = pixels.shape[:2]
    options: dict[str, Any] = {"tiles": f"{SIDE}x{SIDE},{SIDE // 2}", "score_threshold": SCORE}
    with live_server(cwd=Path.cwd()) as server:
        response = httpx.post(
            f"{server.url}/predict",
            files={"images": png(pixels)},
            params=options | {"format": "png"},
            timeout=120,
        ).raise_for_status()
    # Drawn by the server at the picture's own size, then made larger.
    drawn = Image.open(io.BytesIO(response.content)).convert("RGB")
    size = resized_size(height, width, height * ZOOM, width * ZOOM)
    drawn = drawn.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    grid = plan_tiles(
        Window.whole(height, width), TILING, min_size=SIDE, max_size=2 * SIDE, most=1000
    )
    for x in {edge for span in grid.columns for edge in span} - {0, width}:
        draw.line([(x * ZOOM, 0), (x * ZOOM, drawn.height)], fill=(255, 255, 255))
    for y in {edge for span in grid.rows for edge in span} - {0, height}:
        draw.line([(0, y * ZOOM), (drawn.width, y * ZOOM)], fill=(255, 255, 255))
    drawn.save(target, "JPEG", quality=72)
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
