"""The figures of a soak: as a document, as a table, and whether it passed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from service.bench.figures import percentile
from soaking.memory import LIMIT_PERCENT, Reading, changes_percent, is_flat
from soaking.run import Plan, Swapped, Tally

KEPT_PROBLEMS = 20
PHASES = ("preflight", "load", "check", "warm_up", "swap", "drain")


def failures(tally: Tally, plan: Plan, readings: list[Reading]) -> list[str]:
    """Why the soak did not pass, in words; nothing when it did."""
    why = [f"{number} x {kind}" for kind, number in sorted(tally.kinds.items())]
    if len(tally.asked) < plan.requests:
        why.append(f"{len(tally.asked)} requests of {plan.requests}")
    if len(tally.under_load) < plan.swaps:
        why.append(f"{len(tally.under_load)} swaps of {plan.swaps}")
    if len(readings) < 2:
        why.append("memory was read less than twice: more swaps, or a lower --rest-every")
    changes = changes_percent(readings)
    if not is_flat(changes):
        changed = ", ".join(f"{kind} {change:+.2f} %" for kind, change in changes.items())
        why.append(f"memory changed by more than {LIMIT_PERCENT:g} %: {changed}")
    return why


def figures(tally: Tally, readings: list[Reading], seconds: float) -> dict[str, Any]:
    """All figures as JSON; latencies in milliseconds, memory in bytes."""
    answered = Counter(one.version for one in tally.asked if one.version is not None)
    during = [one.seconds for one in tally.asked if one.during_swap]
    between = [one.seconds for one in tally.asked if not one.during_swap]
    return {
        "seconds": round(seconds, 1),
        "requests": len(tally.asked),
        "images": sum(one.images for one in tally.asked),
        "requests_of_several_images": sum(one.images > 1 for one in tally.asked),
        "requests_during_a_swap": len(during),
        "answers_by_version": dict(sorted(answered.items())),
        "problems": {
            "number": len(tally.problems),
            "kinds": dict(sorted(tally.kinds.items())),
            "first": [f"{one.kind}: {one.text}" for one in tally.problems[:KEPT_PROBLEMS]],
        },
        "latency_ms": {"during_a_swap": _latency(during), "between_swaps": _latency(between)},
        "swaps": {
            "under_load": _swaps(tally.under_load),
            "at_rest": _swaps([swap for swap in tally.swapped if swap.at_rest]),
        },
        "memory": {
            "readings": [reading.to_dict() for reading in readings],
            "change_percent": {
                kind: round(change, 3) for kind, change in changes_percent(readings).items()
            },
            "limit_percent": LIMIT_PERCENT,
        },
    }


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(1000 * value for value in seconds)
    shown = {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99)}
    shown["max"] = ordered[-1] if ordered else 0.0
    return {name: round(value, 1) for name, value in shown.items()}


def _swaps(swaps: Sequence[Swapped]) -> dict[str, Any]:
    phases = {
        phase: _seconds([swap.phases_s.get(phase, 0.0) for swap in swaps]) for phase in PHASES
    }
    return {
        "number": len(swaps),
        "rollbacks": sum(swap.action == "rollback" for swap in swaps),
        "seconds": _seconds([swap.seconds for swap in swaps]),
        "phases_s": phases,
    }


def _seconds(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(percentile(ordered, 50), 3),
        "max": round(ordered[-1], 3) if ordered else 0.0,
    }


def table(found: dict[str, Any], verdict: str, failed: Sequence[str]) -> Table:
    """The figures for people."""
    shown = Table(title=f"Soak: {verdict}", show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    latency, swaps, memory = found["latency_ms"], found["swaps"], found["memory"]
    loaded = swaps["under_load"]
    shown.add_row("requests", f"{found['requests']} with {found['images']} images")
    shown.add_row("swaps", f"{loaded['number']}, {loaded['rollbacks']} of them rollbacks")
    shown.add_row("answers by version", _pairs(found["answers_by_version"]))
    shown.add_row("errors and wrong answers", str(found["problems"]["number"]))
    for name, of in (("during a swap", "during_a_swap"), ("between swaps", "between_swaps")):
        shown.add_row(
            f"latency {name}, p50 / p99",
            f"{latency[of]['p50']:.0f} / {latency[of]['p99']:.0f} ms",
        )
    shown.add_section()
    shown.add_row("a swap under load, p50 / max", _two(loaded["seconds"]))
    for phase in PHASES:
        shown.add_row(f"  {phase}", _two(loaded["phases_s"][phase]))
    shown.add_section()
    if memory["readings"]:
        first, last = memory["readings"][0], memory["readings"][-1]
        for kind, change in memory["change_percent"].items():
            shown.add_row(
                f"{kind}, after swap {first['swaps']} and {last['swaps']}",
                f"{first[kind] / 2**20:.1f} -> {last[kind] / 2**20:.1f} MiB, {change:+.2f} %",
            )
    for why in failed:
        shown.add_row("[red]failed[/]", why)
    return shown


def _pairs(counts: dict[str, int]) -> str:
    return ", ".join(f"{label}: {number}" for label, number in counts.items())


def _two(seconds: dict[str, float]) -> str:
    return f"{seconds['p50']:.2f} / {seconds['max']:.2f} s"
