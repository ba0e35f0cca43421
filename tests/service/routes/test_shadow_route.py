"""PUT, GET and DELETE /models/{m}/shadow: codes, the report, and that answers stay as they are."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fake_detector import PATIENCE_S, FakeDetector, picture
from fake_server import Serve, Served

from service.inference.detector import Views
from service.repository.version import ModelVersion
from service.schemas.answers import ErrorAnswer
from service.schemas.shadow import ShadowAnswer

pytestmark = pytest.mark.anyio
URL = "/models/shapes/shadow"


def load(served: Served, detector: FakeDetector | None = None, label: str = "2") -> ModelVersion:
    """Another version that is loaded beside the current one; it answers alike unless it is given."""
    version = ModelVersion("shapes", label, detector or FakeDetector(1))
    served.runtime.repository.get().versions[label] = version
    return version


async def put(served: Served, version: Any = "2", share: Any = 1, **more: Any) -> httpx.Response:
    return await served.client.put(URL, json={"version": version, "share": share, **more})


def answer_of(response: httpx.Response, status: int = 200) -> ShadowAnswer:
    assert response.status_code == status, response.text
    return ShadowAnswer.model_validate(response.json())


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


async def predict(served: Served, *marks: int, **options: Any) -> httpx.Response:
    files = [("images", (f"{mark}.png", picture(mark))) for mark in marks]
    return await served.client.post(
        "/predict", files=files, params=options, headers={"X-Request-ID": "frame-7"}
    )


async def report(served: Served, images: int) -> ShadowAnswer:
    """The report, once so many images have had their end."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = answer_of(await served.client.get(URL))
            if answer.images.compared + answer.images.failed + answer.images.dropped >= images:
                return answer
            await asyncio.sleep(0.001)


# --- success ----------------------------------------------------------------------------------------


async def test_a_shadow_begins_with_an_empty_report(serve: Serve) -> None:
    served = serve()
    version = load(served)
    answer = answer_of(await put(served, share=0.5), 201)
    assert (answer.model, answer.current, answer.candidate) == ("shapes", "1", "2")
    assert (answer.share, answer.images.offered, answer.last_error) == (0.5, 0, None)
    assert version.leases == 1


async def test_what_was_predicted_is_in_the_report_and_in_the_metrics(serve: Serve) -> None:
    served = serve()
    load(served, FakeDetector(200))  # its boxes are 25 pixels to the right
    answer_of(await put(served), 201)
    assert (await predict(served, 3)).status_code == 200
    answer = await report(served, 1)
    assert answer.images.compared == 1
    assert (answer.instances.only_current, answer.instances.only_candidate) == (3, 3)
    assert [row.class_name for row in answer.only_current] == ["disc", "square", "star, red"]
    [one] = answer.most_different
    assert (one.request_id, one.image) == ("frame-7", "3.png")
    labels = {"model": "shapes", "candidate": "2", "outcome": "compared"}
    assert served.metric("shadow_images_total", **labels) == 1


async def test_answers_are_the_same_with_a_shadow_and_without(serve: Serve) -> None:
    served = serve()
    candidate = FakeDetector(80, recipe="bgr")
    load(served, candidate)
    before = (await predict(served, 1, 2, 3)).json()
    answer_of(await put(served), 201)
    during = (await predict(served, 1, 2, 3)).json()
    candidate.fail_on = {4}
    failing = await predict(served, 4)
    assert (await report(served, 4)).images.failed == 1
    answer_of(await served.client.delete(URL))
    for answer in (before, during):
        del answer["timing_ms"]
        for one in answer["predictions"]:  # images share batches as they come
            del one["batch_size"]
    assert during == before
    assert failing.status_code == 200
    assert failing.json()["model"]["version"] == "1"


async def test_an_answer_does_not_wait_for_the_candidate(serve: Serve) -> None:
    served = serve()
    candidate = FakeDetector(1)
    candidate.go.clear()
    load(served, candidate)
    answer_of(await put(served), 201)
    assert (await predict(served, 1)).status_code == 200
    assert await asyncio.to_thread(candidate.entered) == [1]
    candidate.go.set()


async def test_requests_that_name_a_version_are_left_out(serve: Serve) -> None:
    served = serve()
    load(served)
    answer_of(await put(served), 201)
    for version in ("1", "2"):
        assert (await predict(served, 1, version=version)).status_code == 200
    assert (await predict(served, 2)).status_code == 200
    assert (await report(served, 1)).images.offered == 1


async def test_test_time_augmentation_is_left_out(serve: Serve) -> None:
    served = serve(FakeDetector(1, tta=Views((64,), 128, flip=True)))
    load(served)
    answer_of(await put(served), 201)
    assert (await predict(served, 1, tta="flip")).status_code == 200
    assert (await predict(served, 2)).status_code == 200
    assert (await report(served, 1)).images.offered == 1


async def test_a_second_put_takes_its_place(serve: Serve) -> None:
    served = serve()
    first, second = load(served), load(served, label="3")
    answer_of(await put(served), 201)
    assert answer_of(await put(served, "3")).candidate == "3"
    assert (first.leases, second.leases) == (0, 1)
    labels = {"model": "shapes", "outcome": "compared"}
    assert served.metric("shadow_images_total", candidate="2", **labels) is None
    assert served.metric("shadow_images_total", candidate="3", **labels) == 0


async def test_its_end_answers_with_the_last_report(serve: Serve) -> None:
    served = serve()
    version = load(served)
    answer_of(await put(served), 201)
    await predict(served, 1)
    await report(served, 1)
    assert answer_of(await served.client.delete(URL)).images.compared == 1
    assert error_of(await served.client.get(URL), 404).code == "no_shadow"
    assert version.leases == 0
    labels = {"model": "shapes", "candidate": "2", "outcome": "compared"}
    assert served.metric("shadow_images_total", **labels) is None


async def test_a_reload_ends_it(serve: Serve) -> None:
    served = serve()
    version = load(served, label="7")
    answer_of(await put(served, "7"), 201)
    assert (await served.client.post("/reload", json={})).status_code == 200
    assert error_of(await served.client.get(URL), 404).code == "no_shadow"
    assert version.leases == 0


async def test_the_server_stops_with_a_shadow_at_work(serve: Serve) -> None:
    served = serve()
    candidate = FakeDetector(1)
    candidate.go.clear()
    version = load(served, candidate)
    answer_of(await put(served), 201)
    await predict(served, 1, 2)
    await asyncio.to_thread(candidate.entered)
    candidate.go.set()
    await asyncio.to_thread(served.runtime.close)
    assert await asyncio.to_thread(version.wait_unused, PATIENCE_S)


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_a_shadow_there_is_none(serve: Serve, method: str) -> None:
    response = await serve().client.request(method, URL)
    assert error_of(response, 404).code == "no_shadow"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_an_unknown_model(serve: Serve, method: str) -> None:
    body = {"version": "2", "share": 1} if method == "PUT" else None
    response = await serve().client.request(method, "/models/car/shadow", json=body)
    assert error_of(response, 404).code == "unknown_model"


async def test_a_version_that_is_nowhere(serve: Serve) -> None:
    assert error_of(await put(serve(), "7"), 404).code == "unknown_version"


@pytest.mark.parametrize("version", ["1", "current"])
async def test_the_current_version(serve: Serve, version: str) -> None:
    assert error_of(await put(serve(), version), 422).code == "shadow_of_itself"


async def test_a_version_of_another_kind(serve: Serve) -> None:
    served = serve()
    load(served, FakeDetector(1, box_mode="XYWHA_ABS"))
    assert error_of(await put(served), 422).code == "tasks_differ"


@pytest.mark.parametrize(
    ("body", "option"),
    [
        ({"version": "2", "share": 0}, "share"),
        ({"version": "2", "share": 1.5}, "share"),
        ({"version": "2", "share": "0.1"}, "share"),
        ({"version": "2", "share": True}, "share"),
        ({"version": "2"}, "share"),
        ({"share": 0.1}, "version"),
        ({"version": "", "share": 0.1}, "version"),
        ({"version": 2, "share": 0.1}, "version"),
        ({"version": "2", "share": 0.1, "seed": 1}, "seed"),
    ],
)
async def test_a_body_with_a_bad_value_names_the_option(
    serve: Serve, body: dict[str, Any], option: str
) -> None:
    served = serve()
    load(served)
    error = error_of(await served.client.put(URL, json=body), 422)
    assert error.code == "invalid_option"
    assert error.details == {"option": option}
    assert served.runtime.repository.get().shadow is None


async def test_a_body_that_is_no_json(serve: Serve) -> None:
    response = await serve().client.put(
        URL, content=b"{", headers={"Content-Type": "application/json"}
    )
    assert error_of(response, 400).code == "malformed_json"


# --- who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_with_an_admin_token_it_is_needed(serve: Serve, method: str) -> None:
    served = serve(admin_token="secret")
    load(served)
    body = {"version": "2", "share": 1} if method == "PUT" else None
    response = await served.client.request(method, URL, json=body)
    assert error_of(response, 401).code == "admin_token_required"


async def test_begin_and_end_are_in_the_audit_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    load(served)
    with caplog.at_level(logging.INFO, logger="service.audit"):
        await put(served, share=0.5)
        await served.client.delete(URL)
        await served.client.delete(URL)
    begun, ended, refused = [record.getMessage() for record in caplog.records]
    assert "action=shadow_start model=shapes version=2 share=0.5 status=201" in begun
    assert "action=shadow_end model=shapes version=2 status=200" in ended
    assert "status=404 code=no_shadow" in refused
