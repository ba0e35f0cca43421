"""What a pickle is read into besides dicts, lists, tuples, text and numbers; and its keys and limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.errors import CheckpointError

_MAX_KEY = 1024  # characters
_MAX_KEY_NUMBER = 1 << 60  # larger whole numbers can be made to have one and the same hash

Key = str | bytes | int | float | bool | None


class Budget:
    """How many bytes the calls in a file may copy, so that repetition stays as cheap as it looks."""

    def __init__(self, size: int) -> None:
        self._left = size

    def spend(self, size: int) -> None:
        """Raises :class:`CheckpointError` when it is used up."""
        self._left -= size
        if self._left < 0:
            raise CheckpointError("The file would take far more memory than its own size.")


Build = Callable[..., Any]
"""Makes a value of ``(budget, *arguments)``."""


class Named:
    """A name in a file that was found in the table; calling it calls our stand-in."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Build) -> None:
        self.name = name
        self.build = build


class Stateful:
    """A value that takes a state after it was made, as ``__setstate__`` would."""

    def set_state(self, budget: Budget, state: object) -> None:
        """Take ``state``. Raises :class:`CheckpointError` when it is not understood."""
        raise NotImplementedError


class Opaque:
    """A value that may be in a file and is of no use to us, such as a set; ``kind`` says what it is."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


def not_allowed(name: str) -> CheckpointError:
    """The error for a file that names something which is not allow-listed."""
    name = name if len(name) <= _MAX_KEY else name[:_MAX_KEY] + "..."
    return CheckpointError(
        f"The file refers to {name}, which is not allowed; nothing was executed. If you trust "
        "where it comes from, save the weights alone where it was made: "
        "torch.save({'model': model.state_dict()}, 'model_final.pth').",
        refers_to=name,
    )


def check_key(key: object) -> Key:
    """``key`` if a file may have it in a dict.

    Raises:
        CheckpointError: it is no short text and no number; to hash others can take for ever.
    """
    if isinstance(key, str | bytes):
        if len(key) <= _MAX_KEY:
            return key
        raise CheckpointError(f"The file has a name of {len(key)} characters, over {_MAX_KEY}.")
    if (
        key is None
        or isinstance(key, float)
        or (isinstance(key, int) and abs(key) < _MAX_KEY_NUMBER)
    ):
        return key
    raise CheckpointError(
        f"The file has a {type(key).__name__} as a key; names and numbers are expected."
    )
