"""Memory of the server's process, and of its device, at a moment when it has nothing to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

LIMIT_PERCENT = 2.0
"""How far memory may be at the last swap from what it was at the tenth."""
JUDGED = ("rss", "anonymous", "device_allocated", "device_reserved")
"""Not ``pss``, which changes when another program that uses the same libraries starts or ends."""

_ROLLUP = {"Rss": "rss", "Pss": "pss", "Anonymous": "anonymous"}
_DEVICE = {"allocated": "device_allocated", "reserved": "device_reserved"}


@dataclass(frozen=True)
class Reading:
    """Bytes at a rest.

    Attributes:
        swaps: under load, until then.
        rss: all that is resident, pages of files included: libraries, mostly.
        pss: the same, with what other processes share counted in part.
        anonymous: what is resident and of no file: heaps and stacks.
        device_allocated, device_reserved: of PyTorch on all GPUs; 0 without one.
    """

    swaps: int
    rss: int
    pss: int
    anonymous: int
    device_allocated: int = 0
    device_reserved: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def read_memory(pid: int, swaps: int, metrics: str) -> Reading:
    """A reading of the process ``pid``; ``metrics`` is what the server says of itself.

    Raises:
        OSError: there is no such process, or no ``/proc``.
    """
    values = dict.fromkeys((*_ROLLUP.values(), *_DEVICE.values()), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in _ROLLUP:
            values[_ROLLUP[key]] = int(value.split()[0]) * 1024
    for family in text_string_to_metric_families(metrics):
        if family.name == "detserve_gpu_memory_bytes":
            for sample in family.samples:
                kind = _DEVICE.get(sample.labels["kind"])
                if kind is not None:
                    values[kind] += int(sample.value)
    return Reading(swaps, **values)


def changes_percent(readings: list[Reading]) -> dict[str, float]:
    """From the first reading to the last, by kind; what was 0 at first is left out, unless it grew."""
    if len(readings) < 2:
        return {}
    first, last = readings[0].to_dict(), readings[-1].to_dict()
    changes: dict[str, float] = {}
    for kind in JUDGED:
        if first[kind]:
            changes[kind] = 100 * (last[kind] - first[kind]) / first[kind]
        elif last[kind]:
            changes[kind] = float("inf")
    return changes


def is_flat(changes: dict[str, float]) -> bool:
    """Whether no kind changed by more than the limit."""
    return all(abs(change) <= LIMIT_PERCENT for change in changes.values())
