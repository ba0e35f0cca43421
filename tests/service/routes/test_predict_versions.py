"""POST /predict with ``model`` and ``version``: who answers, who is not there, and swaps meanwhile."""

import asyncio
import base64
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_detector import PATIENCE_S, FakeDetector, picture
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import answered_by, detector_of, error_of, job_of, post, predict, until, version_at

from service.repository.version import RequestLease

pytestmark = pytest.mark.anyio


@pytest.fixture
async def served(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1 (also called stable), 2 (the current one) and 3 (not loaded); model vehicles with a 5."""
    for label in "12":
        make_version(tmp_path, label)
    make_version(tmp_path, "5", model="vehicles")
    started = serve(loader=FolderLoader(), repository=tmp_path, max_batch_size=1)
    make_version(tmp_path, "3")
    url = "/models/shapes/aliases/stable"
    job_of(await started.client.put(url, json={"version": "1"}))
    started.detector.forget()
    return started


async def send(served: Served, place: str, **options: Any) -> httpx.Response:
    """One image, with its options in the query, the form or the JSON body."""
    files = {"images": ("a.png", picture(1))}
    if place == "query":
        return await served.client.post("/predict", files=files, params=options)
    if place == "form":
        return await served.client.post("/predict", files=files, data=options)
    body = {"image": base64.b64encode(picture(1)).decode()} | options
    return await served.client.post("/predict", json=body)


class Stuck:
    """A detector whose images cannot be prepared until it is let go: their requests hold a lease."""

    def __init__(self, detector: FakeDetector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        prepare = detector.prepare

        def stuck(*args: Any, **options: Any) -> Any:
            self.entered.set()
            assert self.go.wait(PATIENCE_S)
            return prepare(*args, **options)

        monkeypatch.setattr(detector, "prepare", stuck)


# --- who answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["query", "form", "json"])
@pytest.mark.parametrize(
    ("word", "label"),
    [("1", "1"), ("2", "2"), ("stable", "1"), ("current", "2"), (None, "2")],
)
async def test_the_version_that_is_named_answers(
    served: Served, place: str, word: str | None, label: str
) -> None:
    options = {} if word is None else {"version": word}
    response = await send(served, place, **options)
    assert answered_by(response) == (label, int(label))
    detector = detector_of(served, int(label))
    assert response.json()["model"]["weights_sha256"] == detector.description.weights_sha256


async def test_a_number_in_json_is_the_version_of_that_name(served: Served) -> None:
    assert answered_by(await send(served, "json", version=1)) == ("1", 1)


@pytest.mark.parametrize(("word", "label"), [("latest", "3"), ("previous", "1")])
async def test_words_of_the_record_name_versions_too(served: Served, word: str, label: str) -> None:
    job_of(await post(served, "/models/shapes/versions/3/load"))
    job_of(await post(served, "/reload", version="1"))
    job_of(await post(served, "/reload", version="2"))
    assert answered_by(await predict(served, version=word)) == (label, int(label))


async def test_another_model_answers_under_its_name_alone(served: Served) -> None:
    assert answered_by(await predict(served, model="vehicles")) == ("5", 5)
    assert answered_by(await predict(served, model="vehicles", version="5")) == ("5", 5)
    for word in ("1", "stable"):
        assert error_of(await predict(served, model="vehicles", version=word), 404).code == (
            "unknown_version"
        )


async def test_requests_are_counted_for_the_version_that_answered(served: Served) -> None:
    for options in ({"version": "1"}, {"version": "stable"}, {}):
        answered_by(await predict(served, **options))
    statistics = [(await version_at(served, label)).statistics for label in "12"]
    assert [one["requests"] for one in statistics if one is not None] == [2, 1]
    ok = {"model": "shapes", "outcome": "ok"}
    assert served.metric("predictions_total", **ok, version="1") == 2
    assert served.metric("predictions_total", **ok, version="2") == 1


# --- who is not there -----------------------------------------------------------------------------


async def test_an_unknown_version_is_404_with_those_that_there_are(served: Served) -> None:
    error = error_of(await predict(served, version="7"), 404)
    assert error.code == "unknown_version"
    assert error.details["versions"] == ["1", "2", "3"]


async def test_a_version_that_is_not_loaded_is_409_with_the_call_that_loads_it(
    served: Served,
) -> None:
    error = error_of(await predict(served, version="3"), 409)
    assert error.code == "version_not_loaded"
    assert error.details == {"model": "shapes", "version": "3", "loaded": ["1", "2"]}
    path = "/models/shapes/versions/3/load"
    assert f"POST {path} " in error.message.replace(",", " ")
    job_of(await post(served, path))
    assert answered_by(await predict(served, version="3")) == ("3", 3)


@pytest.mark.parametrize("word", ["", "../2", "a b", ".hidden"])
async def test_what_is_no_name_is_422(served: Served, word: str) -> None:
    assert error_of(await predict(served, version=word), 422).code == "invalid_name"


async def test_a_name_that_is_too_long_is_422(served: Served) -> None:
    error = error_of(await predict(served, version="x" * 65), 422)
    assert (error.code, error.details["option"]) == ("invalid_option", "version")


async def test_a_version_that_goes_between_the_check_and_the_work_is_409(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestLease, "bind", lambda lease, version: False)
    assert error_of(await predict(served, version="1"), 409).code == "version_not_loaded"
    assert served.runtime.scheduler.depth == 0


# --- meanwhile ------------------------------------------------------------------------------------


async def test_a_request_that_names_its_version_is_answered_by_it_across_a_swap(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = detector_of(served, 2)
    stuck = Stuck(old, monkeypatch)
    running = asyncio.ensure_future(predict(served, version="2"))
    await until(stuck.entered.is_set)
    begun = job_of(await post(served, "/reload", version="3", wait=False), 202)
    job = served.runtime.repository.jobs.get(begun.id)
    await until(
        lambda: job.phase == "drain" and "2" not in served.runtime.repository.get().versions
    )
    assert old.closed == 0
    assert error_of(await predict(served, version="2"), 409).code == "version_not_loaded"
    stuck.go.set()
    assert answered_by(await running) == ("2", 2)
    await until(job.finished.is_set)
    assert (job.state, old.closed) == ("succeeded", 1)
    assert answered_by(await predict(served)) == ("3", 3)


async def test_a_request_that_names_none_goes_over_to_the_new_version(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(detector_of(served, 2), monkeypatch)
    running = asyncio.ensure_future(predict(served))
    await until(stuck.entered.is_set)
    job_of(await post(served, "/reload", version="3"))
    stuck.go.set()
    assert answered_by(await running) == ("3", 3)


async def test_requests_of_a_version_that_is_unloaded_meanwhile_finish_on_it(
    served: Served,
) -> None:
    job_of(await post(served, "/models/shapes/versions/3/load"))
    third = detector_of(served, 3)
    third.forget()
    third.go.clear()
    running = asyncio.ensure_future(predict(served, 1, version="3"))
    await asyncio.to_thread(third.entered)
    waiting = asyncio.ensure_future(predict(served, 2, version="3"))
    await until(lambda: served.runtime.scheduler.waiting == 1)
    unload = asyncio.ensure_future(post(served, "/models/shapes/versions/3/unload"))
    await until(lambda: served.runtime.scheduler._calls)  # the unload stands in line
    third.go.set()
    for task in (running, waiting):
        assert answered_by(await task) == ("3", 3)
    assert (await unload).status_code == 200
    assert (third.batches, third.closed) == ([[1], [2]], 1)
    assert error_of(await predict(served, version="3"), 409).code == "version_not_loaded"
