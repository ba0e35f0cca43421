"""What a reader of the figures should know before believing them."""

from __future__ import annotations

from service.bench.campaign import Result, TargetResult
from service.bench.figures import Figures

# Below this the 99th percentile is the slowest of all, and chance.
_ENOUGH_FOR_P99 = 100


def caveats_of(result: Result) -> list[str]:
    """One sentence each."""
    found: list[str] = []
    if result.interrupted:
        found.append("The benchmark was interrupted; these are the figures of what was done.")
    for each in result.targets:
        found += _of_target(each, result)
    counts = {each.greeting.instances for each in result.targets}
    if len(result.targets) == 2 and None not in counts and len(counts) > 1:
        found.append(
            "The targets found different numbers of instances in the first image "
            f"({', '.join(str(each.greeting.instances) for each in result.targets)}): they do not do "
            "the same work."
        )
    return found


def _of_target(result: TargetResult, whole: Result) -> list[str]:
    found: list[str] = []
    name = f"{result.target.name}: " if len(whole.targets) > 1 else ""
    if result.greeting.instances == 0:
        found.append(
            f"{name}the first image was answered with no instances, so masks and their encoding cost "
            "nothing; give photos with --images."
        )
    pooled = [level.pooled for level in result.levels]
    late = [figures.level.label for figures in pooled if figures.client_is_late]
    if late:
        found.append(
            f"{name}at {', '.join(late)} this client was the bottleneck, not the server alone; run it "
            "on another machine or offer less load."
        )
    unsent = [figures.level.label for figures in pooled if figures.unsent]
    if unsent:
        found.append(
            f"{name}at {', '.join(unsent)} not all was sent, since {whole.plan.max_outstanding} requests "
            "were unanswered; their waits are in no latency."
        )
    few = [f.level.label for f in pooled if 0 < len(f.latencies_s) < _ENOUGH_FOR_P99]
    if few:
        found.append(
            f"{name}at {', '.join(few)} there were fewer than {_ENOUGH_FOR_P99} good answers: p99 is "
            "little more than the slowest one."
        )
    for outcome, number in _bad(pooled).items():
        text = result.texts.get(outcome, "")
        found.append(f"{name}{number} times {outcome}{': ' + text if text else '.'}")
    return found


def _bad(pooled: list[Figures]) -> dict[str, int]:
    """How often each error came, the most frequent first; refusals of a full server are none."""
    total: dict[str, int] = {}
    for figures in pooled:
        for outcome, number in figures.outcomes.items():
            if not outcome.startswith("2") and outcome != "429":
                total[outcome] = total.get(outcome, 0) + number
    return dict(sorted(total.items(), key=lambda item: -item[1]))
