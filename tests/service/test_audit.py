"""The line that every admin call leaves: what it says, when it warns, and that nobody can forge it."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from models.errors import ModelError
from service.audit import admin_call
from service.errors import Conflict, Forbidden, Unauthorized
from service.logging import JsonFormatter, TextFormatter
from service.security import AdminGuard

pytestmark = pytest.mark.anyio

LOCAL = {"host": "localhost", "content-type": "application/json"}


def request_from(
    client: str | None = "127.0.0.1", token: str | None = None, **headers: str
) -> Request:
    """A POST of an admin's to a server with this token."""
    runtime = SimpleNamespace(admin=AdminGuard(token))
    raw = [(name.encode(), value.encode()) for name, value in (LOCAL | headers).items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/reload",
        "headers": raw,
        "client": None if client is None else (client, 40000),
        "app": SimpleNamespace(state=SimpleNamespace(runtime=runtime)),
        "state": {"request_id": "4f1c0a"},
    }
    return Request(scope)


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What the audit log was given."""
    caplog.set_level(logging.INFO, logger="service.audit")
    handler = Kept()
    logging.getLogger("service.audit").addHandler(handler)
    yield handler.records
    logging.getLogger("service.audit").removeHandler(handler)


def text_of(record: logging.LogRecord) -> str:
    return TextFormatter().format(record).split(" ", 1)[1]  # without the clock


async def test_a_call_that_went_well_is_one_line(lines: list[logging.LogRecord]) -> None:
    async with admin_call(request_from(), "reload", model="shapes") as call:
        call.facts(version="2", images=3)
        call.status = 202
    (line,) = lines
    assert text_of(line) == (
        "INFO admin action=reload model=shapes version=2 images=3 status=202 client=127.0.0.1 "
        "auth=loopback request_id=4f1c0a"
    )


async def test_in_json_the_facts_are_fields(lines: list[logging.LogRecord]) -> None:
    async with admin_call(request_from(), "alias", model="shapes", alias=None):
        pass
    entry = json.loads(JsonFormatter().format(lines[0]))
    assert entry["logger"] == "service.audit"
    wanted = {"action": "alias", "model": "shapes", "status": 200, "auth": "loopback"}
    assert wanted.items() <= entry.items()
    assert entry["client"] == "127.0.0.1"
    assert entry["request_id"] == "4f1c0a"
    assert "alias" not in entry  # nobody knew it


@pytest.mark.parametrize(
    ("request_", "error", "status", "code"),
    [
        (request_from("203.0.113.9"), Forbidden, 403, "admin_forbidden"),
        (request_from(token="s3cret"), Unauthorized, 401, "admin_token_required"),
        (
            request_from(token="s3cret", authorization="Bearer gu3ss"),
            Unauthorized,
            401,
            "admin_token_wrong",
        ),
    ],
)
async def test_a_refused_caller_is_a_warning_and_the_block_does_not_run(
    lines: list[logging.LogRecord], request_: Request, error: Any, status: int, code: str
) -> None:
    ran = False
    with pytest.raises(error):
        async with admin_call(request_, "reload"):
            ran = True
    assert not ran
    (line,) = lines
    assert line.levelno == logging.WARNING
    assert f"action=reload status={status} code={code} " in text_of(line)
    assert "auth=none" in text_of(line)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Conflict("reload_running", "A reload is running."), 409, "reload_running"),
        (ModelError("not one of ours"), 500, "internal_error"),
        (asyncio.CancelledError(), 503, "cancelled"),
    ],
)
async def test_what_fails_inside_is_told_and_raised(
    lines: list[logging.LogRecord], error: BaseException, status: int, code: str
) -> None:
    async def promote() -> None:
        async with admin_call(request_from(), "promote") as call:
            call.facts(model="shapes")
            raise error

    with pytest.raises(type(error)):
        await promote()
    (line,) = lines
    assert line.levelno == logging.WARNING
    assert f"model=shapes status={status} code={code} " in text_of(line)


async def test_no_token_is_ever_logged(lines: list[logging.LogRecord]) -> None:
    right = request_from("203.0.113.9", token="s3cret", authorization="Bearer s3cret")
    async with admin_call(right, "reload"):
        pass
    wrong = request_from("203.0.113.9", token="s3cret", **{"x-admin-token": "gu3ss"})
    with pytest.raises(Unauthorized):
        async with admin_call(wrong, "reload"):
            pass
    for line in lines:
        for formatter in (TextFormatter(), JsonFormatter()):
            text = formatter.format(line)
            assert "s3cret" not in text
            assert "gu3ss" not in text
    assert "auth=token" in text_of(lines[0])


@pytest.mark.parametrize(
    "name",
    [
        "x\n12:00:00 INFO admin action=remove model=shapes",
        "x\r\nfake",
        "x\u2028fake",
        "x\x1b[2K",
        "x status=200 auth=token",
        'x" status="200',
        "\ud800",
    ],
)
async def test_a_name_forges_neither_a_line_nor_a_field(
    lines: list[logging.LogRecord], name: str
) -> None:
    async with admin_call(request_from(), "remove", model=name):
        pass
    out = io.StringIO()
    handler = logging.StreamHandler(out)  # somebody else's, which escapes nothing
    handler.handle(lines[0])
    for text in (out.getvalue().rstrip("\n"), text_of(lines[0]), JsonFormatter().format(lines[0])):
        text.encode()
        assert len(text.splitlines()) == 1
        assert "\x1b" not in text
    value = text_of(lines[0]).split("model=", 1)[1]
    quoted = value.startswith('"')
    assert value[1:].split('"', 1)[1].startswith(" status=200") if quoted else " " in value


async def test_a_long_name_is_cut(lines: list[logging.LogRecord]) -> None:
    async with admin_call(request_from(), "remove", model="x" * 30_000):
        pass
    assert len(text_of(lines[0])) < 400


async def test_a_caller_without_an_address_is_told_so(lines: list[logging.LogRecord]) -> None:
    with pytest.raises(Forbidden):
        async with admin_call(request_from(None), "reload"):
            pass
    assert "client=none" in text_of(lines[0])


async def test_the_content_type_is_the_guards(lines: list[logging.LogRecord]) -> None:
    request = request_from(**{"content-type": "application/octet-stream"})
    async with admin_call(request, "upload", content_type="application/octet-stream"):
        pass
    assert lines[0].levelno == logging.INFO
