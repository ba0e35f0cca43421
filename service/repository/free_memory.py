"""How much memory there is for another model: of the host, and of the device.

A container's limit counts as much as the machine's memory. What the kernel gives back when asked (the
pages of files that were read) counts as free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""cgroup v1 writes a limit near 2^63 where there is none."""


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that are free; None where nobody can tell, or, of the device, where it is the host."""

    host: int | None
    device: int | None

    @classmethod
    def read(cls, device: str) -> FreeMemory:
        """Of this machine now; ``device`` such as "cpu" or "cuda:0"."""
        return cls(host=free_host_memory(), device=free_device_memory(device))


def free_host_memory(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that this process may still take, without swap; None where the system does not tell.

    Args:
        proc: where the kernel tells of itself.
        cgroups: where the control groups are, version 1 or 2.
    """
    known = [_available(proc / "meminfo"), *_left_of_limits(proc / "self" / "cgroup", cgroups)]
    return min((free for free in known if free is not None), default=None)


def free_device_memory(device: str) -> int | None:
    """Bytes of a CUDA device that this process may still take; None for a CPU.

    What PyTorch holds without a use for it counts as free.
    """
    chosen = torch.device(device)
    if chosen.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(chosen)
    unused = torch.cuda.memory_reserved(chosen) - torch.cuda.memory_allocated(chosen)
    return free + unused


def _available(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return _number(value.removesuffix(" kB")) * 1024
    return None


def _left_of_limits(own: Path, cgroups: Path) -> Iterator[int]:
    """Of each group that limits this process: its own, and those around it."""
    for line in _lines(own):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            root = cgroups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = cgroups / "memory"
        else:
            continue
        # Within a container the path may be the host's, which is not there; its root then is.
        group = Path(path.lstrip("/"))
        for folder in (root / group, *(root / parent for parent in group.parents)):
            left = _left(folder, *names)
            if left is not None:
                yield left


def _left(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> int | None:
    """What one group leaves; None without a limit."""
    limit, usage = (_lines(folder / name) for name in (limit_name, usage_name))
    if not limit or not usage or limit[0] == "max" or _number(limit[0]) >= _NO_LIMIT:
        return None
    counts = (line.split() for line in _lines(folder / "memory.stat"))
    reclaimable = next((_number(c[1]) for c in counts if c[:1] == [reclaimable_name]), 0)
    used = max(_number(usage[0]) - reclaimable, 0)
    return max(_number(limit[0]) - used, 0)


def _lines(path: Path) -> list[str]:
    """Of a file of the kernel; none if it is not there or not for us."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(text: str) -> int:
    return int(text.strip())
