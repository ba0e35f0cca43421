"""The whole benchmark: all levels, on one target or on two that take turns."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from service.bench.errors import BenchError
from service.bench.figures import Figures, figures_of, pool
from service.bench.greeting import Greeting, greet
from service.bench.images import BenchImage
from service.bench.level import Level, Plan
from service.bench.measure import measure
from service.bench.target import Target

Progress = Callable[[str, float], None]
"""Told what runs, and which part of the whole is done, 0 to 1."""


@dataclass
class LevelResult:
    """One level on one target."""

    level: Level
    rounds: list[Figures] = field(default_factory=list)

    @property
    def pooled(self) -> Figures:
        """Of all rounds together."""
        return pool(self.rounds)


@dataclass
class TargetResult:
    """All levels on one target; a level that was not reached is missing.

    Attributes:
        texts: the first text of each outcome that was not good.
    """

    target: Target
    greeting: Greeting
    levels: list[LevelResult] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def peak(self) -> Figures | None:
        """The level of most images per second."""
        return max((r.pooled for r in self.levels), key=lambda f: f.images_per_s, default=None)


@dataclass
class Result:
    """What a benchmark found, as far as it came."""

    plan: Plan
    images: Sequence[BenchImage]
    targets: list[TargetResult]
    interrupted: bool = False

    @property
    def first_error(self) -> str | None:
        """If no request at all was good: what the first bad outcome said."""
        levels = [
            each for result in self.targets for level in result.levels for each in level.rounds
        ]
        outcomes = sum((figures.outcomes for figures in levels), Counter[str]())
        if not levels or not outcomes or any(outcome.startswith("2") for outcome in outcomes):
            return None
        outcome = outcomes.most_common(1)[0][0]
        text = next((r.texts[outcome] for r in self.targets if outcome in r.texts), "")
        return f"{outcome}: {text}" if text else outcome


async def run_campaign(
    targets: Sequence[Target],
    images: Sequence[BenchImage],
    plan: Plan,
    *,
    stop: asyncio.Event,
    progress: Progress,
) -> Result:
    """Measure ``targets`` (one or two). ``stop`` ends it early, with what there is.

    Raises:
        BenchError: a target is not there, not ready, or does not take the first image.
    """
    if not images:
        raise BenchError("There is no image to send.")
    results = []
    for target in targets:
        progress(f"first image to {target.name}", 0.0)
        greeting = await greet(target, images[0], timeout_s=plan.timeout_s)
        results.append(TargetResult(target, greeting))
    result = Result(plan, images, results)
    requests = [_endless(target, images) for target in targets]
    # Pairs of windows lie close together, so that what disturbs the machine disturbs both.
    order = list(itertools.product(plan.levels, range(plan.rounds), range(len(targets))))
    for done, (level, number, index) in enumerate(order):
        if stop.is_set():
            break
        found = results[index]
        round_label = f", round {number + 1} of {plan.rounds}" if plan.rounds > 1 else ""
        label = f"{found.target.name}: {level.label}{round_label}"

        def tick(part: float, label: str = label, done: int = done) -> None:
            progress(label, (done + part) / len(order))

        tick(0.0)
        window = await measure(
            found.target,
            level,
            # Other arrivals in each round, and the same for both targets.
            replace(plan, seed=plan.seed + number),
            requests[index],
            stop=stop,
            scrapes=found.greeting.scrapes,
            tick=tick,
        )
        if window.seconds <= 0:
            break
        if not found.levels or found.levels[-1].level != level:
            found.levels.append(LevelResult(level))
        found.levels[-1].rounds.append(figures_of(level, window))
        for outcome, text in window.recording.texts.items():
            found.texts.setdefault(outcome, text)
    result.interrupted = stop.is_set()
    return result


def _endless(target: Target, images: Sequence[BenchImage]) -> Iterator[bytes]:
    """The requests with ``images`` in turn, made once."""
    return itertools.cycle([target.predict(image) for image in images])
