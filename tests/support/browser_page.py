"""The playground in a browser: how Chromium is started, what is served to it, what it has drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from playwright.sync_api import Page
from pycocotools import mask as coco

from service.repository.disk.manifest import Manifest
from service.settings import PRETRAINED

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
HOSTILE = "<img src=x onerror=window.hacked=1>"
SHAPES = Path(__file__).parents[1] / "data" / "shapes"
SAMPLES = [PRETRAINED / "samples" / f"shapes-{i}.jpg" for i in (1, 2)]
PATIENCE_MS = 20_000
"""How long a test waits for what must come; only a failing one waits that long."""

OpenPage = Callable[..., Page]


def write_model(folder: Path, *, names: list[str] | None = None, noise: float = 0.0) -> None:
    """A model that Detectron2 trained, with other class names, or with a classifier that is disturbed."""
    folder.mkdir(parents=True)
    for file in ("config.yaml", "labels.txt", "model_final.pth"):
        shutil.copy(SHAPES / file, folder / file)
    if names is not None:
        (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    if noise:
        checkpoint = torch.load(folder / "model_final.pth", weights_only=True)
        weight = checkpoint["model"]["roi_heads.box_predictor.cls_score.weight"]
        generator = torch.Generator().manual_seed(7)
        weight += noise * weight.std() * torch.randn(weight.shape, generator=generator)
        torch.save(checkpoint, folder / "model_final.pth")
    Manifest.of(folder).write(folder)


def colors_on(page: Page, pane: int = 0) -> set[tuple[int, ...]]:
    """Colours of the pixels of a canvas."""
    text = (
        page.locator(".pane canvas")
        .nth(pane)
        .evaluate(
            """(canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const found = new Set();
            for (let at = 0; at < data.length; at += 4) {
                found.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
            }
            return [...found].join(";");
        }"""
        )
    )
    return {tuple(map(int, color.split(","))) for color in text.split(";")}


def drawn(page: Page) -> None:
    """Wait until what was changed last is drawn: one frame to gather, one to lay out, one to draw."""
    page.evaluate(
        """async () => {
            for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
        }"""
    )


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def box(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((30, 40), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask
