"""The result as JSON: what was measured, with what, on which machine, and how it scattered."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from service import __version__
from service.bench.campaign import LevelResult, Result, TargetResult
from service.bench.figures import Figures, Spread, ratios
from service.bench.server_metrics import Account

FORMAT = 1
"""Raised when a reader of the document has to change."""


def result_document(
    result: Result, warnings: Sequence[str], loop: type[asyncio.AbstractEventLoop]
) -> dict[str, Any]:
    """The result for machines; latencies are milliseconds, memory is bytes, shares are of 1."""
    plan = result.plan
    document: dict[str, Any] = {
        "format": FORMAT,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "interrupted": result.interrupted,
        "client": client(loop),
        "parameters": {
            "levels": [{"loop": level.loop, "value": level.value} for level in plan.levels],
            "warmup_s": plan.warmup_s,
            "duration_s": plan.duration_s if plan.requests is None else None,
            "requests": plan.requests,
            "rounds": plan.rounds,
            "timeout_s": plan.timeout_s,
            "max_outstanding": plan.max_outstanding,
            "arrivals": plan.arrivals,
            "seed": plan.seed,
        },
        "images": [
            {"name": i.name, "width": i.width, "height": i.height, "bytes": len(i.data)}
            for i in result.images
        ],
        "targets": [_target(each) for each in result.targets],
        "warnings": list(warnings),
    }
    if len(result.targets) == 2:
        document["comparison"] = comparison(result)
    return document


def comparison(result: Result) -> list[dict[str, Any]]:
    """For each level the ratios of the second target to the first, with their range over rounds."""
    first, second = result.targets
    return [
        {"loop": a.level.loop, "value": a.level.value, "rounds": min(len(a.rounds), len(b.rounds))}
        | {name: asdict(spread) for name, spread in ratios(a.rounds, b.rounds).items()}
        for a, b in zip(first.levels, second.levels, strict=False)
    ]


def client(loop: type[asyncio.AbstractEventLoop]) -> dict[str, Any]:
    """The machine and the software that measured."""
    return {
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "usable_cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "memory_bytes": _memory_bytes(),
            "os": platform.platform(),
        },
        "detserve": __version__,
        "python": platform.python_version(),
        "httptools": metadata.version("httptools"),
        "event_loop": loop.__module__.partition(".")[0],
    }


def _target(result: TargetResult) -> dict[str, Any]:
    target, greeting = result.target, result.greeting
    return {
        "name": target.name,
        "url": target.url,
        "path": target.path,
        "body": target.body,
        "field": target.field or None,
        "options": [list(option) for option in target.options],
        "build": greeting.build or None,
        "models": greeting.models,
        "first_answer": {"instances": greeting.instances, "bytes": greeting.answer_bytes},
        "levels": [_level(level) for level in result.levels],
        "texts": result.texts,
    }


def _level(result: LevelResult) -> dict[str, Any]:
    spread = Spread.of([each.images_per_s for each in result.rounds])
    return {
        "loop": result.level.loop,
        "value": result.level.value,
        **_figures(result.pooled),
        "images_per_s_over_rounds": asdict(spread) if spread is not None else None,
        "rounds": [_figures(each) for each in result.rounds],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    good, refused, errors = figures.groups
    latency = figures.latency
    return {
        "seconds": figures.seconds,
        "images_per_s": figures.images_per_s,
        "latency_ms": asdict(latency) if latency is not None else None,
        "requests": {"ok": good, "refused": refused, "errors": errors, "unsent": figures.unsent},
        "outcomes": dict(figures.outcomes),
        "client": {
            "cpu_share": figures.client_cpu,
            "lateness_p99_ms": 1000 * figures.lateness_s,
            "reopened_connections": figures.reopened,
            "bottleneck": figures.client_is_late,
        },
        "server": {
            "cpu_ms_per_image": figures.cpu_ms_per_image,
            "rss_bytes": figures.rss_bytes,
            "peak_bytes": figures.peak_bytes,
            **(_account(figures.account) if figures.account is not None else {}),
        },
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "stages_ms_per_image": account.stage_ms(),
        "batch_ms": account.batch_ms,
        "batch_size": {"mean": account.mean_batch, "histogram": account.batches},
        "dispatch": account.dispatch,
        "images": account.outcomes,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError):
        return None
