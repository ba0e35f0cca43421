"""The one error for an answer that is not what it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from service.client.errors import InvalidAnswer

T = TypeVar("T")


def as_known(read: Callable[[], T]) -> T:
    """What ``read`` gives, with one error for an answer that is none."""
    try:
        return read()
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise InvalidAnswer(
            f"The answer is not one of a detserve that this client knows: {error!r}.",
            code="invalid_answer",
        ) from error
