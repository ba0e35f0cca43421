"""An image's answer does not depend on who shares its batch, seen from a client."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from golden import GOLDEN
from live_server import live_server
from PIL import Image

# (height, width): with a shorter side of 160 all of the first become 160 x 193 to 224, which is
# padded to 160 x 224; the others are padded to other shapes.
SAME_PADDED_SHAPE = [
    (200, 256),
    (160, 220),
    (150, 200),
    (155, 195),
    (240, 330),
    (100, 125),
    (320, 420),
    (80, 110),
]
OTHER_PADDED_SHAPES = [(160, 160), (200, 300), (256, 200), (160, 330)]


def picture(height: int, width: int, seed: int) -> bytes:
    """A crop of a photograph-like scene, as PNG."""
    scene = Image.open(GOLDEN / "scene_a.png").convert("RGB").resize((600, 600))
    left, top = np.random.default_rng(seed).integers(0, 100, 2).tolist()
    crop = scene.crop((left, top, left + width, top + height))
    buffer = io.BytesIO()
    crop.save(buffer, "PNG")
    return buffer.getvalue()


def send(url: str, images: list[bytes]) -> list[dict[str, Any]]:
    files = [("images", (f"{i}.png", data)) for i, data in enumerate(images)]
    response = httpx.post(
        f"{url}/predict", files=files, params={"score_threshold": 0.05}, timeout=120
    )
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def test_an_image_alone_and_in_company_has_the_same_answer(tmp_path: Path) -> None:
    sizes = SAME_PADDED_SHAPE + OTHER_PADDED_SHAPES
    images = [picture(height, width, seed) for seed, (height, width) in enumerate(sizes)]
    # The wait makes the batch certain; without it the first image would run before the rest came.
    with live_server("--max-wait-ms", "2000", cwd=tmp_path) as server:
        alone = [send(server.url, [image])[0] for image in images[:2]]
        together = send(server.url, images)
    assert [prediction["batch_size"] for prediction in together[:8]] == [8] * 8
    assert all(prediction["batch_size"] == 1 for prediction in together[8:])
    for single, shared in zip(alone, together, strict=False):
        assert single["batch_size"] == 1
        ours, theirs = single["instances"], shared["instances"]
        assert len(ours["scores"]) > 0
        assert ours["pred_classes"] == theirs["pred_classes"]
        assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-5)
        for box, other in zip(ours["pred_boxes"], theirs["pred_boxes"], strict=True):
            assert other == pytest.approx(box, abs=0.01)
