"""What CUDA's recording does, on a CPU: a replay computes again and writes to the same output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.transfer import tensors_of


class FakeCapture:
    """Records by running; counts what it recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        output = function()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for place, value in zip(tensors_of(output), tensors_of(function()), strict=True):
                place.copy_(value)

        return replay, output
