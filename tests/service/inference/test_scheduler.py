"""The scheduler: what runs together, in which order, and what a failure costs."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_detector import PATIENCE_S, STEP, FakeDetector, pixels

from models.structures import Instances
from service.errors import (
    ApiError,
    InternalError,
    OutOfDeviceMemory,
    QueueFull,
    TooLarge,
    Unavailable,
)
from service.inference.detector import PreparedImage, Views
from service.inference.scheduler import (
    BatchRecord,
    Inference,
    Scheduler,
    StalePreparation,
)
from service.repository.repository import ModelSource, ServedModel
from service.repository.version import ModelVersion, RequestLease

pytestmark = pytest.mark.anyio
BIG = (64, 64)


class Observer:
    """What the scheduler reported."""

    def __init__(self) -> None:
        self.batches: list[BatchRecord] = []
        self.out_of_memories: list[str] = []

    def batch_done(self, batch: BatchRecord) -> None:
        self.batches.append(batch)

    def out_of_memory(self, model: str, action: str) -> None:
        self.out_of_memories.append(action)


class Bench:
    """A scheduler, one model on it, and what the scheduler reported."""

    def __init__(self, **options: Any) -> None:
        self.observer = Observer()
        defaults = {
            "max_batch_size": 8, "max_batch_pixels": 10**9, "max_wait_s": 0.0, "max_queue": 100,
            "model_threads": 1, "observer": self.observer,
        }  # fmt: skip
        self.scheduler = Scheduler(**(defaults | options))
        self.detector = FakeDetector()
        source = ModelSource(Path("config.yaml"), Path("model_final.pth"))
        self.model = ServedModel("shapes", source, ModelVersion("shapes", 1, self.detector))

    def swap(self, **described: Any) -> FakeDetector:
        """Make a next version current."""
        number = self.model.current.number + 1
        detector = FakeDetector(number, **described)
        self.model.current = ModelVersion("shapes", number, detector)
        return detector

    async def send(
        self,
        *marks: int,
        size: tuple[int, int] = (32, 32),
        lease: RequestLease | None = None,
        model: ServedModel | None = None,
    ) -> list[asyncio.Task[Inference]]:
        """Queue images, one request each unless a lease joins them."""
        model = model or self.model
        tasks = [
            asyncio.ensure_future(
                self.scheduler.infer(
                    model,
                    model.current.detector.prepare(pixels(mark, size)),
                    lease or RequestLease(),
                )
            )
            for mark in marks
        ]
        await asyncio.sleep(0)  # one turn of the loop: each has queued its image
        return tasks

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The model thread is busy: what is sent meanwhile waits."""
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

    def settle(self) -> None:
        """Wait until the model thread is behind its running batch, its report included."""
        self.scheduler.call(lambda: None).result(PATIENCE_S)


Benches = Callable[..., Bench]


@pytest.fixture
def bench() -> Iterator[Benches]:
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for one in made:
        one.detector.go.set()
        one.scheduler.close()


async def answers(tasks: list[asyncio.Task[Inference]]) -> list[Inference]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks)


async def outcomes(tasks: list[asyncio.Task[Inference]]) -> list[Inference | BaseException]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def failure(work: Coroutine[Any, Any, Inference] | asyncio.Task[Inference]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await work
    return caught.value


def told_mark(instances: Instances) -> int:
    return int(instances.pred_boxes.tensor[0, 1] / STEP)


# --- what runs together -----------------------------------------------------------------------


async def test_an_idle_model_runs_a_single_image_at_once(bench: Benches) -> None:
    one = bench()
    [answer] = await answers(await one.send(7))
    one.settle()
    assert (answer.batch_size, told_mark(answer.prediction.instances)) == (1, 7)
    assert one.observer.batches[0].reason == "idle"


async def test_images_that_wait_while_the_model_is_busy_run_together(bench: Benches) -> None:
    one = bench()
    with one.busy():
        tasks = await one.send(1, 2, 3)
    found = await answers(tasks)
    assert one.detector.batches == [[1, 2, 3]]
    assert [told_mark(answer.prediction.instances) for answer in found] == [1, 2, 3]
    assert {answer.batch_size for answer in found} == {3}


async def test_the_oldest_image_decides_and_those_of_its_size_go_along(bench: Benches) -> None:
    one = bench()
    with one.busy():
        tasks = [
            *await one.send(1),
            *await one.send(2, size=BIG),
            *await one.send(3),
            *await one.send(4, size=BIG),
            *await one.send(5),
        ]
    await answers(tasks)
    assert one.detector.batches == [[1, 3, 5], [2, 4]]


async def test_images_of_different_sizes_share_a_batch_if_their_padded_sizes_are_equal(
    bench: Benches,
) -> None:
    one = bench()
    with one.busy():
        tasks = [*await one.send(1, size=(32, 32)), *await one.send(2, size=(16, 32))]
    await answers(tasks)
    one.settle()
    assert one.detector.batches == [[1, 2]]
    assert one.observer.batches[0].padding_ratio == pytest.approx(0.25)


async def test_images_of_different_models_never_share_a_batch(bench: Benches) -> None:
    one = bench()
    other_detector = FakeDetector(9)
    other = ServedModel("other", one.model.source, ModelVersion("other", 1, other_detector))
    with one.busy():
        tasks = [*await one.send(1), *await one.send(2, model=other), *await one.send(3)]
    await answers(tasks)
    assert (one.detector.batches, other_detector.batches) == ([[1, 3]], [[2]])


async def test_a_batch_is_capped_by_count(bench: Benches) -> None:
    one = bench(max_batch_size=2)
    with one.busy():
        tasks = await one.send(1, 2, 3, 4, 5)
    await answers(tasks)
    one.settle()
    assert one.detector.batches == [[1, 2], [3, 4], [5]]
    assert [batch.reason for batch in one.observer.batches] == ["full", "full", "idle"]


async def test_a_batch_is_capped_by_padded_pixels(bench: Benches) -> None:
    one = bench(max_batch_pixels=2 * 32 * 32 + 1)
    with one.busy():
        tasks = await one.send(1, 2, 3)
    await answers(tasks)
    one.settle()
    assert one.detector.batches == [[1, 2], [3]]
    assert [batch.reason for batch in one.observer.batches] == ["pixels", "idle"]


async def test_an_image_over_the_pixels_of_a_batch_runs_alone(bench: Benches) -> None:
    one = bench(max_batch_pixels=100)
    with one.busy():
        tasks = await one.send(1, 2)
    await answers(tasks)
    assert one.detector.batches == [[1], [2]]


def with_views(bench: Bench, mark: int, sizes: tuple[int, ...] = (32,)) -> PreparedImage:
    return bench.detector.prepare(pixels(mark), tta=Views(sizes, 64, flip=True))


async def test_an_image_with_views_shares_no_batch(bench: Benches) -> None:
    it = bench()
    with it.busy():
        images = [it.detector.prepare(pixels(1)), with_views(it, 2), with_views(it, 3)]
        images.append(it.detector.prepare(pixels(4)))
        tasks = [
            asyncio.ensure_future(it.scheduler.infer(it.model, image, RequestLease()))
            for image in images
        ]
        await asyncio.sleep(0)
    assert [inference.batch_size for inference in await answers(tasks)] == [2, 1, 1, 2]
    assert it.detector.batches == [[1, 4], [2], [3]]


async def test_the_views_of_an_image_may_exceed_the_pixels_of_a_batch(bench: Benches) -> None:
    it = bench(max_batch_pixels=32 * 32)
    image = with_views(it, 1, sizes=(64, 128))
    [inference] = await answers(
        [asyncio.ensure_future(it.scheduler.infer(it.model, image, RequestLease()))]
    )
    assert inference.batch_size == 1


async def test_the_bytes_that_wait_are_those_of_the_views_too(bench: Benches) -> None:
    it = bench()
    with it.busy():
        task = asyncio.ensure_future(
            it.scheduler.infer(it.model, with_views(it, 1, sizes=(64, 128)), RequestLease())
        )
        await asyncio.sleep(0)
        assert it.scheduler.waiting_bytes == 3 * (32**2 + 2 * 64**2 + 2 * 128**2)
    await answers([task])


async def test_a_report_tells_model_version_waits_and_durations(bench: Benches) -> None:
    one = bench()
    await answers(await one.send(1))
    one.settle()
    [batch] = one.observer.batches
    assert (batch.model, batch.version, batch.size, batch.padding_ratio) == ("shapes", "1", 1, 0)
    assert len(batch.queue_s) == 1
    assert min(batch.queue_s[0], batch.inference_s) >= 0


# --- waiting for company ------------------------------------------------------------------------


async def test_with_max_wait_an_image_waits_and_leaves_with_reason_timeout(
    bench: Benches,
) -> None:
    one = bench(max_wait_s=0.02)
    [answer] = await answers(await one.send(1))
    one.settle()
    assert one.observer.batches[0].reason == "timeout"
    assert answer.queue_s >= 0.02


async def test_with_max_wait_an_image_waits_until_its_batch_is_full(bench: Benches) -> None:
    one = bench(max_wait_s=1000, max_batch_size=2)
    first = await one.send(1)
    one.settle()  # the model thread has seen the first alone
    await answers([*first, *await one.send(2)])
    one.settle()
    assert one.detector.batches == [[1, 2]]
    assert one.observer.batches[0].reason == "full"


async def test_with_max_wait_a_batch_that_pixels_keep_from_growing_does_not_wait(
    bench: Benches,
) -> None:
    one = bench(max_wait_s=1000, max_batch_pixels=100)
    await answers(await one.send(1))
    one.settle()
    assert one.observer.batches[0].reason == "pixels"


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 3, 6])
async def test_a_failing_batch_is_bisected_until_only_the_bad_image_fails(
    bench: Benches, bad: int
) -> None:
    one = bench()
    one.detector.fail_on = {bad}
    with one.busy():
        tasks = await one.send(*range(7))
    found = await outcomes(tasks)
    assert isinstance(found[bad], InternalError)
    assert found[bad].code == "inference_failed"
    good = [mark for mark in range(7) if mark != bad]
    assert [told_mark(found[mark].prediction.instances) for mark in good] == good


async def test_a_refusal_by_the_detector_itself_reaches_the_client_as_it_is(
    bench: Benches,
) -> None:
    one = bench()
    one.detector.fail_on = {1}
    one.detector.error = lambda: TooLarge("too_many_boxes", "Too many.")
    [task] = await one.send(1)
    assert (await failure(task)).code == "too_many_boxes"


async def test_out_of_memory_halves_the_batch(bench: Benches) -> None:
    one = bench()
    one.detector.fits = 1
    with one.busy():
        tasks = await one.send(1, 2, 3)
    found = await answers(tasks)
    one.settle()
    assert [told_mark(answer.prediction.instances) for answer in found] == [1, 2, 3]
    assert one.observer.out_of_memories == ["split", "split"]
    assert [batch.size for batch in one.observer.batches] == [1, 1, 1]


async def test_an_image_that_alone_is_out_of_memory_gets_507(bench: Benches) -> None:
    one = bench()
    one.detector.fits = 0
    [task] = await one.send(1)
    error = await failure(task)
    one.settle()
    assert isinstance(error, OutOfDeviceMemory)
    assert one.observer.out_of_memories == ["rejected"]


async def test_the_halves_run_when_the_failed_batch_holds_no_memory_any_more(
    bench: Benches,
) -> None:
    one = bench()

    class Activations:
        """What a forward pass holds."""

    alive: list[weakref.ref[Activations]] = []
    alive_at_start: list[bool] = []

    def run_out(found: list[Instances]) -> list[Instances]:
        alive_at_start.append(any(reference() is not None for reference in alive))
        activations = Activations()
        alive.append(weakref.ref(activations))
        if len(found) > 1:
            raise MemoryError
        return found

    one.detector.answers = run_out
    with one.busy():
        tasks = await one.send(1, 2, 3, 4)
    await answers(tasks)
    assert alive_at_start == [False] * 7


@pytest.mark.parametrize("wrong", [lambda found: found[1:], lambda found: [*found, found[0]]])
async def test_a_wrong_number_of_answers_fails_that_image_alone(
    bench: Benches, wrong: Callable[[list[Instances]], list[Instances]]
) -> None:
    one = bench()
    one.detector.answers = wrong
    [task] = await one.send(1)
    assert (await failure(task)).code == "inference_failed"
    one.detector.answers = lambda found: found
    [answer] = await answers(await one.send(2))
    assert told_mark(answer.prediction.instances) == 2


async def test_a_broken_observer_costs_nobody_an_answer(bench: Benches) -> None:
    class Broken:
        def batch_done(self, batch: BatchRecord) -> None:
            raise RuntimeError("batch_done")

        def out_of_memory(self, model: str, action: str) -> None:
            raise RuntimeError("out_of_memory")

    one = bench(observer=Broken())
    one.detector.fits = 1
    with one.busy():
        tasks = await one.send(1, 2, 3)
    assert len(await answers(tasks)) == 3
    assert one.scheduler.alive


async def test_an_unexpected_error_answers_the_batch_and_leaves_the_thread_alive(
    bench: Benches,
) -> None:
    one = bench()

    class Unreadable:
        @property
        def name(self) -> str:
            return "unreadable"

        @property
        def current(self) -> ModelVersion:
            raise RuntimeError("a defect")

    image = one.detector.prepare(pixels(1))
    error = await failure(one.scheduler.infer(Unreadable(), image, RequestLease()))
    assert error.code == "inference_failed"
    assert len(await answers(await one.send(2))) == 1


# --- clients that leave ---------------------------------------------------------------------------


async def test_a_cancelled_image_never_reaches_the_model(bench: Benches) -> None:
    one = bench()
    with one.busy():
        first, gone, last = await one.send(1, 2, 3)
        gone.cancel()
        await asyncio.wait([gone])
    await answers([first, last])
    assert one.detector.batches == [[1, 3]]


async def test_cancelled_images_leave_the_queue_even_when_nothing_else_is_in_it(
    bench: Benches,
) -> None:
    one = bench()
    with one.busy():
        [gone] = await one.send(1)
        assert (one.scheduler.waiting, one.scheduler.waiting_bytes) == (1, 3 * 32 * 32)
        gone.cancel()
        await asyncio.wait([gone])
    one.settle()
    [task] = await one.send(2)
    await answers([task])
    assert (one.scheduler.waiting, one.scheduler.waiting_bytes) == (0, 0)
    assert one.detector.batches == [[2]]


async def test_an_image_cancelled_while_it_runs_does_not_disturb_its_batch(
    bench: Benches,
) -> None:
    one = bench()
    one.detector.go.clear()
    with one.busy():
        tasks = await one.send(1, 2)
    await asyncio.to_thread(one.detector.entered)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    one.detector.go.set()
    [answer] = await answers(tasks[1:])
    assert told_mark(answer.prediction.instances) == 2


# --- admission ------------------------------------------------------------------------------------


async def test_a_full_house_is_429_with_retry_after(bench: Benches) -> None:
    one = bench(max_queue=3)
    one.scheduler.reserve(2)
    with pytest.raises(QueueFull) as caught:
        one.scheduler.reserve(2)
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert caught.value.details["queued"] == 2
    assert caught.value.details["capacity"] == 3
    assert one.scheduler.depth == 2


async def test_places_that_are_given_back_can_be_taken_again(bench: Benches) -> None:
    one = bench(max_queue=2)
    one.scheduler.reserve(2)
    one.scheduler.unreserve(1)
    one.scheduler.reserve(1)
    assert one.scheduler.depth == 2


async def test_retry_after_is_the_time_that_the_house_needs(
    bench: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench(max_queue=4)
    monkeypatch.setattr(one.scheduler, "_seconds_per_image", 2.6)
    one.scheduler.reserve(4)
    with pytest.raises(QueueFull) as caught:
        one.scheduler.reserve(1)
    assert caught.value.headers["Retry-After"] == "11"


async def test_more_images_than_the_house_holds_are_refused_for_good(bench: Benches) -> None:
    one = bench(max_queue=3)
    with pytest.raises(TooLarge) as caught:
        one.scheduler.reserve(4)
    assert (caught.value.details["limit"], caught.value.details["value"]) == (3, 4)


# --- swaps ----------------------------------------------------------------------------------------


async def test_queued_images_run_on_the_version_that_is_current_when_they_run(
    bench: Benches,
) -> None:
    one = bench()
    with one.busy():
        tasks = await one.send(1)
        new = one.swap()
    [answer] = await answers(tasks)
    assert (answer.version.number, one.detector.batches, new.batches) == (2, [], [[1]])


async def test_all_images_of_a_request_run_on_one_version_across_a_swap(bench: Benches) -> None:
    one = bench(max_batch_size=1)
    one.detector.go.clear()
    lease = RequestLease()
    tasks = await one.send(1, 2, lease=lease)
    await asyncio.to_thread(one.detector.entered)
    new = one.swap()
    others = await one.send(3)
    one.detector.go.set()
    found = await answers([*tasks, *others])
    assert [answer.version.number for answer in found] == [1, 1, 2]
    assert (one.detector.batches, new.batches) == ([[1], [2]], [[3]])


async def test_a_request_on_the_old_version_never_shares_a_batch_with_new_work(
    bench: Benches,
) -> None:
    one = bench()
    lease = RequestLease()
    await answers(await one.send(1, lease=lease))
    new = one.swap()
    with one.busy():
        tasks = [*await one.send(2, lease=lease), *await one.send(3)]
    found = await answers(tasks)
    assert [answer.version.number for answer in found] == [1, 2]
    assert (one.detector.batches, new.batches) == ([[1], [2]], [[3]])


async def test_a_new_recipe_asks_for_the_image_anew_and_keeps_the_request_on_the_new_version(
    bench: Benches,
) -> None:
    one = bench()
    lease = RequestLease()
    with one.busy():
        [task] = await one.send(1, lease=lease)
        new = one.swap(recipe="bgr")
    [stale] = await outcomes([task])
    assert isinstance(stale, StalePreparation)
    assert stale.version is one.model.current
    one.swap()  # a later swap does not move the request again
    image = stale.version.detector.prepare(pixels(1))
    assert (await one.scheduler.infer(one.model, image, lease)).version.number == 2
    assert (one.detector.batches, new.batches) == ([], [[1]])


async def test_a_stale_image_does_not_hold_up_the_fresh_ones_of_its_batch(bench: Benches) -> None:
    one = bench()
    with one.busy():
        [stale] = await one.send(1)
        one.swap(recipe="bgr")
        [fresh] = await one.send(2)
    first, second = await outcomes([stale, fresh])
    assert isinstance(first, StalePreparation)
    assert isinstance(second, Inference)


async def test_a_running_image_leases_its_version_until_its_request_ends(bench: Benches) -> None:
    one = bench()
    version, lease = one.model.current, RequestLease()
    await answers(await one.send(1, 2, lease=lease))
    assert version.leases == 1
    lease.end()
    assert version.leases == 0


# --- calls and the end ----------------------------------------------------------------------------


async def test_a_call_runs_between_batches_on_the_model_thread(bench: Benches) -> None:
    one = bench(max_batch_size=1)
    one.detector.go.clear()
    tasks = await one.send(1, 2)
    await asyncio.to_thread(one.detector.entered)
    seen = one.scheduler.call(
        lambda: (threading.current_thread().name, [list(batch) for batch in one.detector.batches])
    )
    one.detector.go.set()
    assert await asyncio.to_thread(seen.result, PATIENCE_S) == ("model", [[1]])
    await answers(tasks)


async def test_what_a_call_raises_belongs_to_its_caller(bench: Benches) -> None:
    one = bench()
    with pytest.raises(ZeroDivisionError):
        one.scheduler.call(lambda: 1 / 0).result(PATIENCE_S)
    assert len(await answers(await one.send(1))) == 1


async def test_a_call_cancelled_in_time_does_not_run(bench: Benches) -> None:
    one = bench()
    ran: list[int] = []
    with one.busy():
        future = one.scheduler.call(lambda: ran.append(1))
        assert future.cancel()
    one.settle()
    assert ran == []


async def test_busy_for_counts_while_a_batch_runs_and_is_zero_when_idle(bench: Benches) -> None:
    one = bench()
    before = one.scheduler.heartbeat
    with one.busy():
        assert one.scheduler.busy_for() > 0
    assert len(await answers(await one.send(1))) == 1
    await asyncio.to_thread(one.scheduler.close)
    assert one.scheduler.busy_for() == 0
    assert one.scheduler.heartbeat >= before


async def test_close_answers_what_waits_with_503_and_ends_behind_the_running_batch(
    bench: Benches,
) -> None:
    one = bench(max_batch_size=1)
    one.detector.go.clear()
    running, waiting = await one.send(1, 2)
    await asyncio.to_thread(one.detector.entered)
    closing = asyncio.create_task(asyncio.to_thread(one.scheduler.close))
    assert isinstance(await failure(waiting), Unavailable)
    one.detector.go.set()
    assert told_mark((await running).prediction.instances) == 1
    await closing
    assert not one.scheduler.alive
    assert one.detector.batches == [[1]]


async def test_after_close_nothing_is_taken(bench: Benches) -> None:
    one = bench()
    one.scheduler.close()
    [task] = await one.send(1)
    assert isinstance(await failure(task), Unavailable)
    with pytest.raises(Unavailable):
        one.scheduler.call(lambda: None)


def test_an_answer_whose_event_loop_has_closed_is_dropped(bench: Benches) -> None:
    one = bench()
    one.detector.go.clear()

    async def leave() -> None:
        await one.send(1)
        await asyncio.to_thread(one.detector.entered)

    asyncio.run(leave())
    one.detector.go.set()
    one.settle()
    assert one.scheduler.alive
