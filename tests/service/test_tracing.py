"""W3C Trace Context in and out, and Server-Timing: what is taken, what is ignored."""

import pytest

from service.tracing import server_timing, span_of

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
TRACEPARENT = b"00-" + TRACE + b"-" + PARENT + b"-01"


def traced(*values: bytes, state: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
    return [
        *((b"traceparent", value) for value in values),
        *((b"tracestate", value) for value in state),
    ]


def test_a_request_becomes_a_new_span_of_its_trace() -> None:
    span = span_of([(b"host", b"x"), *traced(TRACEPARENT)])
    assert span is not None
    assert (span.trace_id, span.parent_id) == (TRACE.decode(), PARENT.decode())
    assert len(span.span_id) == 16
    assert span.span_id != span.parent_id
    expected = b"00-" + TRACE + b"-" + span.span_id.encode() + b"-01"
    assert span.headers() == [(b"traceparent", expected)]


def test_two_requests_of_a_trace_are_two_spans() -> None:
    first, second = span_of(traced(TRACEPARENT)), span_of(traced(TRACEPARENT))
    assert first is not None
    assert second is not None
    assert first.span_id != second.span_id


@pytest.mark.parametrize(("given", "kept"), [(b"00", 0), (b"01", 1), (b"03", 3), (b"ff", 3)])
def test_unknown_flags_are_not_sent_on(given: bytes, kept: int) -> None:
    span = span_of(traced(TRACEPARENT[:-2] + given))
    assert span is not None
    assert span.flags == kept
    assert span.headers()[0][1].endswith(f"-{kept:02x}".encode())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        TRACEPARENT + b"0",
        TRACEPARENT + b"-extra",
        b"ff" + TRACEPARENT[2:],
        b"0g" + TRACEPARENT[2:],
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"01" + TRACEPARENT[2:] + b".",
        b"00-" + TRACE + b"-" + PARENT + b"-01\n",
        b"\xff" * 55,
        b"0" * 100_000,
    ],
)
def test_a_malformed_traceparent_counts_as_none(value: bytes) -> None:
    assert span_of(traced(value)) is None


def test_no_traceparent_or_two_are_no_trace() -> None:
    assert span_of([]) is None
    assert span_of(traced(TRACEPARENT, TRACEPARENT)) is None
    assert span_of(traced(state=(b"a=1",))) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    span = span_of(traced(b"01" + TRACEPARENT[2:] + b"-more"))
    assert span is not None
    assert span.trace_id == TRACE.decode()
    assert span.headers()[0][1].startswith(b"00-")


def test_tracestate_goes_on_as_one_header() -> None:
    span = span_of(traced(TRACEPARENT, state=(b"rojo=00f067aa0ba902b7, ,x@y=a b", b"congo=t61")))
    assert span is not None
    assert span.headers()[1:] == [(b"tracestate", b"rojo=00f067aa0ba902b7,x@y=a b,congo=t61")]


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b" , ",
        b"no-value",
        b"=1",
        b"A=1",
        b"a=1,a=2",
        b"a=\r\nx: y",
        b"a=\xff",
        b"a=1=2",
        b"a=" + b"1" * 257,
        b"a=1,b=" + b"1" * 250 + b",c=" + b"1" * 250 + b",d=" + b"1" * 250,
        b",".join(b"k%d=1" % i for i in range(33)),
    ],
)
def test_a_malformed_tracestate_costs_nothing_but_itself(state: bytes) -> None:
    span = span_of(traced(TRACEPARENT, state=(state,)))
    assert span is not None
    assert len(span.headers()) == 1


def test_server_timing_tells_milliseconds_by_stage() -> None:
    assert server_timing({"decode": 0.0012, "total": 1.5}) == "decode;dur=1.200, total;dur=1500.000"
