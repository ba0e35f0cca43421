"""Reloads under load: no request fails, and every answer is wholly from one version."""

import asyncio
import itertools
from typing import Any

import pytest
from fake_detector import answered_mark, number_of, picture
from fake_server import Serve

from service import metrics

pytestmark = pytest.mark.anyio

REQUESTS = 200
CONCURRENCY = 16
RELOADS = 10
KEPT = 5  # counters of retired versions
SIZES = ((32, 32), (40, 64), (64, 32))


async def test_no_request_fails_and_none_is_answered_by_two_versions(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "RETIRED_KEPT", KEPT)
    served = serve(max_batch_size=4)
    marks = itertools.count()
    answers: list[dict[str, Any]] = []
    reloads: list[int] = []

    async def client() -> None:
        while len(answers) < REQUESTS or len(reloads) < RELOADS:
            mark = next(marks)
            oldest = int(served.runtime.repository.get().current.label)
            files = [
                ("images", (f"{place}.png", picture((mark + place) % 256, size)))
                for place, size in enumerate(SIZES)
            ]
            response = await served.client.post("/predict", files=files)
            assert response.status_code == 200, response.text
            answer = response.json()
            predictions = answer["predictions"]
            assert [answered_mark(p) for p in predictions] == [
                (mark + place) % 256 for place in range(len(SIZES))
            ]
            numbers = {number_of(prediction) for prediction in predictions}
            assert numbers == {int(answer["model"]["version"])}
            assert numbers == {int(answer["model"]["weights_sha256"], 16)}
            assert min(numbers) >= oldest
            answers.append(answer)

    async def operator() -> None:
        scheduler = served.runtime.scheduler
        for _ in range(RELOADS):
            # Hold the model until requests pile up, so that the swap comes amid some of them.
            current = served.detector
            current.go.clear()
            while scheduler.waiting < CONCURRENCY or not current.held.is_set():
                await asyncio.sleep(0)
            reload = asyncio.ensure_future(served.client.post("/reload", json={}))
            while not scheduler._calls:  # the check of the next version stands in line
                await asyncio.sleep(0)
            current.go.set()
            response = await reload
            assert response.status_code == 200, response.text
            assert response.json()["warning"] is None
            reloads.append(int(response.json()["version"]))

    async with asyncio.timeout(30):
        await asyncio.gather(operator(), *(client() for _ in range(CONCURRENCY)))

    assert reloads == list(range(2, 2 + RELOADS))
    # Each version answered: at least what had piled up when it came.
    assert {int(answer["model"]["version"]) for answer in answers} == {1, *reloads}
    *retired, last = served.loader.loaded
    assert [detector.closed for detector in retired] == [1] * len(retired)
    assert last.closed == 0
    assert served.runtime.scheduler.depth == 0
    # The counters of versions that went long ago are forgotten.
    kept = [str(n) for n in reloads[-KEPT:]]
    for version in kept:
        ok = served.metric("predictions_total", model="shapes", version=version, outcome="ok")
        assert ok == len(SIZES) * sum(a["model"]["version"] == version for a in answers)
    assert served.metric("predictions_total", model="shapes", version="1", outcome="ok") is None
