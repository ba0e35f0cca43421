"""Logs for people (one line of text) or for machines (one JSON object a line), safe to inject into.

What a client sends never starts a line of its own, and no header, query or body is ever logged.
"""

from __future__ import annotations

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
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


def configure_logging(
    level: str = "INFO", *, json: bool = False, stream: TextIO | None = None
) -> None:
    """Send all logs of the process to ``stream`` (standard error), replacing earlier handlers.

    Raises:
        ValueError: ``level`` is not a level's name.
    """
    level = level.upper()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    chatty = logging.DEBUG if level == "DEBUG" else logging.WARNING
    logging.getLogger("uvicorn.error").setLevel(chatty)
    # Says in the log what the 400 says to the client; a scanner could fill a disk with it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def log_request(record: RequestRecord) -> None:
    """One line for one request: warnings for our own failures, debug for probes that went well."""
    level = logging.INFO
    if record.status >= 500:
        level = logging.WARNING
    elif record.route in _PROBES and record.status < 400:
        level = logging.DEBUG
    if not _requests.isEnabledFor(level):
        return
    path = record.path if len(record.path) <= _MAX_PATH else record.path[:_MAX_PATH] + "..."
    _requests.log(
        level,
        "%s %s %d %s in=%s out=%s id=%s%s",
        record.method,
        path,
        record.status,
        _milliseconds(record.duration_s),
        _size(record.request_bytes),
        _size(record.response_bytes),
        record.request_id,
        "".join(f" {key}={_value(value)}" for key, value in record.extra.items()),
        extra={
            "fields": {
                "method": record.method,
                "path": path,
                "route": record.route,
                "status": record.status,
                "duration_ms": round(record.duration_s * 1000, 3),
                "request_bytes": record.request_bytes,
                "response_bytes": record.response_bytes,
                "client": record.client,
                "request_id": record.request_id,
                **record.extra,
            }
        },
    )


class TextFormatter(logging.Formatter):
    """``12:00:01 INFO message``, local time; tracebacks follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
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


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    # Quoted, a value with spaces cannot pass for further fields.
    return text if re.fullmatch(r"[^\s\"=]+", text) else '"' + text.replace('"', "'") + '"'
