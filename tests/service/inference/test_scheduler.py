"""The scheduler: admission, swaps, calls on the model thread, and its end."""

import asyncio
import threading

import pytest
from fake_detector import PATIENCE_S, pixels
from scheduler_bench import Benches, answers, failure, outcomes, told_mark

from service.errors import QueueFull, TooLarge, Unavailable
from service.inference.work import Inference, StalePreparation
from service.repository.version import RequestLease

pytestmark = pytest.mark.anyio


# --- admission --------------------------------------------------------------------------------------


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


# --- swaps ------------------------------------------------------------------------------------------


async def test_queued_images_run_on_the_version_that_is_current_when_they_run(
    bench: Benches,
) -> None:
    one = bench()
    with one.busy():
        tasks = await one.send(1)
        new = one.swap()
    [answer] = await answers(tasks)
    assert (answer.version.label, one.detector.batches, new.batches) == ("2", [], [[1]])


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
    assert [answer.version.label for answer in found] == ["1", "1", "2"]
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
    assert [answer.version.label for answer in found] == ["1", "2"]
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
    assert (await one.scheduler.infer(one.model, image, lease)).version.label == "2"
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


# --- calls and the end ------------------------------------------------------------------------------


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
