"""A candidate in the shadow: what it takes, that it waits for traffic, what it drops, and how it ends."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fake_detector import PATIENCE_S, FakeDetector, pixels
from prometheus_client import CollectorRegistry, generate_latest

from models.structures import Instances
from models.wanted import Wanted
from service.errors import Conflict, Unprocessable
from service.inference.detector import Prediction, PreparedImage, Views
from service.inference.scheduler import Scheduler
from service.inference.threads import Workers
from service.inference.work import Inference
from service.metrics import Metrics
from service.repository.shadow.queue import MOST_IMAGES
from service.repository.shadow.shadowing import Shadow
from service.repository.version import ModelVersion, RequestLease
from service.shadow_metrics import ShadowMetrics

pytestmark = pytest.mark.anyio


class Model:
    """A served model, as far as a shadow knows it."""

    name = "shapes"

    def __init__(self, current: ModelVersion) -> None:
        self.current = current
        self.shadow: Shadow | None = None


class House:
    """A model with a current version and a candidate, and what runs them."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(
            max_batch_size=8, max_batch_pixels=10**9, max_wait_s=0, max_queue=100, model_threads=1,
            observer=Metrics(),
        )  # fmt: skip
        self.workers = Workers(1)
        self.registry = CollectorRegistry()
        self.metrics = ShadowMetrics(self.registry)
        self.model = Model(ModelVersion("shapes", "1", FakeDetector(1)))
        self.candidate = self.load("2")

    @property
    def fake(self) -> FakeDetector:
        """The candidate's detector."""
        return fake_of(self.candidate)

    def load(self, label: str, **described: Any) -> ModelVersion:
        return ModelVersion("shapes", label, FakeDetector(1, **described))

    def start(self, share: float = 1.0) -> Shadow:
        return Shadow.start(
            self.model,
            self.candidate,
            share,
            scheduler=self.scheduler,
            workers=self.workers,
            metrics=self.metrics,
        )

    def offer(self, *marks: int, **changes: Any) -> None:
        """Images that a version has answered, the current one unless another is named."""
        shadow = self.model.shadow
        assert shadow is not None
        version = changes.pop("version", self.model.current)
        tta = changes.pop("tta", None)
        wanted = changes.pop("wanted", Wanted(0.05))
        for mark in marks:
            image = version.detector.prepare(pixels(mark), tta=tta)
            image = PreparedImage(**{**vars(image), "wanted": wanted})
            prediction = changes.get("prediction") or version.detector.infer([image])[0]
            shadow.offer(
                image,
                Inference(prediction, version, 2, 0.0, 0.5),
                name=f"{mark}.png",
                request_id=f"r{mark}",
                data=bytes([mark]),
                prepare=lambda data, version: version.detector.prepare(pixels(data[0])),
            )

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The model thread has something to do."""
        entered, go = threading.Event(), threading.Event()

        def occupy() -> None:
            entered.set()
            assert go.wait(PATIENCE_S)

        self.scheduler.call(occupy)
        assert entered.wait(PATIENCE_S)
        try:
            yield
        finally:
            go.set()

    async def settled(self, images: int) -> dict[str, Any]:
        """The report, once so many images have had their end."""
        shadow = self.model.shadow
        assert shadow is not None
        await until(lambda: ended(shadow) >= images)
        return shadow.report()

    def close(self) -> None:
        for version in (self.model.current, self.candidate):
            fake_of(version).go.set()
        if self.model.shadow is not None:
            self.model.shadow.close()
        self.scheduler.close()
        self.workers.close()


def fake_of(version: ModelVersion) -> FakeDetector:
    detector = version.detector
    assert isinstance(detector, FakeDetector)
    return detector


def ended(shadow: Shadow) -> int:
    images = shadow.report()["images"]
    return int(images["compared"] + images["dropped"] + images["failed"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


# --- what it takes ----------------------------------------------------------------------------------


async def test_an_image_of_the_current_version_is_compared(house: House) -> None:
    house.start()
    house.offer(3)
    report = await house.settled(1)
    assert house.fake.batches == [[3]]
    assert report["images"] == {"offered": 1, "compared": 1, "dropped": 0, "failed": 0}
    assert report["instances"]["matched"] == 3
    assert report["instances"]["matched_share"] == 1.0
    assert report["inference_s"]["current"] == 0.25  # half of a batch of two
    assert (report["model"], report["current"], report["candidate"]) == ("shapes", "1", "2")


async def test_differences_are_told_with_the_image_and_the_request(house: House) -> None:
    def moved(answers: list[Instances]) -> list[Instances]:
        for one in answers:
            one.scores = torch.tensor([0.65, 0.6, 0.3])
            one.pred_classes = torch.tensor([0, 1, 3])
        return answers

    house.fake.answers = moved
    house.start()
    house.offer(3)
    report = await house.settled(1)
    assert report["class_changes"] == [{"from": "star, red", "to": "1", "count": 1}]
    assert report["score_shift"]["max"] == pytest.approx(0.25)
    [one] = report["most_different"]
    assert (one["image"], one["request_id"], one["class_changed"]) == ("3.png", "r3", 1)


async def test_a_share_of_the_images_is_taken(house: House) -> None:
    house.start(share=0.25)
    taken = 0
    for mark in range(100):
        house.offer(mark)
        await until(lambda: ended_or_idle(house))
        taken = len(house.fake.batches)
    report = await house.settled(taken)
    assert report["images"]["offered"] == 100
    assert 10 < report["images"]["compared"] < 40


def ended_or_idle(house: House) -> bool:
    """Whether nothing is under way: the next image cannot be dropped."""
    shadow = house.model.shadow
    assert shadow is not None
    return shadow.idle


async def test_answers_of_other_versions_and_of_augmentation_are_no_business_of_it(
    house: House,
) -> None:
    house.start()
    house.offer(1, version=house.candidate)
    house.offer(2, version=house.load("0"))
    house.offer(3, tta=Views((64,), 128, flip=False))
    house.offer(4, prediction=Prediction())
    house.fake.batches.clear()
    house.offer(5)
    report = await house.settled(1)
    assert report["images"]["offered"] == 1
    assert house.fake.batches == [[5]]


async def test_overrides_go_only_to_a_candidate_that_takes_them(house: House) -> None:
    house.start()
    house.offer(1, wanted=Wanted(0.05, nms_threshold=0.3))
    house.offer(2)
    assert (await house.settled(1))["images"]["offered"] == 1
    assert house.fake.batches == [[2]]
    house.candidate = house.load("3", takes_overrides=True)
    house.start()
    house.offer(3, wanted=Wanted(0.05, nms_threshold=0.3))
    assert (await house.settled(1))["images"]["compared"] == 1
    assert house.fake.batches == [[3]]


async def test_a_candidate_of_the_same_recipe_gets_the_image_as_it_is(house: House) -> None:
    house.start()
    house.offer(3)
    await house.settled(1)
    assert house.fake.given == []


async def test_a_candidate_of_another_recipe_has_it_prepared_anew(house: House) -> None:
    house.candidate = house.load("2", recipe="bgr")
    house.start()
    house.offer(3)
    report = await house.settled(1)
    assert report["images"]["compared"] == 1
    assert len(house.fake.given) == 1
    assert house.fake.batches == [[3]]


async def test_the_candidate_finds_all_classes_at_the_threshold_of_the_request(
    house: House,
) -> None:
    asked: list[Wanted] = []

    def answer(image: PreparedImage) -> Prediction:
        asked.append(image.wanted)
        return Prediction(instances=fake_of(house.model.current).infer([image])[0].instances)

    house.fake.predicts = answer
    house.start()
    house.offer(3, wanted=Wanted(0.5, class_ids=frozenset({0}), max_detections=1, masks=False))
    report = await house.settled(1)
    assert asked == [Wanted(0.5, class_ids=None, max_detections=-1, masks=False)]
    assert report["instances"]["matched"] == 1
    assert report["instances"]["only_candidate"] == 0


# --- traffic goes first -----------------------------------------------------------------------------


async def test_the_candidate_waits_while_batches_wait(house: House) -> None:
    order: list[str] = []

    def noting(name: str, fake: FakeDetector) -> Callable[[list[Instances]], list[Instances]]:
        def note(answers: list[Instances]) -> list[Instances]:
            order.append(name)
            return answers

        return note

    current = fake_of(house.model.current)
    house.start()
    with house.busy():
        house.offer(1)
        current.answers = noting("current", current)
        house.fake.answers = noting("candidate", house.fake)
        await asyncio.sleep(0)  # one turn of the loop: the shadow has asked for the model thread
        images = [current.prepare(pixels(mark, (32 * mark, 32))) for mark in (2, 3)]
        traffic = [
            asyncio.ensure_future(house.scheduler.infer(house.model, image, RequestLease()))
            for image in images
        ]
        await until(lambda: house.scheduler.waiting == 2)
    await asyncio.gather(*traffic)
    await house.settled(1)
    assert order == ["current", "current", "candidate"]


async def test_what_finds_no_room_is_dropped_and_counted(house: House) -> None:
    house.start()
    with house.busy():
        house.offer(1)
        await asyncio.sleep(0)  # that one waits for the model thread, no longer in the queue
        house.offer(*range(2, MOST_IMAGES + 4))
    report = await house.settled(MOST_IMAGES + 3)
    assert report["images"] == {
        "offered": MOST_IMAGES + 3, "compared": MOST_IMAGES + 1, "dropped": 2, "failed": 0,
    }  # fmt: skip
    assert house.fake.batches == [[mark] for mark in range(1, MOST_IMAGES + 2)]


# --- a candidate that fails -------------------------------------------------------------------------


async def test_a_failing_candidate_is_counted_logged_once_and_goes_on(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.fake.fail_on = {1, 2}
    house.start()
    with caplog.at_level(logging.WARNING, logger="service.repository.shadow.shadowing"):
        house.offer(1, 2, 3)
        report = await house.settled(3)
    assert report["images"] == {"offered": 3, "compared": 1, "dropped": 0, "failed": 2}
    assert report["last_error"] == "RuntimeError"
    assert len(caplog.records) == 1


async def test_out_of_memory_is_a_failure_too(house: House) -> None:
    house.fake.fits = 0
    house.start()
    house.offer(1)
    report = await house.settled(1)
    assert report["images"]["failed"] == 1
    assert report["last_error"] == "OutOfMemoryError"


async def test_an_image_that_cannot_be_prepared_for_the_candidate_is_a_failure(
    house: House,
) -> None:
    house.candidate = house.load("2", recipe="bgr")

    def refuse(*args: Any, **options: Any) -> PreparedImage:
        raise ValueError("a picture that this model cannot take")

    house.fake.prepare = refuse  # type: ignore[method-assign]  # fails for every image
    house.start()
    house.offer(1)
    report = await house.settled(1)
    assert (report["images"]["failed"], report["last_error"]) == (1, "ValueError")


async def test_a_candidate_that_answers_without_instances_fails(house: House) -> None:
    house.fake.predicts = lambda image: Prediction()
    house.start()
    house.offer(1)
    assert (await house.settled(1))["images"]["failed"] == 1


async def test_an_offer_never_raises(house: House, caplog: pytest.LogCaptureFixture) -> None:
    shadow = house.start()
    with caplog.at_level(logging.ERROR, logger="service.repository.shadow.shadowing"):
        shadow.offer(None, None, name="", request_id="", data=b"", prepare=None)  # type: ignore[arg-type]  # a defect of ours
    assert len(caplog.records) == 1


async def test_a_stopping_server_drops_what_is_offered(house: House) -> None:
    house.start()
    house.scheduler.close()
    house.offer(1)
    assert (await house.settled(1))["images"]["dropped"] == 1


# --- beginning and end ------------------------------------------------------------------------------


async def test_it_holds_a_lease_from_its_beginning_to_its_end(house: House) -> None:
    shadow = house.start()
    assert house.candidate.leases == 1
    assert house.model.shadow is shadow
    house.offer(1)
    await house.settled(1)
    assert house.candidate.leases == 1
    shadow.close()
    assert house.candidate.leases == 0
    assert house.model.shadow is None


async def test_a_second_close_does_nothing(house: House) -> None:
    shadow = house.start()
    shadow.close()
    shadow.close()
    assert house.candidate.leases == 0


async def test_closed_while_the_candidate_runs_the_lease_ends_behind_that_image(
    house: House,
) -> None:
    house.fake.go.clear()
    shadow = house.start()
    house.offer(1, 2)
    await asyncio.to_thread(house.fake.entered)
    shadow.close()
    assert house.candidate.leases == 1
    house.fake.go.set()
    assert await asyncio.to_thread(house.candidate.wait_unused, PATIENCE_S)
    house.scheduler.call(lambda: None).result(PATIENCE_S)
    assert house.fake.batches == [[1]]


async def test_closed_while_images_wait_none_of_them_runs(house: House) -> None:
    shadow = house.start()
    with house.busy():
        house.offer(1, 2, 3)
        await asyncio.sleep(0)  # the first waits for the model thread, the others for the first
        shadow.close()
        assert house.candidate.leases == 0
    house.scheduler.call(lambda: None).result(PATIENCE_S)
    house.scheduler.call(lambda: None, when_idle=True).result(PATIENCE_S)
    assert house.fake.batches == []


async def test_closed_while_an_image_is_prepared_it_does_not_run(house: House) -> None:
    house.candidate = house.load("2", recipe="bgr")
    entered, go = threading.Event(), threading.Event()
    prepare = house.fake.prepare

    def slowly(*args: Any, **options: Any) -> PreparedImage:
        entered.set()
        assert go.wait(PATIENCE_S)
        return prepare(*args, **options)

    house.fake.prepare = slowly  # type: ignore[method-assign]  # waits for the test
    shadow = house.start()
    house.offer(1)
    assert await asyncio.to_thread(entered.wait, PATIENCE_S)
    shadow.close()
    go.set()
    await until(lambda: shadow.idle)
    assert house.fake.batches == []
    assert house.candidate.leases == 0


async def test_what_is_offered_behind_the_end_is_left(house: House) -> None:
    shadow = house.start()
    shadow.close()
    house.model.shadow = shadow  # a request that began before
    house.offer(1)
    await asyncio.sleep(0)
    assert house.fake.batches == []


async def test_its_series_are_there_from_the_beginning_to_the_end(house: House) -> None:
    shadow = house.start()
    key = {"model": "shapes", "candidate": "2", "outcome": "compared"}
    assert house.registry.get_sample_value("detserve_shadow_images_total", key) == 0
    house.offer(1)
    await house.settled(1)
    assert house.registry.get_sample_value("detserve_shadow_images_total", key) == 1
    shadow.close()
    assert "shapes" not in generate_latest(house.registry).decode()


async def test_another_takes_its_place_with_figures_of_its_own(house: House) -> None:
    first = house.start()
    house.offer(1)
    await house.settled(1)
    second = house.start(share=0.5)
    assert house.model.shadow is second
    assert house.candidate.leases == 1
    assert second.report()["images"]["offered"] == 0
    key = {"model": "shapes", "candidate": "2", "outcome": "compared"}
    assert house.registry.get_sample_value("detserve_shadow_images_total", key) == 0
    first.close()
    assert house.model.shadow is second


async def test_a_refused_one_leaves_the_other_in_its_place(house: House) -> None:
    first = house.start()
    with pytest.raises(Unprocessable):
        house.start(share=2)
    assert house.model.shadow is first


async def test_a_candidate_that_is_being_unloaded_is_refused(house: House) -> None:
    house.candidate.retire()
    with pytest.raises(Conflict) as caught:
        house.start()
    assert caught.value.code == "version_retired"
    assert house.model.shadow is None
    assert house.candidate.leases == 0


async def test_a_swap_in_the_midst_of_the_beginning_ends_it(house: House) -> None:
    acquire = house.candidate.acquire

    def swapping() -> bool:
        house.model.current = house.candidate
        return acquire()

    house.candidate.acquire = swapping  # type: ignore[method-assign]  # the swap comes just then
    with pytest.raises(Conflict) as caught:
        house.start()
    assert caught.value.code == "version_retired"
    assert house.model.shadow is None
    assert house.candidate.leases == 0


async def test_another_thread_can_end_it(house: House) -> None:
    shadow = house.start()
    with house.busy():
        house.offer(1)
        await asyncio.sleep(0)  # it waits for the model thread
        await asyncio.to_thread(shadow.close)
        await until(lambda: shadow.idle)
    assert house.fake.batches == []
    assert house.candidate.leases == 0
