"""Logs for people (one line of text) or for machines (one JSON object a line), safe to inject into.

What a client sends never starts a line of its own, and no header, query or body is ever logged. A
record's ``fields``, a dict, are fields of the JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from service.middleware import RequestRecord

_requests = logging.getLogger("service.requests")

# C0, DEL, C1, line and paragraph separators, and the marks that turn the direction of text.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_PATH = 200
_TOGETHER_S = 0.1
_REQUEST_LINE = "%s %s %d %s in=%s out=%s id=%s%s"
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


def configure_logging(
    level: str = "INFO", *, json: bool = False, stream: TextIO | None = None
) -> None:
    """Send all logs of the process to ``stream`` (standard error), replacing earlier handlers.

    Raises:
        ValueError: ``level`` is not a level's name.
    """
    level = level.upper()
    handler = LineHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    chatty = logging.DEBUG if level == "DEBUG" else logging.WARNING
    logging.getLogger("uvicorn.error").setLevel(chatty)


def log_request(record: RequestRecord) -> None:
    """One line for one request: warnings for our own failures, debug for probes that went well."""
    level = logging.INFO
    if record.status >= 500:
        level = logging.WARNING
    elif record.route in _PROBES and record.status < 400:
        level = logging.DEBUG
    if not _requests.isEnabledFor(level):
        return
    values = (
        record.method,
        _path(record),
        record.status,
        _milliseconds(record.duration_s),
        _size(record.request_bytes),
        _size(record.response_bytes),
        record.request_id,
        "".join(f" {key}={field_text(value)}" for key, value in record.extra.items()),
    )
    # Not by Logger.log, which walks up the stack to find who called it: that costs as much as the rest.
    line = logging.LogRecord(_requests.name, level, "", 0, _REQUEST_LINE, values, None)
    line.request = record
    _requests.handle(line)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each line at once, but those of requests that went well together, ten times a second.

    A write lets other threads in, and to get the interpreter back costs the event loop more than
    most of what it does for a request. The order of all lines stays.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that will write them

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and hasattr(record, "request") and self._later():
            self._lines.append(self.format(record) + self.terminator)
            return
        self._write_lines()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits; at exit too."""
        self.acquire()
        try:
            self._write_lines()
            with contextlib.suppress(OSError, ValueError):  # as above
                super().flush()
        finally:
            self.release()

    def _later(self) -> bool:
        """Whether an event loop, on whose thread we are, will write what waits."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(_TOGETHER_S, self._in_time)
        return True

    def _in_time(self) -> None:
        self._loop = None
        self.flush()

    def _write_lines(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            # A stream that is closed, or a disk that is full, must not end the event loop's timer.
            with contextlib.suppress(OSError, ValueError):
                self.stream.write("".join(lines))


class TextFormatter(logging.Formatter):
    """``12:00:01 INFO message``, local time; tracebacks follow, indented."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._clock = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        if int(record.created) != self._second:
            self._clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
            self._second = int(record.created)
        clock = self._clock
        message = record.getMessage()
        # The server's own start-up errors are tracebacks in a message; everybody else gets a line.
        text = _indented(message) if record.name.startswith("uvicorn") else escape(message)
        line = f"{clock} {record.levelname} {text}"
        trace = _trace(record)
        # Indented, a line inside an exception's text cannot pass for a log line.
        return f"{line}\n  {_indented(trace)}" if trace else line


class JsonFormatter(logging.Formatter):
    """``{"timestamp", "level", "logger", "message", ...fields, "exception"}`` on one line, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = getattr(record, "request", None)
        if isinstance(request, RequestRecord):
            entry = {**_fields(request), **entry}
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry = {**fields, **entry}
        trace = _trace(record)
        if trace:
            entry["exception"] = trace
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        try:
            return orjson.dumps(entry, default=str, option=options).decode()
        except orjson.JSONEncodeError:
            # A lone surrogate or an endless integer: strings always work once escaped.
            safe = {escape(str(key)): escape(str(value)) for key, value in entry.items()}
            return orjson.dumps(safe).decode()


def _fields(request: RequestRecord) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": _path(request),
        "route": request.route,
        "status": request.status,
        "duration_ms": round(request.duration_s * 1000, 3),
        "request_bytes": request.request_bytes,
        "response_bytes": request.response_bytes,
        "client": request.client,
        "request_id": request.request_id,
        **request.extra,
    }


def _path(request: RequestRecord) -> str:
    path = request.path
    return path if len(path) <= _MAX_PATH else path[:_MAX_PATH] + "..."


def escape(text: str) -> str:
    r"""``text`` on one line: control characters as ``\n``, ``\x1b`` or ``\u2028``."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _indented(text: str) -> str:
    return "\n  ".join(escape(line) for line in text.rstrip().split("\n"))


def _trace(record: logging.LogRecord) -> str:
    parts = [logging.Formatter().formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _size(count: int) -> str:
    """Bytes for people: 812 B, 9.3 kB, 81 kB, 1.2 MB."""
    if count < 1000:
        return f"{count} B"
    value, unit = (count / 1e3, "kB") if count < 999_500 else (count / 1e6, "MB")
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def field_text(value: object) -> str:
    """``value`` as it stands behind ``key=`` in a line, so that it cannot pass for further fields."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else '"' + text.replace('"', "'") + '"'
