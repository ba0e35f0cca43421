"""What a window says in figures, and how several windows of one level are summed up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.bench.level import Level
from service.bench.measure import Window
from service.bench.recording import group_outcomes
from service.bench.server_metrics import Account

PERCENTILES = (50, 95, 99)

# A client that uses this much of a core is late itself, now and then.
_BUSY_CLIENT = 0.8
# Requests that leave this late, as a part of the median latency and at least in seconds.
_LATE_PART, _LATE_S = 0.2, 0.005


@dataclass(frozen=True)
class Latency:
    """Latencies of good answers, in milliseconds; percentiles are values that were observed."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """Of latencies in seconds; None of none."""
        if not seconds:
            return None
        ordered = sorted(1000 * value for value in seconds)
        p50, p95, p99 = (percentile(ordered, part) for part in PERCENTILES)
        return cls(sum(ordered) / len(ordered), p50, p95, p99, ordered[-1])


@dataclass(frozen=True)
class Figures:
    """One level on one target, in one round or in several.

    Attributes:
        seconds: length of the window.
        answered: good answers that came within it: they make the throughput.
        latencies_s: of the good answers to what was due within it.
        outcomes: what became of the requests that were due within it, by status or failure.
        unsent: requests that were due and not sent.
        lateness_s: how late requests were sent, 99th percentile.
        client_cpu: share of one core that this process took.
        server_cpu_s: CPU time of the server, for ``server_images`` images.
        rss_bytes, peak_bytes: memory of the server.
        account: the server's own figures.
        reopened: requests that were sent again on a new connection.
    """

    level: Level
    seconds: float
    answered: int
    latencies_s: tuple[float, ...]
    outcomes: Counter[str]
    unsent: int
    lateness_s: float
    client_cpu: float
    server_cpu_s: float | None
    server_images: float
    rss_bytes: int | None
    peak_bytes: int | None
    account: Account | None
    reopened: int

    @property
    def images_per_s(self) -> float:
        """Good answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def latency(self) -> Latency | None:
        """Of the good answers."""
        return Latency.of(self.latencies_s)

    @property
    def groups(self) -> tuple[int, int, int]:
        """Good, refused with 429, and failed requests."""
        return group_outcomes(self.outcomes)

    @property
    def cpu_ms_per_image(self) -> float | None:
        """CPU time of the server for an image; what it spent on refusals is in it."""
        if self.server_cpu_s is None or not self.server_images:
            return None
        return 1000 * self.server_cpu_s / self.server_images

    @property
    def client_is_late(self) -> bool:
        """Whether the client was the bottleneck, so that the figures are too bad for the server."""
        latency = self.latency
        late = max(_LATE_S, _LATE_PART * latency.p50 / 1000) if latency else math.inf
        return self.client_cpu > _BUSY_CLIENT or self.lateness_s > late


def figures_of(level: Level, window: Window) -> Figures:
    """The figures of one window."""
    start, end = window.start, window.end
    due = [sample for sample in window.recording.samples if start <= sample.due_at < end]
    in_time = [
        sample
        for sample in window.recording.samples
        if sample.good and start < sample.done_at <= end
    ]
    account, before, after = window.account, window.usage_before, window.usage_after
    cpu_s, images = None, float(len(in_time))
    if before is not None and after is not None:
        cpu_s = after.cpu_s - before.cpu_s
    elif account is not None:
        cpu_s = account.cpu_s
    if account is not None and account.images:
        # The server's own count is of exactly the time in which its CPU time was read.
        images = account.images
    return Figures(
        level=level,
        seconds=window.seconds,
        answered=len(in_time),
        latencies_s=tuple(sample.latency_s for sample in due if sample.good),
        outcomes=Counter(sample.outcome for sample in due),
        unsent=sum(start <= due_at < end for due_at in window.recording.unsent),
        lateness_s=percentile(sorted(sample.sent_at - sample.due_at for sample in due), 99),
        client_cpu=window.client_cpu_s / window.seconds if window.seconds else 0.0,
        server_cpu_s=cpu_s,
        server_images=images,
        rss_bytes=after.rss_bytes if after else account.rss_bytes if account else None,
        peak_bytes=after.peak_bytes if after else None,
        account=account,
        reopened=window.reopened,
    )


def pool(rounds: Sequence[Figures]) -> Figures:
    """The figures of all ``rounds`` (at least one) of a level, as if they were one long window."""
    accounts = [each.account for each in rounds]
    account = accounts[0]
    for other in accounts[1:]:
        account = account + other if account is not None and other is not None else None
    cpu = [each.server_cpu_s for each in rounds]
    seconds = sum(each.seconds for each in rounds)
    return Figures(
        level=rounds[0].level,
        seconds=seconds,
        answered=sum(each.answered for each in rounds),
        latencies_s=tuple(value for each in rounds for value in each.latencies_s),
        outcomes=sum((each.outcomes for each in rounds), Counter()),
        unsent=sum(each.unsent for each in rounds),
        lateness_s=max(each.lateness_s for each in rounds),
        client_cpu=sum(each.client_cpu * each.seconds for each in rounds) / (seconds or 1.0),
        server_cpu_s=None if None in cpu else sum(value for value in cpu if value is not None),
        server_images=sum(each.server_images for each in rounds),
        rss_bytes=rounds[-1].rss_bytes,
        peak_bytes=rounds[-1].peak_bytes,
        account=account,
        reopened=sum(each.reopened for each in rounds),
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """The least of ``ordered`` values that ``part`` percent do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of ``values``; None of none."""
        if not values:
            return None
        ordered = sorted(values)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        return cls(middle, ordered[0], ordered[-1])


def ratios(first: Sequence[Figures], second: Sequence[Figures]) -> dict[str, Spread]:
    """Of the second target's figures to the first's, round by round; what one lacks is left out."""
    values: dict[str, list[float]] = {}
    for a, b in zip(first, second, strict=False):
        of_a, of_b = _comparable(a), _comparable(b)
        for name in of_a:
            if name in of_b and of_a[name]:
                values.setdefault(name, []).append(of_b[name] / of_a[name])
    spreads = {name: Spread.of(found) for name, found in values.items()}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _comparable(figures: Figures) -> dict[str, float]:
    """What two targets are compared by; what is unknown is left out. No images at all are 0."""
    latency = figures.latency
    known = {
        "images_per_s": figures.images_per_s,
        "p50": latency.p50 if latency is not None else None,
        "p99": latency.p99 if latency is not None else None,
        "cpu_per_image": figures.cpu_ms_per_image,
    }
    return {name: value for name, value in known.items() if value is not None}
