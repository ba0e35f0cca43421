"""What happened to each request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.bench.connection import Answer


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; times are on the clock of ``time.perf_counter``.

    Attributes:
        due_at: when it was to be sent: latency counts from here, so that a client which sends late
            does not hide how long a user would have waited (coordinated omission).
        sent_at: when it was sent.
        outcome: the status, such as ``200``, or the failure, such as ``timeout``.
    """

    due_at: float
    sent_at: float
    done_at: float
    outcome: str

    @property
    def good(self) -> bool:
        """Whether it was answered with what was asked for."""
        return self.outcome.startswith("2")

    @property
    def latency_s(self) -> float:
        """From when it was due to the last byte of its answer."""
        return self.done_at - self.due_at


@dataclass
class Recording:
    """All requests of one run of one level, the warm-up's too.

    Attributes:
        unsent: when requests were due that were not sent, since too many were unanswered.
        texts: the first text of each outcome that was not good.
    """

    samples: list[Sample] = field(default_factory=list)
    unsent: list[float] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, due_at: float, answer: Answer) -> None:
        """Write down the answer to the request that was due at ``due_at``."""
        outcome = answer.failure or str(answer.status)
        sample = Sample(due_at, answer.sent_at, answer.done_at, outcome)
        self.samples.append(sample)
        if not sample.good and outcome not in self.texts:
            self.texts[outcome] = readable(answer.body)


def group_outcomes(outcomes: Counter[str]) -> tuple[int, int, int]:
    """How many were good (2xx), refused (429), and errors (all others)."""
    good = sum(number for outcome, number in outcomes.items() if outcome.startswith("2"))
    refused = outcomes["429"]
    return good, refused, outcomes.total() - good - refused


def readable(body: bytes, *, limit: int = 300) -> str:
    """The text of an error's body, in one short line."""
    text = " ".join(body.decode("utf-8", "replace").split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."
