"""/livez, /readyz and /metrics: probes that are never behind anything."""

import asyncio
import threading

import pytest
from fake_detector import PATIENCE_S, pixels
from fake_server import Serve, Served
from prometheus_client.parser import text_string_to_metric_families

from service import runtime as runtime_module
from service.repository.version import RequestLease
from service.schemas.answers import HealthAnswer

pytestmark = pytest.mark.anyio


async def probe(served: Served, path: str) -> tuple[int, HealthAnswer]:
    response = await served.client.get(path)
    return response.status_code, HealthAnswer.model_validate(response.json())


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_server_with_a_model_is_alive_and_ready(serve: Serve, path: str) -> None:
    assert await probe(serve(), path) == (200, HealthAnswer(status="ok"))


async def test_a_draining_server_is_alive_and_not_ready(serve: Serve) -> None:
    served = serve()
    served.runtime.draining = True
    assert (await probe(served, "/livez"))[0] == 200
    status, answer = await probe(served, "/readyz")
    assert (status, answer.reason) == (503, "the server is draining")


async def test_a_server_without_a_model_is_alive_and_not_ready(serve: Serve) -> None:
    served = serve(load=False)
    assert (await probe(served, "/livez"))[0] == 200
    status, answer = await probe(served, "/readyz")
    assert (status, answer.reason) == (503, "no model is loaded yet")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_server_whose_model_thread_has_died_is_neither(serve: Serve) -> None:
    served = serve()
    scheduler, detector = served.runtime.scheduler, served.detector
    detector.fail_on = {1}
    detector.error = SystemExit  # ends a thread, whatever it guards against
    image = detector.prepare(pixels(1))
    waiting = asyncio.ensure_future(
        scheduler.infer(served.runtime.repository.get(), image, RequestLease())
    )
    await asyncio.to_thread(detector.entered)
    await asyncio.to_thread(scheduler._thread.join, PATIENCE_S)
    waiting.cancel()
    for path in ("/livez", "/readyz"):
        status, answer = await probe(served, path)
        assert (status, answer.reason) == (503, "the model's thread has died")


async def test_a_model_that_hangs_makes_the_server_unready(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "STALLED_AFTER_S", -1.0)
    served = serve()
    entered, go = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert go.wait(PATIENCE_S)

    served.runtime.scheduler.call(hang)
    assert entered.wait(PATIENCE_S)
    status, answer = await probe(served, "/readyz")
    go.set()
    assert status == 503
    assert "busy with one batch" in (answer.reason or "")


async def test_a_full_queue_does_not_keep_probes_out(serve: Serve) -> None:
    served = serve(max_queue=1, admin_token="s3cret")
    served.runtime.scheduler.reserve(1)
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await served.client.get(path)).status_code == 200


async def test_metrics_are_prometheus_text(serve: Serve) -> None:
    response = await serve().client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(response.text)}
    assert {"detserve_queue_depth", "detserve_model_ready"} <= names


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/predict", 405), ("DELETE", "/models", 405)],
)
async def test_an_unknown_path_or_method_has_the_common_error_shape(
    serve: Serve, method: str, path: str, status: int
) -> None:
    response = await serve().client.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message", "request_id"}


async def test_the_apps_end_stops_its_threads(serve: Serve) -> None:
    served = serve()
    async with served.app.router.lifespan_context(served.app):
        assert served.runtime.scheduler.alive
    assert not served.runtime.scheduler.alive
