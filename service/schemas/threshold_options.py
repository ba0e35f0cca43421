"""The option ``class_thresholds``: as a JSON object, its text, or ``disc:0.7,star:0.4``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field

MAX_THRESHOLDS = 10_000

_FORM = 'it is a JSON object such as {"disc": 0.7}, or text such as disc:0.7,star:0.4'


def no_truth(value: Any) -> Any:
    """True and false are numbers to Python, but none that anybody means as a threshold."""
    if isinstance(value, bool):
        raise ValueError("it is a number from 0 to 1")
    return value


def _by_class(value: Any) -> Any:
    """The object that a text stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("{"):
        return _of_pairs(value)
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ValueError(_FORM) from None


def _of_pairs(text: str) -> dict[str, float]:
    """``name:number`` with commas between them; a name may hold commas and colons itself."""
    thresholds: dict[str, float] = {}
    pending: list[str] = []  # of a name that goes on behind a comma
    for part in text.split(","):
        name, colon, number = part.rpartition(":")
        threshold = _number(number) if colon else None
        if threshold is None:
            pending.append(part)
            continue
        whole = ",".join([*pending, name]).strip()
        pending.clear()
        if whole in thresholds:
            raise ValueError("a class comes twice")
        thresholds[whole] = threshold
    if pending:
        raise ValueError(_FORM)
    return thresholds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# In this order, or the bounds are none that JSON Schema has words for.
Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(no_truth)]
ClassThresholds = Annotated[
    dict[Annotated[str, Field(max_length=65_536)], Threshold],
    BeforeValidator(_by_class),
    Field(max_length=MAX_THRESHOLDS),
]
"""By the name of a class, or its id if no class has that name."""
