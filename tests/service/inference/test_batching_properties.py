"""Whatever comes in whatever order: who shares a batch, and that each answer is of its own image."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fake_detector import PATIENCE_S, FakeDetector, mark_of, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scheduler_bench import Bench, told_mark

from service.errors import ApiError
from service.inference.detector import PreparedImage, Views
from service.inference.work import Inference
from service.repository.version import RequestLease

SIZES = [
    (32, 32),
    (16, 20),
    (32, 64),
    (64, 64),
    (50, 64),
]  # the second and last share a padded size
VIEWS = Views((32, 64), 64, flip=True)
MODELS = 2


@dataclass(frozen=True)
class Sent:
    """One image that a test sends; its place in the list is its mark."""

    model: int
    size: tuple[int, int]
    views: bool
    fate: str  # fine, broken, cancelled


@dataclass(frozen=True)
class Limits:
    """What a batch may hold, and what the device's memory does."""

    images: int
    pixels: int
    fits: int


SENT = st.lists(
    st.builds(
        Sent,
        model=st.integers(0, MODELS - 1),
        size=st.sampled_from(SIZES),
        views=st.sampled_from([False] * 5 + [True]),
        fate=st.sampled_from(["fine"] * 4 + ["broken", "cancelled"]),
    ),
    max_size=24,
)
LIMITS = st.builds(
    Limits,
    images=st.integers(1, 6),
    pixels=st.sampled_from([1, 2 * 32 * 32, 3 * 64 * 64, 10**9]),
    fits=st.sampled_from([1, 2, 3, 100]),
)


class Recorder(FakeDetector):
    """Keeps the images of every batch."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.ran: list[list[PreparedImage]] = []

    def infer(self, batch: Any, pause: Any = None) -> Any:
        self.ran.append(list(batch))
        return super().infer(batch, pause)


@dataclass
class Outcome:
    """What the models were given, and what became of each image."""

    ran: list[list[list[PreparedImage]]]
    found: list[Any]
    bench: Bench


def run(sent: list[Sent], limits: Limits) -> Outcome:
    """Queue all of ``sent`` while the model is busy, cancel what is to be, and let the rest run."""

    async def play() -> Outcome:
        bench = Bench(max_batch_size=limits.images, max_batch_pixels=limits.pixels)
        detectors = [Recorder(number) for number in range(MODELS)]
        models = [bench.serve(f"model-{i}", detector) for i, detector in enumerate(detectors)]
        for i, detector in enumerate(detectors):
            detector.fits = limits.fits
            detector.fail_on = {
                mark for mark, one in enumerate(sent) if one.fate == "broken" and one.model == i
            }
        try:
            with bench.busy():
                tasks = []
                for mark, one in enumerate(sent):
                    tta = VIEWS if one.views else None
                    image = detectors[one.model].prepare(pixels(mark, one.size), tta=tta)
                    work = bench.scheduler.infer(models[one.model], image, RequestLease())
                    tasks.append(asyncio.ensure_future(work))
                await asyncio.sleep(0)
                for task, one in zip(tasks, sent, strict=True):
                    if one.fate == "cancelled":
                        task.cancel()
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE_S):
                found = await asyncio.gather(*tasks, return_exceptions=True)
            bench.settle()
        finally:
            bench.scheduler.close()
        return Outcome([detector.ran for detector in detectors], found, bench)

    return asyncio.run(play())


property_test = settings(
    max_examples=40,
    derandomize=True,  # the same examples on every machine
    deadline=None,  # no test times the machine
    suppress_health_check=[HealthCheck.too_slow],
)


@property_test
@given(SENT, LIMITS)
def test_each_answer_belongs_to_its_image_and_only_the_broken_fail(
    sent: list[Sent], limits: Limits
) -> None:
    for mark, (one, found) in enumerate(zip(sent, run(sent, limits).found, strict=True)):
        if one.fate == "cancelled":
            assert isinstance(found, asyncio.CancelledError)
        elif one.fate == "broken":
            assert isinstance(found, ApiError)
            assert found.code == "inference_failed"
        else:
            assert isinstance(found, Inference)
            assert told_mark(found.prediction.instances) == mark
            assert found.version.model == f"model-{one.model}"


@property_test
@given(SENT, LIMITS)
def test_a_batch_holds_images_of_one_padded_size_within_the_limits(
    sent: list[Sent], limits: Limits
) -> None:
    for batches in run(sent, limits).ran:
        for batch in batches:
            assert len({image.padded_size for image in batch}) == 1
            assert len(batch) <= limits.images
            area = sum(image.padded_pixels for image in batch)
            assert area <= limits.pixels or len(batch) == 1
            assert len(batch) == 1 or not any(image.views for image in batch)


@property_test
@given(SENT, LIMITS)
def test_nothing_is_lost_or_runs_twice_and_what_is_cancelled_never_runs(
    sent: list[Sent], limits: Limits
) -> None:
    outcome = run(sent, Limits(limits.images, limits.pixels, fits=100))
    for model, batches in enumerate(outcome.ran):
        counts = Counter(mark_of(image) for batch in batches for image in batch)
        mine = {mark: one for mark, one in enumerate(sent) if one.model == model}
        assert set(counts) == {mark for mark, one in mine.items() if one.fate != "cancelled"}
        # A batch with a broken image runs again in halves.
        if all(one.fate != "broken" for one in mine.values()):
            assert set(counts.values()) <= {1}


@property_test
@given(SENT, LIMITS)
def test_the_oldest_image_of_a_model_is_always_in_its_next_batch(
    sent: list[Sent], limits: Limits
) -> None:
    sent = [Sent(one.model, one.size, one.views, "fine") for one in sent]
    outcome = run(sent, Limits(limits.images, limits.pixels, fits=100))
    for model, batches in enumerate(outcome.ran):
        waiting = [mark for mark, one in enumerate(sent) if one.model == model]
        for batch in batches:
            marks = [mark_of(image) for image in batch]
            assert marks[0] == waiting[0]
            assert marks == sorted(marks)  # in the order of arrival
            # Who was left behind is not like them, or came after the last of a full batch.
            waiting = [mark for mark in waiting if mark not in marks]
        assert waiting == []


@property_test
@given(SENT, LIMITS)
def test_a_batch_leaves_only_when_no_more_can_go_with_it(sent: list[Sent], limits: Limits) -> None:
    sent = [Sent(one.model, one.size, one.views, "fine") for one in sent]
    outcome = run(sent, Limits(limits.images, limits.pixels, fits=100))
    for model, batches in enumerate(outcome.ran):
        records = [one for one in outcome.bench.observer.batches if one.model == f"model-{model}"]
        for number, (batch, record) in enumerate(zip(batches, records, strict=True)):
            first = batch[0]
            by_pixels = max(1, limits.pixels // first.padded_pixels)
            later = [image for batch in batches[number + 1 :] for image in batch]
            alike = [i for i in later if i.padded_size == first.padded_size and not i.views]
            if first.views:
                assert (len(batch), record.reason) == (1, "views")
            elif len(batch) == limits.images:
                assert record.reason == "full"
            elif len(batch) == by_pixels:
                assert record.reason == "pixels"
            else:
                assert (record.reason, alike) == ("idle", [])


@property_test
@given(SENT, LIMITS)
def test_a_shape_that_ran_out_of_memory_does_so_no_more(sent: list[Sent], limits: Limits) -> None:
    sent = [Sent(one.model, one.size, one.views, "fine") for one in sent]
    outcome = run(sent, limits)
    for batches in outcome.ran:
        failed: dict[tuple[int, int], int] = {}
        for batch in batches:
            size = batch[0].padded_size
            assert len(batch) < failed.get(size, 10**9)
            if len(batch) > limits.fits:
                failed[size] = len(batch)
    splits = outcome.bench.observer.out_of_memories.count("split")
    assert splits <= 3 * MODELS * len(SIZES)  # 6 images are halved 3 times


def test_the_properties_see_batches_of_several_images() -> None:
    sent = [Sent(0, SIZES[i % 2], False, "fine") for i in range(4)]
    outcome = run(sent, Limits(images=4, pixels=10**9, fits=100))
    assert [len(batch) for batch in outcome.ran[0]] == [4]
