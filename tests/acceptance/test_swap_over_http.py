"""Weights are swapped every second under load: no request fails, no answer is a mixture."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from live_server import live_server

from service.settings import PRETRAINED

REQUESTS = 500
CONCURRENCY = 16
SAMPLES = [(PRETRAINED / "samples" / f"shapes-{i}.jpg").read_bytes() for i in (1, 2)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_model_root(folder: Path) -> None:
    """One config and two checkpoints whose answers differ plainly: ``b`` is less sure of itself."""
    shutil.copy(PRETRAINED / "config.yaml", folder)
    shutil.copy(PRETRAINED / "labels.txt", folder)
    shutil.copy(PRETRAINED / "model_final.pth", folder / "a.pth")
    checkpoint = torch.load(folder / "a.pth", weights_only=True)
    checkpoint["model"]["roi_heads.box_predictor.cls_score.weight"] *= 0.7
    torch.save(checkpoint, folder / "b.pth")


async def predict(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.post("/predict", files=[("images", data) for data in SAMPLES])
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def reload(client: httpx.AsyncClient, weights: str) -> str:
    """Swap; the sha256 of what answers now."""
    response = await client.post("/reload", json={"weights": weights})
    assert response.status_code == 200, response.text
    return str(response.json()["load_report"]["sha256"])


def check(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    for prediction, other in zip(answer["predictions"], expected["predictions"], strict=True):
        ours, theirs = prediction["instances"], other["instances"]
        assert ours["pred_classes"] == theirs["pred_classes"]
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-4)


@pytest.mark.anyio
async def test_500_requests_survive_a_reload_every_second(tmp_path: Path) -> None:
    make_model_root(tmp_path)
    arguments = ("--config", tmp_path / "config.yaml", "--weights", tmp_path / "a.pth")
    with live_server(*arguments, cwd=tmp_path) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            expected = {}
            for weights in ("b.pth", "a.pth"):
                sha256 = await reload(client, weights)
                expected[sha256] = await predict(client)
                assert expected[sha256]["model"]["weights_sha256"] == sha256
            scores = [e["predictions"][0]["instances"]["scores"] for e in expected.values()]
            assert scores[0] != pytest.approx(scores[1], abs=1e-2)

            answers: list[dict[str, Any]] = []
            numbers = iter(range(REQUESTS))
            done = asyncio.Event()

            async def send() -> None:
                for _ in numbers:
                    answers.append(await predict(client))

            async def swap() -> int:
                for reloads, weights in enumerate(itertools.cycle(("b.pth", "a.pth"))):
                    try:
                        await asyncio.wait_for(done.wait(), 1.0)
                        return reloads
                    except TimeoutError:
                        await reload(client, weights)
                raise AssertionError

            swapping = asyncio.create_task(swap())
            await asyncio.gather(*(send() for _ in range(CONCURRENCY)))
            done.set()
            reloads = await swapping
        assert len(answers) == REQUESTS
        for answer in answers:
            check(answer, expected[answer["model"]["weights_sha256"]])
        assert reloads >= 3
        assert len({answer["model"]["version"] for answer in answers}) >= 3
