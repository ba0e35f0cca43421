"""The run of a batch: what a failure costs, and whom."""

import weakref
from collections.abc import Callable

import pytest
from fake_detector import pixels
from scheduler_bench import Benches, answers, failure, outcomes, told_mark

from models.structures import Instances
from service.errors import InternalError, OutOfDeviceMemory, TooLarge
from service.inference.work import BatchRecord
from service.repository.version import ModelVersion, RequestLease

pytestmark = pytest.mark.anyio


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


async def test_a_batch_that_ran_out_of_memory_caps_the_later_ones(bench: Benches) -> None:
    one = bench()
    one.detector.fits = 2
    for _ in range(2):
        with one.busy():
            tasks = await one.send(1, 2, 3, 4)
        found = await answers(tasks)
        assert [told_mark(answer.prediction.instances) for answer in found] == [1, 2, 3, 4]
    one.settle()
    assert one.detector.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [1, 2], [3, 4]]
    assert one.observer.out_of_memories == ["split"]
    assert one.observer.memory_caps == [("shapes", "1", 2, 2 * 32 * 32)]
    reasons = [batch.reason for batch in one.observer.batches]
    assert reasons == ["split", "split", "memory", "memory"]


async def test_the_cap_is_logged_once_with_what_to_do(
    bench: Benches, caplog: pytest.LogCaptureFixture
) -> None:
    one = bench()
    one.detector.fits = 2
    for _ in range(3):
        with one.busy():
            tasks = await one.send(1, 2, 3, 4)
        await answers(tasks)
    [message] = caplog.messages
    assert message == (
        "shapes:1: 4 images of 32x32 (padded) ran out of the device's memory; batches of that size "
        "hold at most 2 for now. max_batch_pixels=2048 avoids it."
    )


async def test_a_new_version_starts_without_the_cap_of_the_old_one(bench: Benches) -> None:
    one = bench()
    one.detector.fits = 1
    with one.busy():
        tasks = await one.send(1, 2)
    await answers(tasks)
    new = one.swap()
    with one.busy():
        tasks = await one.send(3, 4)
    await answers(tasks)
    assert new.batches == [[3, 4]]


async def test_a_failure_of_another_kind_is_no_cap(bench: Benches) -> None:
    one = bench()
    one.detector.fail_on = {1}
    with one.busy():
        tasks = await one.send(1, 2)
    await outcomes(tasks)
    one.detector.fail_on = set()
    with one.busy():
        tasks = await one.send(3, 4)
    await answers(tasks)
    one.settle()
    assert one.detector.batches[-1] == [3, 4]
    assert one.observer.memory_caps == []
    assert [batch.reason for batch in one.observer.batches] == ["split", "idle"]


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
    assert alive_at_start == [False] * 6  # 4; 2, 1, 1; what is left is known to run one by one


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

        def memory_cap(self, model: str, version: str, images: int, pixels: int) -> None:
            raise RuntimeError("memory_cap")

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
