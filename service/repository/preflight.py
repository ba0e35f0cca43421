"""Before a version is loaded: is there memory for it beside the current one, or at least instead of it?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.errors import Unprocessable
from service.repository.free_memory import FreeMemory

Strategy = Literal["side_by_side", "in_place"]

WORKING_BYTES = 256 << 20
"""What the first pictures take while they run, beside the model, on whatever device they run."""
CPU_COPIES = 3
"""Of the weights on a CPU that makes them faster: theirs, and what some convolutions compute from them
(:mod:`models.execution.winograd`; 36 numbers for 9, where they are of the right size)."""


@dataclass(frozen=True)
class NeededMemory:
    """Bytes that a version will take.

    Attributes:
        host: at most, while it is loaded.
        device: once it answers; 0 where the device is the host.
    """

    host: int
    device: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def needed_memory(weights_size: int, *, device: str, current: int | None = None) -> NeededMemory:
    """What a version takes, from its file alone.

    On the host the whole file is read, training state included, into a model that stands beside it;
    then either the model moves to its device, or the CPU computes other forms of its weights.

    Args:
        weights_size: bytes of the weights file.
        device: such as "cpu" or "cuda:0".
        current: bytes of the weights of the version that answers now, which tell more of the model
            than a file that may hold the state of its training too; None without one.
    """
    model = min(current, weights_size) if current else weights_size
    reading = weights_size + model
    if device.startswith("cuda"):
        return NeededMemory(host=reading, device=model + WORKING_BYTES)
    return NeededMemory(host=max(reading, CPU_COPIES * model) + WORKING_BYTES, device=0)


def check_memory(
    needed: NeededMemory,
    free: FreeMemory,
    *,
    current: int = 0,
    strategy: Strategy = "side_by_side",
) -> None:
    """Refuse a load that would run out of memory. What nobody can tell is let through.

    Args:
        needed: by the new version.
        free: now.
        current: bytes of the weights of the version that answers now, given back when it goes; 0
            without one.
        strategy: "in_place" frees the current version first.

    Raises:
        Unprocessable: ``not_enough_memory``, with the numbers, and what would help.
    """
    on_host = needed.device == 0
    for place, wants, has, back in (
        ("the device", needed.device, free.device, current),
        ("the host", needed.host, free.host, current if on_host else 0),
    ):
        if has is None or wants <= has + (back if strategy == "in_place" else 0):
            continue
        facts = {
            "place": place.removeprefix("the "),
            "needed_bytes": wants,
            "free_bytes": has,
            "freed_by_current_bytes": back,
        }
        numbers = f"it takes about {_in_mib(wants)}, and {place} has {_in_mib(has)} free"
        if back and wants <= has + back:
            raise Unprocessable(
                "not_enough_memory",
                f"There is no memory for this version beside the current one: {numbers}. Reload with "
                "strategy=in_place: requests wait while the one goes and the other is loaded.",
                **facts,
                advice="in_place",
            )
        raise Unprocessable(
            "not_enough_memory",
            f"There is no memory for this version, not even without the current one: {numbers}"
            + (f" ({_in_mib(back)} more without it)" if back else "")
            + f". Free memory of {place}, or use a larger one.",
            **facts,
            advice="more_memory",
        )


def _in_mib(size: int) -> str:
    return f"{-(-size // (1 << 20))} MiB"
