"""AsyncClient against a whole server on fake detectors."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fake_detector import NAMES, STEP, FakeDetector, picture, pixels
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served

from service.client import (
    AsyncClient,
    BadRequest,
    Conflict,
    DeadlineMissed,
    NotFound,
    NotReady,
    Prediction,
    QueueFull,
    ReloadFailed,
    Retry,
    Unauthorized,
    Unprocessable,
    UnsupportedImage,
)

pytestmark = pytest.mark.anyio


def mark_of(prediction: Prediction) -> int:
    """The mark of the image that was answered, see ``fake_detector``."""
    return int(prediction.instances.boxes[0, 1] / STEP)


async def test_one_image_has_one_answer(serve: Serve, client_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(picture(7))
    async with client_of(serve(FakeDetector())) as client:
        prediction = await client.predict(path)
    assert (prediction.name, prediction.width, prediction.height) == ("seven.png", 32, 32)
    assert mark_of(prediction) == 7
    assert prediction.instances.class_names == NAMES[:3]
    assert prediction.instances.masks is not None
    assert prediction.instances.masks.shape == (3, 32, 32)
    assert prediction.instances.masks.any()
    assert prediction.draw(path).size == (32, 32)
    assert set(prediction.timing_ms) >= {"decode", "queue", "inference", "encode", "total"}


async def test_a_list_has_a_list_in_its_order(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        answers = await client.predict([picture(3), pixels(1), picture(2)])
        [single] = await client.predict((picture(4),))
    assert [mark_of(answer) for answer in answers] == [3, 1, 2]
    assert [answer.name for answer in answers] == ["image", "image-2.png", "image-3"]
    assert mark_of(single) == 4


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"score_threshold": 0.5}, [0, 1]),
        ({"max_detections": 1}, [0]),
        ({"classes": "star, red"}, [2]),
        ({"classes": ["disc", "square"]}, [0, 1]),
        ({"classes": 1}, [1]),  # while "1" is a name
        ({"classes": ["disc", 2], "score_threshold": 0.2}, [0, 2]),
        ({"model": "shapes", "version": 1}, [0, 1, 2]),
    ],
)
async def test_options_arrive(
    serve: Serve, client_of: Any, options: dict[str, Any], classes: list[int]
) -> None:
    async with client_of(serve(FakeDetector())) as client:
        prediction = await client.predict(picture(1), **options)
    assert prediction.instances.classes.tolist() == classes
    assert mark_of(prediction) == 1


async def test_without_masks(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        prediction = await client.predict(picture(1), masks="none")
    assert prediction.instances.masks is None


async def test_proposals_arrive(serve: Serve, client_of: Any) -> None:
    served = serve(FakeDetector(takes_proposals=True))
    boxes = np.array([[0, 0, 8, 8]], dtype=np.float32)
    async with client_of(served) as client:
        await client.predict(picture(1), proposals=[boxes])
    _, given = served.detector.given[-1]
    assert given is not None
    assert given.tolist() == [[0, 0, 8, 8]]


async def test_one_bad_image_hurts_only_itself(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        good, bad = await client.predict([picture(1), b"no image"])
    assert mark_of(good) == 1
    assert bad.error is not None
    assert bad.error.code == "unsupported_image_format"


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        ({"images": b"no image"}, UnsupportedImage, "unsupported_image_format"),
        ({"images": picture(1), "classes": "car"}, Unprocessable, "unknown_class"),
        ({"images": picture(1), "model": "none"}, NotFound, "unknown_model"),
        ({"images": picture(1), "version": "9"}, NotFound, "unknown_version"),
    ],
)
async def test_a_refusal_is_an_error_of_its_kind(
    serve: Serve, client_of: Any, arguments: dict[str, Any], kind: Any, code: str
) -> None:
    async with client_of(serve(FakeDetector())) as client:
        with pytest.raises(kind) as caught:
            await client.predict(**arguments, request_id="my-request")
    assert (caught.value.code, caught.value.request_id) == (code, "my-request")


async def test_what_cannot_be_sent_is_not_sent(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        for wrong, kind in (([], ValueError), ("none.jpg", OSError), (None, TypeError)):
            with pytest.raises(kind):
                await client.predict(wrong)
        with pytest.raises(ValueError, match="deadline_s"):
            await client.predict(picture(1), deadline_s=0)


async def test_a_full_queue_is_asked_again_after_what_it_says(serve: Serve, client_of: Any) -> None:
    served = serve(FakeDetector(), max_queue=1)
    served.detector.go.clear()
    waited: list[float] = []
    async with client_of(served) as client:
        first = asyncio.ensure_future(client.predict(picture(1)))
        await asyncio.to_thread(served.detector.entered)

        async def make_room(seconds: float) -> None:
            waited.append(seconds)
            served.detector.go.set()
            await first

        client._sleep = make_room
        assert mark_of(await client.predict(picture(3))) == 3
    assert len(waited) == 1
    assert waited[0] >= 1.0


async def test_a_queue_that_stays_full_is_an_error(serve: Serve, client_of: Any) -> None:
    served = serve(FakeDetector(), max_queue=1)
    served.detector.go.clear()
    async with client_of(served, retry=Retry(attempts=1)) as client:
        first = asyncio.ensure_future(client.predict(picture(1)))
        await asyncio.to_thread(served.detector.entered)
        with pytest.raises(QueueFull) as caught:
            await client.predict(picture(3))
        served.detector.go.set()
        await first
    assert caught.value.code == "queue_full"
    assert caught.value.retry_after_s is not None


async def test_tokens_open_what_they_are_for(serve: Serve, client_of: Any) -> None:
    served = serve(FakeDetector(), inference_token="see", admin_token="do")
    async with client_of(served) as client:
        with pytest.raises(Unauthorized) as caught:
            await client.predict(picture(1))
        assert caught.value.code == "token_required"
        assert await client.ready()
    async with client_of(served, token="see") as client:
        assert mark_of(await client.predict(picture(1))) == 1
        with pytest.raises(Unauthorized):
            await client.reload()
    async with client_of(served, token="see", admin_token="do") as client:
        assert (await client.reload()).state == "succeeded"


async def test_models(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        [model] = await client.models()
        same = await client.model("shapes")
        with pytest.raises(NotFound):
            await client.model("a/b?c")
    assert model == same
    assert (model.name, model.version, model.state) == ("shapes", "1", "ready")
    assert model.class_names == NAMES
    assert (model.score_threshold, model.versions) == (0.05, {"1": "ready"})
    assert set(model.colors) == {0, 1, 2, 3}


async def test_metrics_are_prometheus_text(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        await client.predict(picture(1))
        assert "detserve_http_requests_total" in await client.metrics()


async def test_ready_says_so(serve: Serve, client_of: Any) -> None:
    async with client_of(serve(FakeDetector())) as client:
        assert await client.ready()
        await client.wait_ready()
    async with client_of(serve(FakeDetector(), load=False)) as client:
        assert not await client.ready()
        with pytest.raises(DeadlineMissed, match="not ready within 0 s"):
            await client.wait_ready(0.0)
        with pytest.raises(NotReady):
            await client.predict(picture(1))


# --- changes --------------------------------------------------------------------------------------


@pytest.fixture
def repository(serve: Serve, tmp_path: Path) -> Served:
    make_version(tmp_path, "1")
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "2")
    return served


async def test_reload_and_rollback(repository: Served, client_of: Any) -> None:
    async with client_of(repository) as client:
        job = await client.reload(version=2)
        assert (job.state, job.outcome, job.version) == ("succeeded", "swapped", "2")
        assert (await client.predict(picture(1))).version == "2"
        with pytest.raises(Conflict):
            await client.rollback("shapes", current="1")
        back = await client.rollback("shapes", current="2")
        assert (back.outcome, back.version) == ("rolled_back", "1")
        assert (await client.reload_status(back.id)).raw == back.raw


async def test_a_refused_version_raises_why(repository: Served, client_of: Any) -> None:
    make_version(repository.root, "3", files={"model_final.pth": "no number"})
    async with client_of(repository) as client:
        with pytest.raises(ReloadFailed, match="is no checkpoint") as caught:
            await client.reload(version="3")
        assert (await client.predict(picture(1))).version == "1"
    assert caught.value.details["reload"]


async def test_a_wrong_order_is_refused_before_it_begins(
    repository: Served, client_of: Any
) -> None:
    async with client_of(repository) as client:
        with pytest.raises(NotFound):
            await client.reload(version="9")
        with pytest.raises(Unprocessable):
            await client.reload(strategy="sideways")


async def test_a_long_reload_is_watched_or_left_to_itself(
    repository: Served, client_of: Any
) -> None:
    repository.loader.go.clear()
    async with client_of(repository) as client:
        job = await client.reload(version="2", wait=False)
        assert job.state == "running"
        with pytest.raises(Conflict):
            await client.reload(version="2")
        repository.loader.go.set()
        while (job := await client.reload_status(job.id)).state == "running":
            await asyncio.sleep(0)
        assert job.version == "2"


async def test_a_wait_for_a_reload_ends(repository: Served, client_of: Any) -> None:
    repository.loader.go.clear()
    async with client_of(repository) as client:
        with pytest.raises(DeadlineMissed, match=r"goes on after 0 s; ask .* reload_status"):
            await client.reload(version="2", wait_s=0.0)
    repository.loader.go.set()


# --- the transport --------------------------------------------------------------------------------


async def test_a_client_of_the_caller_stays_open() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="m"))
    async with httpx.AsyncClient(transport=transport) as http:
        async with AsyncClient("http://host/prefix/", http=http) as client:
            assert await client.metrics() == "m"
        assert not http.is_closed


async def test_an_own_client_is_closed() -> None:
    async with AsyncClient() as client:
        http = client._http
    assert http.is_closed


async def test_malformed_requests_have_their_error_too() -> None:
    error = {"error": {"code": "malformed_json", "message": "No."}}
    transport = httpx.MockTransport(lambda request: httpx.Response(400, text=json.dumps(error)))
    async with httpx.AsyncClient(transport=transport) as http:
        client = AsyncClient(http=http)
        with pytest.raises(BadRequest):
            await client.predict(picture(1))
