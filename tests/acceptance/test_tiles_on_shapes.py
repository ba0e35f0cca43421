"""A large picture in tiles has the instances of the small ones that it is made of, none of them twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch
from live_server import live_server
from pasted_pictures import SIDE, pasted_pictures, png

from models.structures import Boxes
from models.structures.boxes import pairwise_iou

SHAPES = Path(__file__).parents[1] / "data" / "shapes"
COLUMNS, ROWS = 4, 3
SCORE = 0.7
SURE = 0.9
NEAR = 3
"""Pixels. What ends so near to the edge of a small picture goes on in the large one."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        live_server(
            *("--config", SHAPES / "config.yaml", "--weights", SHAPES / "model_final.pth"),
            cwd=tmp_path_factory.mktemp("server"),
        ) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        yield client


def predict(client: httpx.Client, *files: bytes, **options: Any) -> list[dict[str, Any]]:
    response = client.post(
        "/predict",
        files=[("images", file) for file in files],
        params={"score_threshold": SCORE} | options,
    )
    assert response.status_code == 200, response.text
    return [prediction["instances"] for prediction in response.json()["predictions"]]


def boxes_of(instances: list[dict[str, Any]], offsets: np.ndarray[Any, Any]) -> Boxes:
    """All boxes, moved by the offset (x, y) of each image."""
    moved = [
        np.reshape(found["pred_boxes"], (-1, 4)) + np.tile(offset, 2)
        for found, offset in zip(instances, offsets, strict=True)
    ]
    return Boxes(torch.from_numpy(np.concatenate(moved)).float())


def classes_of(instances: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([c for found in instances for c in found["pred_classes"]])


@pytest.mark.parametrize("tiles", ["160x160,0", "160x160,80"])
def test_tiled_instances_are_those_of_the_single_pictures(client: httpx.Client, tiles: str) -> None:
    canvas = pasted_pictures(COLUMNS, ROWS)
    corners = [(x * SIDE, y * SIDE) for y in range(ROWS) for x in range(COLUMNS)]
    singles = predict(client, *(png(canvas[y : y + SIDE, x : x + SIDE]) for x, y in corners))
    [tiled] = predict(client, png(canvas), tiles=tiles)

    expected, found = boxes_of(singles, np.array(corners)), boxes_of([tiled], np.zeros((1, 2)))
    own, others = classes_of(singles), classes_of([tiled])
    iou = pairwise_iou(expected, found) * (own[:, None] == others)
    local = expected.tensor % SIDE
    inside = ((local > NEAR) & (local < SIDE - NEAR)).all(dim=1)
    sure = torch.tensor([s for instances in singles for s in instances["scores"]]) >= SURE
    assert (inside & sure).sum() >= 15
    best = iou[inside & sure].amax(dim=1)
    # Where a shifted tile is the surer one its box counts: the model itself moves it by a pixel or two.
    assert best.min() >= 0.85
    assert (best >= 0.9).float().mean() >= 0.85
    assert ((iou[inside & sure] >= 0.5).sum(dim=1) == 1).all()
    if tiles.endswith(",0"):  # each tile is a picture
        assert len(found) == len(expected)
        assert (iou.amax(dim=1) >= 0.9).all()

    # None twice: within a class nothing overlaps more than the model itself allows.
    twice = pairwise_iou(found, found) * (others[:, None] == others)
    assert twice.fill_diagonal_(0).max() <= 0.55
    for mask, box in zip(tiled["masks"], tiled["pred_boxes"], strict=True):
        x, y, w, h = mask_api.toBbox(mask)
        assert w * h > 0
        assert (np.array([box[0] - x, box[1] - y, x + w - box[2], y + h - box[3]]) <= 1).all()
        assert mask["size"] == list(canvas.shape[:2])


def test_a_region_has_the_instances_of_that_part(client: httpx.Client, tmp_path: Path) -> None:
    canvas = pasted_pictures(COLUMNS, ROWS)
    [alone] = predict(client, png(canvas[SIDE : 2 * SIDE, 2 * SIDE : 3 * SIDE]))
    [part] = predict(client, png(canvas), region="320,160,480,320")
    moved = np.array(alone["pred_boxes"]) + np.array([320, 160, 320, 160])
    assert np.allclose(part["pred_boxes"], moved, atol=1e-3)
    assert part["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    for mask, own in zip(part["masks"], alone["masks"], strict=True):
        frame = np.zeros(canvas.shape[:2], dtype=np.uint8)
        frame[160:320, 320:480] = mask_api.decode(own)
        assert (mask_api.decode(mask) != frame).sum() <= 3
