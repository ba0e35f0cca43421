"""The queue: what runs together, in which order, and what leaves it without a run."""

import asyncio
from typing import Any

import pytest
from fake_detector import FakeDetector, pixels
from scheduler_bench import BIG, Bench, Benches, answers, told_mark

from service.inference.detector import PreparedImage, Views
from service.repository.model_settings import Batching
from service.repository.served import ServedModel
from service.repository.version import RequestLease

pytestmark = pytest.mark.anyio


# --- what runs together -----------------------------------------------------------------------------


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
    other = one.serve("other", other_detector)
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


async def test_a_rare_shape_is_not_starved_by_a_common_one(bench: Benches) -> None:
    one = bench(max_batch_size=2)
    one.detector.go.clear()
    with one.busy():
        tasks = [*await one.send(1, 2), *await one.send(99, size=BIG), *await one.send(3)]
    await asyncio.to_thread(one.detector.entered)
    tasks += await one.send(*range(4, 20))  # full batches of the common one, without end
    one.detector.go.set()
    await answers(tasks)
    assert one.detector.batches[:2] == [[1, 2], [99]]


async def test_a_flooded_model_does_not_starve_another(bench: Benches) -> None:
    one = bench(max_batch_size=2)
    other = one.serve("other", FakeDetector(2))
    with one.busy():
        tasks = [*await one.send(*range(20)), *await one.send(1, model=other)]
    await answers(tasks)
    one.settle()
    order = [batch.model for batch in one.observer.batches]
    assert order == ["shapes", "other", *["shapes"] * 9]


async def test_a_model_that_takes_over_a_name_shares_no_batch_with_the_one_before(
    bench: Benches,
) -> None:
    one = bench()
    later = one.serve("shapes", FakeDetector(2))
    with one.busy():
        tasks = [*await one.send(1), *await one.send(2, model=later)]
    found = await answers(tasks)
    assert [answer.batch_size for answer in found] == [1, 1]
    assert [answer.version for answer in found] == [one.model.current, later.current]


# --- waiting for company ----------------------------------------------------------------------------


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


async def test_with_max_wait_a_full_batch_does_not_wait_behind_one_that_does(
    bench: Benches,
) -> None:
    one = bench(max_wait_s=1000, max_batch_size=2)
    first = await one.send(1)
    one.settle()
    await answers(await one.send(2, 3, size=BIG))
    assert one.detector.batches == [[2, 3]]
    await answers([*first, *await one.send(4)])
    assert one.detector.batches == [[2, 3], [1, 4]]


async def test_with_max_wait_another_model_does_not_wait_for_company_of_the_first(
    bench: Benches,
) -> None:
    one = bench(max_wait_s=1000, max_batch_size=2)
    detector = FakeDetector(2)
    other = one.serve("other", detector)
    first = await one.send(1)
    one.settle()
    await answers(await one.send(2, 3, model=other))
    assert (one.detector.batches, detector.batches) == ([], [[2, 3]])
    await answers([*first, *await one.send(4)])


async def test_with_max_wait_an_image_with_views_does_not_wait_for_company_that_cannot_come(
    bench: Benches,
) -> None:
    one = bench(max_wait_s=1000)
    image = with_views(one, 1)
    await answers([asyncio.ensure_future(one.scheduler.infer(one.model, image, RequestLease()))])
    one.settle()
    assert one.observer.batches[0].reason == "views"


# --- bounds of a model's own ------------------------------------------------------------------------


def bounded(one: Bench, name: str = "own", **bounds: Any) -> ServedModel:
    # Not validated: a test's window may be longer than any that a model.yaml may name.
    batching = Batching.model_construct(**bounds)
    return one.serve(name, FakeDetector(2, batching=batching))


def marks(model: ServedModel) -> list[list[int]]:
    detector = model.current.detector
    assert isinstance(detector, FakeDetector)
    return detector.batches


async def test_a_model_may_want_smaller_batches_than_the_server_allows(bench: Benches) -> None:
    one = bench(max_batch_size=8)
    model = bounded(one, max_batch_size=2)
    with one.busy():
        tasks = [*await one.send(1, 2, 3), *await one.send(4, 5, 6, model=model)]
    await answers(tasks)
    one.settle()
    assert one.detector.batches == [[1, 2, 3]]
    assert marks(model) == [[4, 5], [6]]
    own = [batch.reason for batch in one.observer.batches if batch.model == "own"]
    assert own == ["full", "idle"]


async def test_a_model_may_want_fewer_pixels_together(bench: Benches) -> None:
    one = bench()
    model = bounded(one, max_batch_pixels=2 * 32 * 32)
    with one.busy():
        tasks = await one.send(1, 2, 3, model=model)
    await answers(tasks)
    one.settle()
    assert marks(model) == [[1, 2], [3]]
    assert one.observer.batches[0].reason == "pixels"


async def test_a_models_bounds_are_within_the_servers(bench: Benches) -> None:
    one = bench(max_batch_size=2, max_batch_pixels=3 * 32 * 32)
    by_count = bounded(one, "count", max_batch_size=100)
    by_pixels = bounded(one, "pixels", max_batch_pixels=10**9)
    with one.busy():
        tasks = await one.send(1, 2, 3, model=by_count)
        tasks += await one.send(4, 5, size=BIG, model=by_pixels)
    await answers(tasks)
    assert marks(by_count) == [[1, 2], [3]]
    assert marks(by_pixels) == [[4], [5]]


async def test_a_models_own_window_holds_its_images_alone(bench: Benches) -> None:
    one = bench(max_wait_s=0)
    model = bounded(one, max_batch_size=2, max_wait_ms=1_000_000)
    first = await one.send(1, model=model)
    one.settle()  # the model thread has seen it alone
    await answers(await one.send(2))
    assert (one.detector.batches, marks(model)) == ([[2]], [])
    await answers([*first, *await one.send(3, model=model)])
    assert marks(model) == [[1, 3]]


async def test_a_model_may_wait_less_than_the_server_says(bench: Benches) -> None:
    one = bench(max_wait_s=1000)
    [answer] = await answers(await one.send(1, model=bounded(one, max_wait_ms=0)))
    one.settle()
    assert answer.batch_size == 1
    assert one.observer.batches[0].reason == "idle"


async def test_a_window_that_ends_first_is_not_hidden_by_a_longer_one(bench: Benches) -> None:
    one = bench(max_wait_s=1000)
    model = bounded(one, max_wait_ms=20)
    long = await one.send(1)
    [answer] = await answers(await one.send(2, model=model))
    assert answer.queue_s >= 0.02
    assert one.detector.batches == []
    await answers([*long, *await one.send(*range(3, 10))])


async def test_a_swap_brings_the_bounds_of_the_new_version(bench: Benches) -> None:
    one = bench()
    with one.busy():
        tasks = await one.send(1, 2, 3)
        later = one.swap(batching=Batching(max_batch_size=2))
    await answers(tasks)
    assert (one.detector.batches, later.batches) == ([], [[1, 2], [3]])
