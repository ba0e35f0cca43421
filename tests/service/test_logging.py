"""Log lines: what a request leaves behind, and what a client cannot make of it."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import service.logging
from service.logging import configure_logging, log_request
from service.middleware import RequestRecord


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of the test process, as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    uvicorn = logging.getLogger("uvicorn.error")
    earlier = uvicorn.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)
    uvicorn.setLevel(earlier)


@pytest.fixture
def text(restored: None) -> io.StringIO:
    stream = io.StringIO()
    configure_logging("INFO", stream=stream)
    return stream


@pytest.fixture
def machine(restored: None) -> io.StringIO:
    stream = io.StringIO()
    configure_logging("INFO", json=True, stream=stream)
    return stream


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "method": "POST",
        "path": "/predict",
        "route": "/predict",
        "status": 200,
        "duration_s": 0.0352,
        "request_bytes": 81_200,
        "response_bytes": 12_400,
        "client": "127.0.0.1",
        "request_id": "abc",
    }
    return RequestRecord(**values | changes)


def test_request_is_one_line_with_its_extras(text: io.StringIO) -> None:
    log_request(record(extra={"model": "coco", "images": 2, "queue_ms": 1.23456, "name": "a b"}))
    clock, rest = text.getvalue().split(" ", 1)
    assert len(clock) == 8
    assert rest == (
        "INFO POST /predict 200 35.2 ms in=81 kB out=12 kB id=abc "
        'model=coco images=2 queue_ms=1.235 name="a b"\n'
    )


def test_request_as_json_has_its_facts_as_fields(machine: io.StringIO) -> None:
    log_request(record(extra={"images": 2}))
    entry = json.loads(machine.getvalue())
    assert machine.getvalue().count("\n") == 1
    assert entry["level"] == "INFO"
    assert entry["timestamp"].endswith("Z")
    assert (entry["status"], entry["images"], entry["request_id"]) == (200, 2, "abc")


@pytest.mark.parametrize("forged", ["/x\n12:00:01 INFO all is well", "/\r\x1b[2J", "/\u2028x\x85"])
def test_client_text_stays_on_its_line(text: io.StringIO, forged: str) -> None:
    log_request(record(path=forged, extra={"name": forged}))
    assert len(text.getvalue().splitlines()) == 1
    assert "\x1b" not in text.getvalue()


def test_lone_surrogates_do_not_break_json(
    machine: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To our handler alone: what pytest's own catch cannot be told from one test process to another.
    ours = logging.getLogger().handlers[0]
    monkeypatch.setattr(logging.getLogger("service.requests"), "handle", ours.handle)
    log_request(record(path="/\ud800\n"))
    assert json.loads(machine.getvalue())["level"] == "INFO"


def test_extra_cannot_overwrite_the_level(machine: io.StringIO) -> None:
    log_request(record(extra={"level": "DEBUG"}))
    assert json.loads(machine.getvalue())["level"] == "INFO"


def test_long_path_is_cut(text: io.StringIO) -> None:
    log_request(record(path="/" + "x" * 10_000))
    assert len(text.getvalue()) < 400


def test_our_failures_are_warnings(text: io.StringIO) -> None:
    log_request(record(status=503))
    assert " WARNING POST " in text.getvalue()


def test_probes_that_go_well_are_not_logged(text: io.StringIO) -> None:
    log_request(record(method="GET", path="/livez", route="/livez"))
    assert text.getvalue() == ""
    log_request(record(method="GET", path="/readyz", route="/readyz", status=503))
    assert "/readyz" in text.getvalue()


def test_traceback_is_indented_so_that_its_text_forges_nothing(text: io.StringIO) -> None:
    try:
        raise ValueError("bad\n12:00:01 INFO POST /predict 200")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *others = text.getvalue().splitlines()
    assert first.endswith("ERROR failed")
    assert all(line.startswith("  ") for line in others)
    assert "ValueError: bad" in text.getvalue()


def test_traceback_in_json_is_one_field(machine: io.StringIO) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("x").exception("failed")
    entry = json.loads(machine.getvalue())
    assert entry["exception"].endswith("ValueError: bad")


def test_uvicorn_only_warns(text: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process")
    assert text.getvalue() == ""


def test_configuring_twice_logs_once(restored: None) -> None:
    streams = io.StringIO(), io.StringIO()
    for stream in streams:
        configure_logging("INFO", stream=stream)
    logging.getLogger("x").info("hello")
    assert streams[0].getvalue() == ""
    assert streams[1].getvalue().count("hello") == 1


def test_unknown_level_is_an_error(restored: None) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud")


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (999_900, "1.0 MB")]
)
def test_sizes_read_well(text: io.StringIO, size: int, shown: str) -> None:
    log_request(record(request_bytes=size))
    assert f" in={shown} out=" in text.getvalue()


# Lines of requests on an event loop, where they are written together


@pytest.mark.anyio
async def test_lines_of_requests_are_written_soon(
    text: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.logging, "_TOGETHER_S", 0.001)
    for _ in range(2):  # the second time round as well
        written = text.tell()
        log_request(record(path="/a"))
        log_request(record(path="/b"))
        assert text.tell() == written
        async with asyncio.timeout(10):
            while text.tell() == written:
                await asyncio.sleep(0)
        assert [line.split()[3] for line in text.getvalue().splitlines()[-2:]] == ["/a", "/b"]


@pytest.mark.anyio
async def test_all_lines_keep_their_order(text: io.StringIO) -> None:
    log_request(record(path="/first"))
    log_request(record(path="/second", status=503))
    log_request(record(path="/third"))
    logging.getLogger("elsewhere").info("fourth")
    lines = text.getvalue().splitlines()
    assert [name for line in lines for name in line.split() if "/" in name or "fo" in name] == [
        *("/first", "/second", "/third", "fourth"),
    ]


@pytest.mark.anyio
async def test_lines_that_wait_are_written_at_exit(text: io.StringIO) -> None:
    log_request(record())
    assert text.getvalue() == ""
    for handler in logging.getLogger().handlers:
        handler.flush()  # as logging.shutdown does
    assert text.getvalue().count("\n") == 1


def test_lines_are_written_on_the_next_loop_when_one_has_closed_before(text: io.StringIO) -> None:
    async def log(path: str) -> None:
        log_request(record(path=path))

    asyncio.run(log("/a"))
    asyncio.run(log("/b"))
    log_request(record(path="/c"))
    assert [line.split()[3] for line in text.getvalue().splitlines()] == ["/a", "/b", "/c"]


@pytest.mark.anyio
async def test_lines_for_a_stream_that_was_closed_are_lost_without_an_error(
    text: io.StringIO,
) -> None:
    handler = logging.getLogger().handlers[0]
    log_request(record())
    text.close()
    handler.flush()
    assert handler._lines == []
