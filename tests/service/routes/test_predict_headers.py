"""POST /predict: Server-Timing, traces, and the client's deadline in X-Request-Timeout-Ms."""

import asyncio
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fake_detector import FakeDetector, FakeLoader, picture
from fake_server import Serve, Served

from service.logging import configure_logging
from service.schemas.answers import ErrorAnswer

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
STAGES = ["decode", "queue", "inference", "encode", "total"]


async def post(served: Served, mark: int = 1, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.client.post("/predict", content=picture(mark), headers=given)


def error_of(response: httpx.Response, status: int) -> tuple[str, dict[str, object] | None]:
    assert response.status_code == status, response.text
    error = ErrorAnswer.model_validate(response.json()).error
    return error.code, error.details


def durations(header: str) -> dict[str, float]:
    found = [re.fullmatch(r"(\w+);dur=([0-9.]+)", part) for part in header.split(", ")]
    return {match[1]: float(match[2]) for match in found if match is not None}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The JSON log of the process while a test runs."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging(json=True, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


# --- Server-Timing --------------------------------------------------------------------------------


async def test_server_timing_says_what_the_answer_says(serve: Serve) -> None:
    response = await post(serve())
    assert list(durations(response.headers["server-timing"])) == STAGES
    assert durations(response.headers["server-timing"]) == response.json()["timing_ms"]


async def test_server_timing_comes_with_forms_that_have_no_place_for_it(serve: Serve) -> None:
    response = await post(serve(), Accept="text/csv")
    assert response.headers["content-type"].startswith("text/csv")
    assert list(durations(response.headers["server-timing"])) == STAGES


# --- traces ---------------------------------------------------------------------------------------


async def test_a_trace_goes_on_in_the_answer_and_stands_in_the_log(
    serve: Serve, log: io.StringIO
) -> None:
    served = serve()
    response = await post(served, traceparent=TRACEPARENT, tracestate="rojo=1")
    version, trace, span, flags = response.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert response.headers["tracestate"] == "rojo=1"
    logging.getLogger().handlers[0].flush()
    [entry] = [json.loads(line) for line in log.getvalue().splitlines() if '"/predict"' in line]
    assert (entry["trace_id"], entry["span_id"]) == (trace, span)
    assert entry["request_id"] == response.headers["x-request-id"]


async def test_an_error_goes_on_with_the_trace_too(serve: Serve) -> None:
    response = await serve().client.get("/nowhere", headers={"traceparent": TRACEPARENT})
    assert response.status_code == 404
    assert response.headers["traceparent"].startswith(f"00-{TRACE}-")


async def test_a_malformed_trace_is_ignored(serve: Serve) -> None:
    response = await post(serve(), traceparent="00-" + "0" * 32 + "-x-01", tracestate="rojo=1")
    assert response.status_code == 200
    assert "traceparent" not in response.headers
    assert "tracestate" not in response.headers


# --- deadlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "0", "-5", "1.5", "5s", "1e3", "12345678901", "٣"])
async def test_a_bad_timeout_is_refused(serve: Serve, value: str) -> None:
    served = serve()
    headers = {"X-Request-Timeout-Ms": value.encode()}
    response = await served.client.post("/predict", content=picture(1), headers=headers)
    assert error_of(response, 422) == ("invalid_timeout", {"header": "X-Request-Timeout-Ms"})
    assert served.detector.batches == []


async def test_two_timeouts_are_refused(serve: Serve) -> None:
    headers = [("X-Request-Timeout-Ms", "100"), ("X-Request-Timeout-Ms", "200")]
    response = await serve().client.post("/predict", content=picture(1), headers=headers)
    assert error_of(response, 422)[0] == "invalid_timeout"


async def test_a_timeout_that_is_kept_changes_nothing(serve: Serve) -> None:
    assert (await post(serve(), X_Request_Timeout_Ms="60000")).status_code == 200


async def test_a_timeout_never_raises_the_limit_of_the_server(serve: Serve) -> None:
    served = serve(request_timeout_s=0.05)
    served.detector.go.clear()
    response = await post(served, X_Request_Timeout_Ms="9999999999")
    assert error_of(response, 504) == ("deadline_missed", {"limit_s": 0.05})


async def test_what_waits_past_its_deadline_is_dropped_before_the_device(serve: Serve) -> None:
    served = serve()
    served.detector.go.clear()
    running = asyncio.ensure_future(post(served, 1))
    await asyncio.to_thread(served.detector.entered)
    late = await post(served, 2, X_Request_Timeout_Ms="50")
    assert error_of(late, 504) == ("deadline_missed", {"limit_s": 0.05})
    assert "0.05 s" in late.json()["error"]["message"]
    waiting = asyncio.ensure_future(post(served, 3))
    served.detector.go.set()
    assert [(await running).status_code, (await waiting).status_code] == [200, 200]
    assert served.detector.batches == [[1], [3]]
    assert served.runtime.scheduler.depth == 0


async def test_a_body_that_outlasts_the_deadline_is_not_waited_for(serve: Serve) -> None:
    served = serve()

    async def body() -> AsyncIterator[bytes]:
        yield picture(1)[:20]
        await asyncio.Event().wait()

    response = await served.client.post(
        "/predict", content=body(), headers={"X-Request-Timeout-Ms": "30"}
    )
    assert error_of(response, 504) == ("deadline_missed", {"limit_s": 0.03})
    assert response.headers["connection"] == "close"


async def test_each_request_has_its_own_deadline(serve: Serve) -> None:
    served = serve(loader=FakeLoader(FakeDetector()))
    served.detector.go.clear()
    running = asyncio.ensure_future(post(served, 1))
    await asyncio.to_thread(served.detector.entered)
    patient = asyncio.ensure_future(post(served, 2, X_Request_Timeout_Ms="30000"))
    hasty = await post(served, 3, X_Request_Timeout_Ms="40")
    assert error_of(hasty, 504)[1] == {"limit_s": 0.04}
    served.detector.go.set()
    assert [(await running).status_code, (await patient).status_code] == [200, 200]
