"""CPU time and memory of a local process and of all that it has started, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessUsage:
    """What a process and its descendants have used.

    Attributes:
        cpu_s: user and system time, of descendants that have ended too.
        rss_bytes: memory now; what processes share counts for each.
        peak_bytes: the most that each has had since it started, added up.
    """

    cpu_s: float
    rss_bytes: int
    peak_bytes: int


def process_usage(pid: int) -> ProcessUsage | None:
    """What ``pid`` and its descendants have used; None without such a process, or without /proc."""
    stats = {
        int(folder.name): stat
        for folder in (_PROC.iterdir() if _PROC.is_dir() else ())
        if folder.name.isdecimal() and (stat := _stat(folder)) is not None
    }
    if pid not in stats:
        return None
    family, found = [pid], [pid]
    while found:
        parent = found.pop()
        children = [child for child, stat in stats.items() if stat.parent == parent]
        family += children
        found += children
    memory = [_memory(_PROC / str(member)) for member in family]
    return ProcessUsage(
        cpu_s=sum(stats[member].cpu_s for member in family),
        rss_bytes=sum(rss for rss, _ in memory),
        peak_bytes=sum(peak for _, peak in memory),
    )


@dataclass(frozen=True)
class _Stat:
    parent: int
    cpu_s: float


def _stat(folder: Path) -> _Stat | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None  # it has just ended
    # The name, in brackets, may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # own user and system time, then that of ended children
    return _Stat(parent=int(fields[1]), cpu_s=ticks / os.sysconf("SC_CLK_TCK"))


def _memory(folder: Path) -> tuple[int, int]:
    """Resident bytes now and at most; zero for a process that has just ended."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    now, peak = (int(values.get(key, "0").split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak
