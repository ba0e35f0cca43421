"""Headers that tell of a request's way: W3C Trace Context in and out, ``Server-Timing`` out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    rb"(?P<more>-[\x21-\x7e]*)?"
)
_KEY = r"[a-z0-9][a-z0-9_\-*/]{0,255}(?:@[a-z][a-z0-9_\-*/]{0,13})?"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rf"{_KEY}={_VALUE}".encode())
_MAX_STATE_BYTES = 512
_MAX_STATE_MEMBERS = 32
_KNOWN_FLAGS = 0b11
"""Sampled, and that the trace id is random; the others must not be sent on."""


@dataclass(frozen=True)
class Span:
    """What the server does for one request of a trace.

    Attributes:
        trace_id: 32 hexadecimal digits, the client's.
        parent_id: 16 digits, the client's span.
        span_id: 16 digits, ours.
        flags: of the trace.
        state: ``tracestate`` as it came, None without a valid one.
    """

    trace_id: str
    parent_id: str
    span_id: str
    flags: int
    state: bytes | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """For the answer: the trace goes on with our span as the parent."""
        parent = f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}".encode()
        if self.state is None:
            return [(b"traceparent", parent)]
        return [(b"traceparent", parent), (b"tracestate", self.state)]


def span_of(headers: Iterable[tuple[bytes, bytes]]) -> Span | None:
    """A new span in the trace that a request belongs to; None if its headers name none.

    As the recommendation has it a malformed ``traceparent``, or more than one, counts as none, and a
    malformed ``tracestate`` costs nothing but itself.
    """
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.strip(b" \t"))
        elif name == b"tracestate":
            states.append(value)
    if len(parents) != 1:
        return None
    found = _TRACEPARENT.fullmatch(parents[0])
    if found is None or found["version"] == b"ff":
        return None
    # Later versions may carry on behind the flags; what we know of them is what stands before.
    if found["version"] == b"00" and found["more"] is not None:
        return None
    if not found["trace"].strip(b"0") or not found["parent"].strip(b"0"):
        return None
    return Span(
        trace_id=found["trace"].decode(),
        parent_id=found["parent"].decode(),
        # To tell spans apart, not to keep anybody out; all zeros would be no id.
        span_id=f"{random.randrange(1, 2**64):016x}",
        flags=int(found["flags"], 16) & _KNOWN_FLAGS,
        state=_state(b",".join(states)),
    )


def _state(state: bytes) -> bytes | None:
    members = [stripped for member in state.split(b",") if (stripped := member.strip(b" \t"))]
    if not members or len(members) > _MAX_STATE_MEMBERS or len(state) > _MAX_STATE_BYTES:
        return None
    if not all(_MEMBER.fullmatch(member) for member in members):
        return None
    keys = [member.partition(b"=")[0] for member in members]
    return b",".join(members) if len(set(keys)) == len(keys) else None


def server_timing(stages: Mapping[str, float]) -> str:
    """The ``Server-Timing`` header: ``decode;dur=1.2, queue;dur=0.1, ...``, in milliseconds.

    Args:
        stages: seconds by name, a token each.
    """
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())
