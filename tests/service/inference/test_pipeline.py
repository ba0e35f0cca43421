"""The way of one image: order, errors in place, one version per request, and what is counted."""

import asyncio
from itertools import chain
from typing import Any

import pytest
import torch
from fake_detector import FakeDetector, FakeLoader, picture
from fake_server import Serve, Served

from service.errors import DeadlineMissed, TooLarge
from service.inference.detector import Prediction
from service.inference.pipeline import ImageAnswer
from service.repository.version import ModelVersion, RequestLease
from service.schemas.options import PredictOptions
from service.uploads import Upload

pytestmark = pytest.mark.anyio


def upload(mark: int, size: tuple[int, int] = (32, 32)) -> Upload:
    return Upload(f"{mark}.png", picture(mark, size))


async def predict(
    served: Served, *uploads: Upload, lease: RequestLease | None = None, **options: Any
) -> list[ImageAnswer]:
    timeout_s = options.pop("timeout_s", 20)
    used = lease or RequestLease()
    try:
        return await served.runtime.pipeline.predict(
            uploads,
            served.runtime.repository.get(),
            PredictOptions(**options),
            used,
            timeout_s=timeout_s,
        )
    finally:
        used.end()


def counted(served: Served, outcome: str, version: str = "1") -> float | None:
    return served.metric("predictions_total", model="shapes", version=version, outcome=outcome)


async def test_answers_come_in_the_order_of_the_images_whatever_their_batches(
    serve: Serve,
) -> None:
    answers = await predict(serve(), upload(1), upload(2, (64, 96)), upload(3))
    assert [answer.name for answer in answers] == ["1.png", "2.png", "3.png"]
    assert [(answer.height, answer.width) for answer in answers] == [(32, 32), (64, 96), (32, 32)]
    assert all(answer.outputs and answer.error is None for answer in answers)


async def test_a_bad_image_has_its_error_in_place_and_never_reaches_the_model(
    serve: Serve,
) -> None:
    served = serve()
    answers = await predict(served, upload(1), Upload("bad.png", b"GIF89a broken"), upload(3))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert sorted(chain(*served.detector.batches)) == [1, 3]


async def test_an_error_of_the_upload_itself_is_handed_on(serve: Serve) -> None:
    refusal = TooLarge("too_large", "Too large.")
    [answer] = await predict(serve(), Upload("a.png", None, refusal))
    assert answer.error is refusal


async def test_a_model_failure_on_one_image_leaves_the_others(serve: Serve) -> None:
    served = serve()
    served.detector.fail_on = {2}
    answers = await predict(served, upload(1), upload(2), upload(3))
    assert [answer.error and answer.error.code for answer in answers] == [
        None, "inference_failed", None,
    ]  # fmt: skip


async def test_an_unexpected_error_costs_its_image_alone(serve: Serve) -> None:
    served = serve()
    prepare = served.detector.prepare

    def sometimes(pixels: Any, **options: Any) -> Any:
        if pixels[0, 0, 0] == 2:
            raise RuntimeError("a defect")
        return prepare(pixels, **options)

    served.detector.prepare = sometimes  # type: ignore[method-assign]  # fails for one image
    answers = await predict(served, upload(1), upload(2), upload(3))
    assert [answer.error and (answer.error.status, answer.error.code) for answer in answers] == [
        None, (500, "image_failed"), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (picture(1), "ok"),
        (b"no image at all", "invalid_image"),
        (picture(1, (8, 600)), "too_large"),
    ],
    ids=["good", "no image", "too large"],
)
async def test_every_image_is_counted_once_by_its_outcome(
    serve: Serve, data: bytes, outcome: str
) -> None:
    served = serve(max_side=500)
    await predict(served, Upload("a", data))
    others = {"ok", "invalid_image", "too_large", "error", "oom"} - {outcome}
    assert counted(served, outcome) == 1
    assert [counted(served, other) for other in others] == [0] * len(others)


async def test_an_image_that_does_not_fit_the_device_is_counted_as_oom(serve: Serve) -> None:
    served = serve()
    served.detector.fits = 0
    [answer] = await predict(served, upload(1))
    assert answer.error is not None
    assert answer.error.status == 507
    assert counted(served, "oom") == 1
    assert served.metric("oom_total", model="shapes", action="rejected") == 1


async def test_a_missed_deadline_drops_what_waits_and_counts_each_image_once(
    serve: Serve,
) -> None:
    served = serve(max_batch_size=1)
    served.detector.go.clear()
    with pytest.raises(DeadlineMissed):
        await predict(served, upload(1), upload(2), timeout_s=0.05)
    served.detector.go.set()
    assert counted(served, "deadline") == 2
    assert counted(served, "disconnected") == 0
    await predict(served, upload(3))
    ran = list(chain(*served.detector.batches))
    assert len(ran) <= 2  # at most the one that was with the model, and this one


async def test_images_of_a_client_that_left_are_counted_as_disconnected(serve: Serve) -> None:
    served = serve(max_batch_size=1)
    served.detector.go.clear()
    task = asyncio.ensure_future(predict(served, upload(1), upload(2)))
    await asyncio.to_thread(served.detector.entered)
    task.cancel()
    await asyncio.wait([task])
    assert counted(served, "disconnected") == 2
    assert counted(served, "deadline") == 0


async def test_detections_scores_and_stages_are_observed(serve: Serve) -> None:
    served = serve()
    await predict(served, upload(1))
    key = {"model": "shapes", "version": "1"}
    assert served.metric("detections_per_image_sum", **key) == 3
    assert served.metric("detection_score_count", **key) == 3
    assert served.metric("detection_score_sum", **key) == pytest.approx(1.8)
    for stage in ("decode", "encode"):
        labels = {"model": "shapes", "stage": stage}
        assert served.metric("stage_duration_seconds_count", **labels) == 1


async def test_filters_act_on_the_answer_and_not_on_what_is_observed(serve: Serve) -> None:
    served = serve()
    [answer] = await predict(served, upload(1), score_threshold=0.5)
    assert answer.outputs is not None
    assert len(answer.outputs["instances"]["scores"]) == 2
    assert served.metric("detections_per_image_sum", model="shapes", version="1") == 3


async def test_a_swap_to_another_recipe_prepares_the_waiting_image_again(serve: Serve) -> None:
    old, new = FakeDetector(1), FakeDetector(2, recipe="bgr")
    served = serve(loader=FakeLoader(old))
    model = served.runtime.repository.get()
    lease = RequestLease()
    old.go.clear()
    blocking = asyncio.ensure_future(predict(served, upload(1)))
    await asyncio.to_thread(old.entered)
    waiting = asyncio.ensure_future(predict(served, upload(2), lease=lease))
    while not served.runtime.scheduler.waiting:
        await asyncio.sleep(0)
    model.current = ModelVersion("shapes", "2", new)
    served.runtime.metrics.version_ready(model.current)
    old.go.set()
    [first], [second] = await blocking, await waiting
    assert first.error is None
    assert second.error is None
    assert lease.version is model.current
    assert (old.batches, new.batches) == ([[1]], [[2]])


async def test_options_that_the_new_version_refuses_are_an_error_in_place(
    serve: Serve,
) -> None:
    served = serve()
    model = served.runtime.repository.get()
    model.current = ModelVersion("shapes", "2", FakeDetector(2, class_names=("car",)))
    served.runtime.metrics.version_ready(model.current)
    [answer] = await predict(served, upload(1), classes=["disc"])
    assert answer.error is not None
    assert answer.error.code == "unknown_class"


async def test_a_swap_to_a_model_that_takes_proposals_is_an_error_in_place(serve: Serve) -> None:
    old, new = FakeDetector(1), FakeDetector(2, recipe="with proposals", takes_proposals=True)
    served = serve(loader=FakeLoader(old))
    model = served.runtime.repository.get()
    old.go.clear()
    blocking = asyncio.ensure_future(predict(served, upload(1)))
    await asyncio.to_thread(old.entered)
    waiting = asyncio.ensure_future(predict(served, upload(2)))
    while not served.runtime.scheduler.waiting:
        await asyncio.sleep(0)
    model.current = ModelVersion("shapes", "2", new)
    served.runtime.metrics.version_ready(model.current)
    old.go.set()
    [first], [second] = await blocking, await waiting
    assert first.error is None
    assert second.error is not None
    assert second.error.code == "proposals_required"
    assert new.batches == []


async def test_without_instances_no_detections_are_observed(serve: Serve) -> None:
    detector = FakeDetector(outputs=("sem_seg",), stuff_class_names=("things",))
    detector.predicts = lambda image: Prediction(
        sem_seg=torch.zeros(image.height, image.width, dtype=torch.int16)
    )
    served = serve(detector)
    [answer] = await predict(served, upload(1))
    assert answer.error is None
    assert answer.outputs is not None
    assert list(answer.outputs) == ["sem_seg"]
    key = {"model": "shapes", "version": "1"}
    assert served.metric("detections_per_image_count", **key) == 0
    assert served.metric("detection_score_count", **key) == 0
    assert counted(served, "ok") == 1
