"""What is written down of a request."""

from collections import Counter

import pytest

from service.bench.connection import Answer
from service.bench.recording import Recording, group_outcomes, readable


def test_a_sample_is_good_if_its_status_is_2xx() -> None:
    recording = Recording()
    for status in (200, 202, 301, 429, 500):
        recording.add(1.0, Answer(status, None, b"text", 1.5, 3.0))
    recording.add(1.0, Answer(0, "timeout", b"", 1.5, 3.0))
    assert [sample.good for sample in recording.samples] == [True, True, *[False] * 4]
    assert recording.samples[-1].outcome == "timeout"
    assert recording.samples[0].latency_s == 2.0
    assert list(recording.texts) == ["301", "429", "500", "timeout"]


def test_refusals_are_no_errors() -> None:
    outcomes = Counter({"200": 5, "202": 1, "429": 3, "503": 2, "timeout": 1})
    assert group_outcomes(outcomes) == (6, 3, 3)
    assert group_outcomes(Counter()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"  two\r\n lines\t", "two lines"),
        (b"\x1b[31mred\xff", "?[31mred\ufffd"),
        (b"x" * 400, "x" * 297 + "..."),
        (b"", ""),
    ],
)
def test_the_text_of_an_error_is_one_short_line_without_control_characters(
    body: bytes, text: str
) -> None:
    assert readable(body) == text
