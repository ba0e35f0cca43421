"""How much load is offered: the levels of one benchmark and how long each lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loop = Literal["closed", "open"]
Arrivals = Literal["poisson", "uniform"]


@dataclass(frozen=True)
class Level:
    """One amount of load.

    Attributes:
        loop: ``closed``: ``value`` clients, each of which sends its next request when the last was
            answered. ``open``: ``value`` requests per second arrive, whatever the server does.
    """

    loop: Loop
    value: float

    @property
    def label(self) -> str:
        """For tables: ``8 clients`` or ``20 req/s``."""
        if self.loop == "open":
            return f"{self.value:g} req/s"
        return f"{self.value:g} client{'' if self.value == 1 else 's'}"

    @property
    def short_label(self) -> str:
        """For plots: ``8`` or ``20/s``."""
        return f"{self.value:g}/s" if self.loop == "open" else f"{self.value:g}"


@dataclass(frozen=True)
class Plan:
    """All levels, and how each is run.

    Attributes:
        warmup_s: load that is offered, and not counted, before each window.
        duration_s: how long a window lasts, unless ``requests`` says how many it has.
        rounds: how often each level is measured; two targets take turns.
        timeout_s: an answer that takes longer is a failure.
        max_outstanding: unanswered requests of an open loop at most; what arrives beyond that is
            counted as not sent.
        seed: of the arrivals.
    """

    levels: tuple[Level, ...]
    warmup_s: float = 2.0
    duration_s: float = 10.0
    requests: int | None = None
    rounds: int = 1
    timeout_s: float = 60.0
    max_outstanding: int = 1000
    arrivals: Arrivals = "poisson"
    seed: int = 0
