"""POST /predict: every form of body, every option, every refusal, and clients that leave."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from fake_detector import FakeDetector, answered_mark, number_of, picture
from fake_server import Serve, Served

from service.inference.detector import Prediction, Views
from service.routes import asking
from service.schemas.answers import ErrorAnswer, PredictAnswer

pytestmark = pytest.mark.anyio


def files(*marks: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{mark}.png", picture(mark))) for mark in marks]


def answer_of(response: httpx.Response) -> PredictAnswer:
    """The answer, held against its documented schema."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return PredictAnswer.model_validate(response.json())


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    error = ErrorAnswer.model_validate(response.json()).error
    assert error.request_id == response.headers["x-request-id"]
    return error


async def post(served: Served, *marks: int, **options: Any) -> httpx.Response:
    return await served.client.post("/predict", files=files(*marks), **options)


async def send(served: Served, place: str, options: dict[str, Any]) -> httpx.Response:
    """One image, with its options in the query, the form or the JSON body."""
    if place == "query":
        return await served.client.post("/predict", files=files(1), params=options)
    if place == "form":
        return await served.client.post("/predict", files=files(1), data=options)
    body = {"image": base64.b64encode(picture(1)).decode()} | options
    return await served.client.post("/predict", json=body)


async def occupied(served: Served, *marks: int) -> asyncio.Task[httpx.Response]:
    """A request that the model is busy with until ``served.detector.go`` is set."""
    served.detector.go.clear()
    task = asyncio.ensure_future(post(served, *marks))
    await asyncio.to_thread(served.detector.entered)
    return task


# --- bodies ---------------------------------------------------------------------------------------


async def test_one_image_as_a_form(serve: Serve) -> None:
    answer = answer_of(await post(serve(), 7))
    [prediction] = answer.predictions
    assert prediction.image.model_dump() == {"name": "7.png", "width": 32, "height": 32}
    assert prediction.instances is not None
    assert prediction.instances.pred_classes == [0, 1, 2]
    assert prediction.instances.class_names == ["disc", "square", "star, red"]
    assert prediction.instances.scores == [0.9, 0.6, 0.3]
    assert prediction.instances.pred_boxes[0] == [0.125, 0.875, 32, 32]
    assert prediction.instances.masks is not None
    assert [mask.size for mask in prediction.instances.masks] == [[32, 32]] * 3
    assert prediction.batch_size == 1


async def test_many_images_in_a_form_are_answered_in_their_order(serve: Serve) -> None:
    response = await post(serve(), 3, 1, 2)
    answer_of(response)
    predictions = response.json()["predictions"]
    assert [prediction["image"]["name"] for prediction in predictions] == [
        "3.png", "1.png", "2.png",
    ]  # fmt: skip
    assert [answered_mark(prediction) for prediction in predictions] == [3, 1, 2]


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", None])
async def test_a_raw_image(serve: Serve, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await serve().client.post("/predict", content=picture(5), headers=headers)
    assert answer_of(response).predictions[0].image.name == "image"
    assert answered_mark(response.json()["predictions"][0]) == 5


async def test_images_in_json(serve: Serve) -> None:
    one, two, three = (base64.b64encode(picture(mark)).decode() for mark in (1, 2, 3))
    body = {"images": [one, {"name": "two.png", "data": f"data:image/png;base64,{two}"}, three]}
    response = await serve().client.post("/predict", json=body)
    answer = answer_of(response)
    assert [p.image.name for p in answer.predictions] == ["image", "two.png", "image-3"]
    assert [answered_mark(p) for p in response.json()["predictions"]] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
async def test_every_format_is_judged_by_content(serve: Serve, kind: str) -> None:
    response = await serve().client.post("/predict", files={"images": picture(1, kind=kind)})
    assert answer_of(response).predictions[0].error is None


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["query", "form", "json"])
@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"score_threshold": "0.5"}, [0, 1]),
        ({"max_detections": "1"}, [0]),
        ({"classes": "star, red"}, [2]),
        ({"classes": ["disc", "2"]}, [0, 2]),
        ({"classes": "disc,2"}, [0, 2]),
        ({"model": "shapes"}, [0, 1, 2]),
        ({"masks": "none"}, [0, 1, 2]),
        ({"score_threshold": "0.5", "classes": "2"}, []),
    ],
)
async def test_every_option_works_in_query_form_and_json(
    serve: Serve, place: str, options: dict[str, Any], classes: list[int]
) -> None:
    response = await send(serve(), place, options)
    instances = answer_of(response).predictions[0].instances
    assert instances is not None
    assert instances.pred_classes == classes
    assert (instances.masks is None) == ("masks" in options)


async def test_the_query_wins_over_the_body(serve: Serve) -> None:
    response = await serve().client.post(
        "/predict", files=files(1), data={"classes": "disc"}, params={"classes": "square"}
    )
    assert answer_of(response).predictions[0].instances.pred_classes == [1]  # type: ignore[union-attr]  # None would fail the test


async def test_a_model_without_masks_answers_boxes_alone(serve: Serve) -> None:
    response = await post(serve(FakeDetector(task="object_detection")), 1)
    answer_of(response)
    assert "masks" not in response.json()["predictions"][0]["instances"]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"classes": "car"}, 422, "unknown_class"),
        ({"model": "car"}, 404, "unknown_model"),
        ({"threshold": "0.5"}, 422, "unknown_option"),
        ({"score_threshold": "high"}, 422, "invalid_option"),
        ({"score_threshold": "0.01"}, 422, "score_threshold_too_low"),
        ({"max_detections": "1000"}, 422, "max_detections_too_high"),
        ({"masks": "contour"}, 422, "invalid_option"),
    ],
)
async def test_a_bad_option_is_refused_before_any_work(
    serve: Serve, options: dict[str, str], status: int, code: str
) -> None:
    served = serve()
    assert error_of(await post(served, 1, params=options), status).code == code
    assert served.detector.batches == []
    assert served.runtime.scheduler.depth == 0


@pytest.mark.parametrize("place", ["query", "form", "json"])
@pytest.mark.parametrize(
    ("options", "views"),
    [
        ({"tta": "none"}, None),
        ({"tta": "flip"}, Views((64,), 128, flip=True)),
        ({"tta": "full"}, Views((40, 50), 90, flip=False)),
        ({"tta": "70,80", "tta_flip": "true"}, Views((70, 80), 90, flip=True)),
    ],
)
async def test_tta_reaches_the_model_from_query_form_and_json(
    serve: Serve, place: str, options: dict[str, Any], views: Views | None
) -> None:
    served = serve(FakeDetector(tta=Views((40, 50), 90, flip=False)))
    answer_of(await send(served, place, options))
    assert served.detector.given[-1][0] == views


@pytest.mark.parametrize("place", ["query", "form", "json"])
async def test_proposals_reach_the_model_from_query_form_and_json(serve: Serve, place: str) -> None:
    served = serve(FakeDetector(takes_proposals=True))
    boxes = [[1.0, 2.0, 30.5, 31.0], [0.0, 0.0, 8.0, 8.0]]
    given: Any = [boxes] if place == "json" else json.dumps([boxes])
    answer_of(await send(served, place, {"proposals": given}))
    assert served.detector.given[-1][1] is not None
    assert served.detector.given[-1][1].tolist() == boxes


async def test_each_image_has_its_own_proposals_and_may_have_none(serve: Serve) -> None:
    served = serve(FakeDetector(takes_proposals=True), threads=1)
    served.detector.given.clear()
    boxes: list[list[list[float]]] = [[[0, 0, 1, 1]], [], [[0, 0, 2, 2], [0, 0, 3, 3]]]
    response = await post(served, 1, 2, 3, data={"proposals": json.dumps(boxes)})
    assert len(answer_of(response).predictions) == 3
    given = [array.tolist() for _, array in served.detector.given if array is not None]
    assert sorted(given, key=len) == sorted(boxes, key=len)
    assert all(array is None or array.shape[1] == 4 for _, array in served.detector.given)


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        ({}, "proposals_required", "no proposal generator"),
        ({"proposals": "[]"}, "invalid_option", "0 lists of boxes for 1 images"),
        ({"proposals": "[[], []]"}, "invalid_option", "2 lists of boxes for 1 images"),
        ({"proposals": "[[[3, 3, 1, 1]]]"}, "invalid_option", "x1 < x2"),
        ({"proposals": "[[[1, 1, 3]]]"}, "invalid_option", "proposals"),
        ({"proposals": "[[1, 1, 3, 3]]"}, "invalid_option", "proposals"),
        ({"proposals": "[["}, "invalid_option", "not a JSON list"),
    ],
)
async def test_proposals_that_do_not_fit_are_refused_before_any_work(
    serve: Serve, options: dict[str, str], code: str, part: str
) -> None:
    served = serve(FakeDetector(takes_proposals=True))
    error = error_of(await post(served, 1, data=options), 422)
    assert error.code == code
    assert part in error.message
    assert served.detector.batches == []


async def test_too_many_proposals_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_PROPOSALS", 2)
    served = serve(FakeDetector(takes_proposals=True))
    boxes = json.dumps([[[0, 0, 1, 1]] * 3])
    error = error_of(await post(served, 1, data={"proposals": boxes}), 422)
    assert "more than 2 proposals" in error.message


async def test_a_model_that_makes_its_own_proposals_takes_none(serve: Serve) -> None:
    response = await post(serve(), 1, data={"proposals": "[[[0, 0, 1, 1]]]"})
    assert error_of(response, 422).code == "proposals_not_taken"


@pytest.mark.parametrize("tta", ["flip", "full", "400"])
async def test_tta_of_a_model_without_it_is_refused_before_any_work(serve: Serve, tta: str) -> None:
    served = serve()
    assert error_of(await post(served, 1, params={"tta": tta}), 422).code == "tta_not_supported"
    assert served.detector.batches == []


@pytest.mark.parametrize("place", ["query", "form", "json"])
async def test_python_files_are_not_imported_over_http(
    serve: Serve, tmp_path: Path, place: str
) -> None:
    (tmp_path / "plugin.py").write_text("raise SystemExit('imported')")
    served = serve()
    for option in ("import", "plugins"):
        response = await send(served, place, {option: str(tmp_path / "plugin.py")})
        assert error_of(response, 422).code == "unknown_option"
        body = {option: [str(tmp_path / "plugin.py")]}
        response = await served.client.post("/reload", json=body)
        assert error_of(response, 422)


async def test_an_answer_with_keypoints_says_what_they_are(serve: Serve) -> None:
    described = {"keypoint_names": ("head", "hand"), "keypoint_skeleton": ((0, 1),)}
    detector = FakeDetector(task="keypoint_detection", **described)
    answer = answer_of(await post(serve(detector), 1))
    assert answer.model.keypoint_names == ["head", "hand"]
    assert answer.model.keypoint_skeleton == [(0, 1)]


async def test_what_a_model_gives_is_what_is_answered(serve: Serve) -> None:
    detector = FakeDetector(
        outputs=("sem_seg", "panoptic_seg"), stuff_class_names=("things", "sky")
    )
    segments = torch.ones(32, 32, dtype=torch.int32)
    infos = [{"id": 1, "isthing": False, "category_id": 1, "area": 1024}]
    detector.predicts = lambda _: Prediction(
        sem_seg=segments.to(torch.int16), panoptic_seg=(segments, infos)
    )
    served = serve(detector)
    [prediction] = answer_of(await post(served, 1)).predictions
    assert set(prediction.model_dump(exclude_unset=True)) == {
        "image", "sem_seg", "panoptic_seg", "batch_size",
    }  # fmt: skip
    [prediction] = answer_of(await post(served, 1, params={"segmentation": "none"})).predictions
    assert set(prediction.model_dump(exclude_unset=True)) == {"image", "batch_size"}


# --- the answer around the instances ----------------------------------------------------------------


async def test_the_answer_names_the_model_its_version_and_its_weights(serve: Serve) -> None:
    assert answer_of(await post(serve(), 1)).model.model_dump() == {
        "name": "shapes", "version": "1", "architecture": "FakeRCNN",
        "weights_sha256": f"{1:064x}", "keypoint_names": None, "keypoint_skeleton": None,
    }  # fmt: skip


async def test_the_request_id_of_the_client_comes_back(serve: Serve) -> None:
    response = await post(serve(), 1, headers={"X-Request-ID": "my-id.1"})
    assert answer_of(response).request_id == "my-id.1"
    assert response.headers["x-request-id"] == "my-id.1"


async def test_without_one_each_request_gets_its_own_id(serve: Serve) -> None:
    served = serve()
    ids = [answer_of(await post(served, 1)).request_id for _ in range(2)]
    assert len(set(ids)) == 2
    assert all(ids)


async def test_timing_tells_every_stage_within_the_total(serve: Serve) -> None:
    timing = answer_of(await post(serve(), 1)).timing_ms.model_dump()
    assert list(timing) == ["decode", "queue", "inference", "encode", "total"]
    total = timing.pop("total")
    assert all(0 <= stage <= total for stage in timing.values())


async def test_images_that_ran_together_say_so(serve: Serve) -> None:
    served = serve()
    first = await occupied(served, 1)
    second = asyncio.ensure_future(post(served, 2, 3))
    while served.runtime.scheduler.waiting < 2:
        await asyncio.sleep(0)
    served.detector.go.set()
    assert [p.batch_size for p in answer_of(await first).predictions] == [1]
    assert [p.batch_size for p in answer_of(await second).predictions] == [2, 2]


# --- images that cannot be used ---------------------------------------------------------------------


async def test_an_unusable_image_gets_its_error_in_place(serve: Serve) -> None:
    sent = [*files(1), ("images", ("bad.png", picture(2)[:40])), *files(3)]
    response = await serve().client.post("/predict", files=sent)
    first, second, third = answer_of(response).predictions
    assert (first.error, third.error) == (None, None)
    assert second.error is not None
    assert second.error.code == "invalid_image"
    assert second.instances is None
    assert second.image.name == "bad.png"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"plain text", 415, "unsupported_image_format"),
        (picture(1)[:40], 422, "invalid_image"),
        (picture(1, (8, 600)), 413, "image_too_large"),
    ],
    ids=["no image", "cut short", "too large"],
)
async def test_a_single_unusable_image_is_answered_with_its_own_code(
    serve: Serve, data: bytes, status: int, code: str
) -> None:
    response = await serve(max_side=500).client.post("/predict", content=data)
    assert error_of(response, status).code == code


async def test_several_unusable_images_of_one_kind_keep_their_code_and_are_listed(
    serve: Serve,
) -> None:
    sent = [("images", (name, b"plain text")) for name in ("a", "b")]
    error = error_of(await serve().client.post("/predict", files=sent), 415)
    assert error.code == "unsupported_image_format"
    assert [item["image"] for item in error.details["errors"]] == ["a", "b"]


async def test_unusable_images_of_several_kinds_are_422(serve: Serve) -> None:
    sent = [("images", ("a", b"plain text")), ("images", ("b", picture(1)[:40]))]
    error = error_of(await serve().client.post("/predict", files=sent), 422)
    assert error.code == "no_usable_image"
    assert [item["code"] for item in error.details["errors"]] == [
        "unsupported_image_format", "invalid_image",
    ]  # fmt: skip


async def test_a_model_failure_on_the_only_image_is_500_without_its_cause(serve: Serve) -> None:
    served = serve()
    served.detector.fail_on = {1}
    response = await post(served, 1)
    assert error_of(response, 500).code == "inference_failed"
    assert "kernel" not in response.text


async def test_an_image_that_does_not_fit_the_device_is_507(serve: Serve) -> None:
    served = serve()
    served.detector.fits = 0
    assert error_of(await post(served, 1), 507).code == "out_of_device_memory"


async def test_too_many_images_are_413(serve: Serve) -> None:
    assert error_of(await post(serve(max_images=2), 1, 2, 3), 413).code == "too_many_images"


async def test_more_images_than_the_house_holds_are_413_and_not_429(serve: Serve) -> None:
    served = serve(max_queue=2)
    assert error_of(await post(served, 1, 2, 3), 413).code == "too_many_images"


@pytest.mark.parametrize("cap", [2**63, 2**64, 10**40])
async def test_a_number_of_any_size_is_refused_in_our_shape(serve: Serve, cap: int) -> None:
    served = serve()
    for options in ({"params": {"max_detections": cap}}, {"data": {"max_detections": str(cap)}}):
        files = {"images": picture(1)}
        response = await served.client.post("/predict", files=files, **options)
        assert error_of(response, 422).code == "invalid_option"


# --- a busy, a slow, a dying server -------------------------------------------------------------------


async def test_a_full_queue_is_429_with_retry_after(serve: Serve) -> None:
    served = serve(max_queue=1)
    running = await occupied(served, 1)
    response = await post(served, 2)
    assert error_of(response, 429).code == "queue_full"
    assert int(response.headers["retry-after"]) >= 1
    labels = {"model": "shapes", "version": "1", "outcome": "queue_full"}
    assert served.metric("predictions_total", **labels) == 1
    served.detector.go.set()
    answer_of(await running)
    answer_of(await post(served, 3))


async def test_a_full_queue_is_told_before_the_body_is_read(serve: Serve) -> None:
    served = serve(max_queue=1)
    running = await occupied(served, 1)
    response = await served.client.post("/predict", content=b"plain text")
    assert error_of(response, 429).code == "queue_full"
    served.detector.go.set()
    answer_of(await running)


async def test_places_are_given_back_after_every_outcome(serve: Serve) -> None:
    served = serve()
    served.detector.fail_on = {9}
    await post(served, 1, 2)
    await post(served, 9)
    await served.client.post("/predict", content=b"plain text")
    assert served.runtime.scheduler.depth == 0
    assert served.runtime.repository.get().current.leases == 0


async def test_a_missed_deadline_is_504(serve: Serve) -> None:
    served = serve(request_timeout_s=0.05)
    served.detector.go.clear()
    error = error_of(await post(served, 1, 2), 504)
    assert (error.code, error.details) == ("deadline_missed", {"limit_s": 0.05})
    labels = {"model": "shapes", "version": "1"}
    assert served.metric("predictions_total", **labels, outcome="deadline") == 2
    assert served.metric("predictions_total", **labels, outcome="disconnected") == 0
    assert served.runtime.scheduler.depth == 0


async def test_a_client_that_leaves_takes_its_waiting_work_along(serve: Serve) -> None:
    served = serve()
    running = await occupied(served, 1)
    leave, sent = asyncio.Event(), []
    messages = [{"type": "http.request", "body": picture(2), "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "root_path": "", "headers": [(b"content-type", b"image/png")], "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }  # fmt: skip
    leaving = asyncio.ensure_future(served.app(scope, receive, send))
    while not served.runtime.scheduler.waiting:
        await asyncio.sleep(0)
    leave.set()
    await leaving
    assert [message.get("status") for message in sent[:1]] == [499]
    assert served.runtime.scheduler.depth == 1
    served.detector.go.set()
    answer_of(await running)
    answer_of(await post(served, 3))
    assert served.detector.batches == [[1], [3]]
    labels = {"model": "shapes", "version": "1", "outcome": "disconnected"}
    assert served.metric("predictions_total", **labels) == 1
    http = {"method": "POST", "route": "/predict", "code": "499"}
    assert served.metric("http_requests_total", **http) == 1


async def test_before_a_model_is_loaded_the_answer_is_503(serve: Serve) -> None:
    assert error_of(await post(serve(load=False), 1), 503).code == "not_ready"


async def test_when_the_model_thread_has_died_the_answer_is_503(serve: Serve) -> None:
    served = serve()
    served.runtime.scheduler.close()
    assert error_of(await post(served, 1), 503).code == "not_ready"


async def test_a_draining_server_still_answers_what_arrives(serve: Serve) -> None:
    served = serve()
    served.runtime.draining = True
    answer_of(await post(served, 1))


async def test_images_of_a_request_are_answered_by_one_version_across_a_reload(
    serve: Serve,
) -> None:
    served = serve(max_batch_size=1)
    old = served.detector
    running = await occupied(served, 1, 2, 3)
    begun = await served.client.post("/reload", json={"wait": False})
    assert begun.status_code == 202
    while not served.runtime.scheduler._calls:  # the check of the new version stands in line
        await asyncio.sleep(0)
    old.go.set()
    response = await running
    answer_of(response)
    job = served.runtime.repository.jobs.get(begun.json()["id"])
    assert await asyncio.to_thread(job.finished.wait, 20)
    assert {number_of(p) for p in response.json()["predictions"]} == {1}
    assert number_of((await post(served, 4)).json()["predictions"][0]) == 2
