"""Images that nobody waits for any more: they cost the model nothing."""

import asyncio

import pytest
from fake_detector import pixels
from scheduler_bench import Benches, answers, outcomes, told_mark

from service.repository.version import RequestLease

pytestmark = pytest.mark.anyio


async def test_a_cancelled_image_never_reaches_the_model_nor_takes_a_place_in_a_batch(
    bench: Benches,
) -> None:
    one = bench(max_batch_size=2)
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


async def test_an_image_past_its_deadline_never_reaches_the_model(bench: Benches) -> None:
    one = bench()
    image = one.detector.prepare(pixels(1))

    async def within(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await one.scheduler.infer(one.model, image, RequestLease())

    with one.busy():
        with pytest.raises(TimeoutError):
            await within(0)
        tasks = await one.send(2)
    await answers(tasks)
    assert one.detector.batches == [[2]]


async def test_an_image_cancelled_while_its_batch_fails_does_not_run_again(bench: Benches) -> None:
    one = bench()
    one.detector.fail_on = {1}
    one.detector.go.clear()
    with one.busy():
        bad, good, gone = await one.send(1, 2, 3)
    await asyncio.to_thread(one.detector.entered)
    gone.cancel()
    await asyncio.wait([gone])
    one.detector.go.set()
    await outcomes([bad, good])
    assert one.detector.batches == [[1, 2, 3], [1, 2], [1], [2]]
