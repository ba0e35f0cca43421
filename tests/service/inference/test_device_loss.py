"""An error after which nothing can run any more: everybody is told, and nothing is run."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from fake_detector import PATIENCE_S, FakeDetector, picture
from fake_server import Serve
from scheduler_bench import Benches, answers, failure, outcomes

from models.errors import ModelError
from service.errors import ApiError, Unavailable
from service.inference.detector import Prediction, PreparedImage
from service.inference.work import WorkItem

pytestmark = pytest.mark.anyio
REASON = "the device failed (CUDA error: an illegal memory access was encountered)"


def illegal_access() -> Exception:
    return torch.AcceleratorError(
        "CUDA error: an illegal memory access was encountered\nFor debugging consider ..."
    )


def losing(detector: FakeDetector, *marks: int) -> FakeDetector:
    """The device is lost when ``detector`` runs one of ``marks``."""
    detector.fail_on = set(marks)
    detector.error = illegal_access
    return detector


async def test_what_runs_and_what_waits_gets_503_and_nothing_runs_any_more(bench: Benches) -> None:
    one = bench(max_batch_size=3)
    losing(one.detector, 2)
    with one.busy():
        tasks = await one.send(1, 2, 3, 4, 5)
    found = await outcomes(tasks)
    assert all(isinstance(error, Unavailable) for error in found)
    assert {error.code for error in found if isinstance(error, ApiError)} == {"server_failed"}
    assert all(REASON in str(error) for error in found)
    assert one.detector.batches == [[1, 2, 3]]  # it is not bisected, and 4 and 5 never run
    assert one.scheduler.failure == REASON


async def test_what_comes_later_gets_503_too(bench: Benches) -> None:
    one = bench()
    losing(one.detector, 1)
    await outcomes(await one.send(1))
    await asyncio.to_thread(one.scheduler._thread.join, PATIENCE_S)
    [late] = await one.send(2)
    assert (await failure(late)).code == "server_failed"
    with pytest.raises(Unavailable, match="illegal memory access"):
        one.scheduler.call(lambda: None)
    assert one.detector.batches == [[1]]
    assert not one.scheduler.alive


async def test_the_loss_is_logged_once(bench: Benches, caplog: pytest.LogCaptureFixture) -> None:
    one = bench()
    losing(one.detector, 1)
    with one.busy():
        tasks = await one.send(1, 2, 3)
    await outcomes(tasks)
    await asyncio.to_thread(one.scheduler._thread.join, PATIENCE_S)
    assert caplog.messages == [f"Nothing can run any more: {REASON}"]


async def test_calls_that_wait_are_refused(bench: Benches) -> None:
    one = bench()
    losing(one.detector, 1).go.clear()
    [task] = await one.send(1)
    await asyncio.to_thread(one.detector.entered)
    ran: list[int] = []
    waiting = one.scheduler.call(lambda: ran.append(1))
    one.detector.go.set()
    await outcomes([task])
    with pytest.raises(Unavailable):
        await asyncio.to_thread(waiting.result, PATIENCE_S)
    assert ran == []


async def test_a_call_that_loses_the_device_is_the_end_as_well(bench: Benches) -> None:
    one = bench()

    def check() -> None:
        raise ModelError("The model failed its self-check.") from illegal_access()

    with one.busy():
        call = one.scheduler.call(check)
        tasks = await one.send(1)
    with pytest.raises(ModelError):
        await asyncio.to_thread(call.result, PATIENCE_S)
    assert (await failure(tasks[0])).code == "server_failed"
    assert one.detector.batches == []


async def test_a_loss_between_the_parts_of_a_long_run_ends_that_run_too(bench: Benches) -> None:
    one = bench()

    class Long(FakeDetector):
        def infer(
            self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
        ) -> list[Prediction]:
            self.batches.append([])
            self._entered.put([])
            assert self.go.wait(PATIENCE_S)
            assert pause is not None
            pause()
            raise AssertionError("the run went on on a lost device")

    long = Long()
    model = one.serve("long", long)
    losing(one.detector, 2)
    long.go.clear()
    [first] = await one.send(1, model=model)
    await asyncio.to_thread(long.entered)
    [second] = await one.send(2)
    long.go.set()
    codes = [error.code for error in await outcomes([first, second]) if isinstance(error, ApiError)]
    assert codes == ["server_failed"] * 2


async def test_nobody_hears_of_the_loss_before_the_server_says_so(
    bench: Benches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the readiness probe behind a 503 finds a server that calls itself ready."""
    one = bench(max_batch_size=1)
    losing(one.detector, 1)
    said: list[str | None] = []
    resolve = WorkItem.resolve

    def spy(item: WorkItem, result: Any) -> None:
        said.append(one.scheduler.failure)
        resolve(item, result)

    monkeypatch.setattr(WorkItem, "resolve", spy)
    with one.busy():
        said.clear()
        tasks = await one.send(1, 2)
    await outcomes(tasks)
    assert said[-2:] == [REASON] * 2


async def test_a_call_hears_of_the_loss_when_the_server_says_so(bench: Benches) -> None:
    one = bench()
    said: list[str | None] = []

    def check() -> None:
        raise illegal_access()

    with one.busy():
        call = one.scheduler.call(check)
        call.add_done_callback(lambda _: said.append(one.scheduler.failure))
    with pytest.raises(torch.AcceleratorError):
        await asyncio.to_thread(call.result, PATIENCE_S)
    assert said == [REASON]


async def test_out_of_memory_is_no_loss(bench: Benches) -> None:
    one = bench()
    one.detector.fits = 1
    with one.busy():
        tasks = await one.send(1, 2)
    assert len(await answers(tasks)) == 2
    assert one.scheduler.failure is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_refuses_what_waits(bench: Benches) -> None:
    one = bench(max_batch_size=1)
    losing(one.detector, 1)
    one.detector.error = SystemExit  # type: ignore[assignment]  # ends a thread, whatever it guards against
    with one.busy():
        running, waiting = await one.send(1, 2)
    assert "the model's thread has died" in (await failure(waiting)).message
    running.cancel()


# --- the server ---------------------------------------------------------------------------------


async def post(served: Any, mark: int) -> Any:
    files = {"images": ("a.png", picture(mark))}
    return await served.client.post("/predict", files=files)


async def test_the_server_turns_unready_and_says_why(serve: Serve) -> None:
    served = serve()
    losing(served.detector, 66)
    assert (await post(served, 1)).status_code == 200
    lost = await post(served, 66)
    assert (lost.status_code, lost.json()["error"]["code"]) == (503, "server_failed")
    for path in ("/readyz", "/livez"):
        response = await served.client.get(path)
        assert (response.status_code, response.json()["reason"]) == (503, REASON)
    after = await post(served, 1)
    assert (after.status_code, after.json()["error"]["code"]) == (503, "server_failed")


async def test_a_reload_on_a_lost_device_fails_and_ends(serve: Serve) -> None:
    served = serve()
    losing(served.detector, 66)
    held = threading.Event()
    served.loader.go = held
    reload = asyncio.ensure_future(served.client.post("/reload", json={}))
    while not served.loader.sources[1:]:
        await asyncio.sleep(0)
    await post(served, 66)
    held.set()
    assert (await reload).status_code == 503
