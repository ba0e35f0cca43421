"""Names of models, versions and aliases: what may be one, and how versions are ordered."""

from __future__ import annotations

import re
from typing import Literal

from service.errors import Unprocessable

Kind = Literal["model", "version", "alias"]

RESERVED = frozenset({"latest", "current", "previous"})
"""Words that stand for a version wherever one is named, so no version or alias is called so."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

_NAME = re.compile(NAME_PATTERN)
_DIGITS = re.compile(r"([0-9]+)")
_MAX_SHOWN = 80


def is_name(name: str) -> bool:
    """Whether a folder called so can be a model or a version; no path can, and nothing hidden."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: Kind, name: str) -> str:
    """``name`` as it is, if a ``kind`` may be called so.

    Raises:
        Unprocessable: ``invalid_name``.
    """
    if not is_name(name):
        shown = name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "..."
        raise Unprocessable(
            "invalid_name",
            f"{shown!r} is no name of {_article(kind)}: use 1 to 64 letters, digits, dots, hyphens "
            "and underscores, a letter or digit first.",
            kind=kind,
            name=shown,
        )
    if kind != "model" and name in RESERVED:
        raise Unprocessable(
            "invalid_name",
            f"{name!r} is a reserved word, no name of {_article(kind)}; choose another.",
            kind=kind,
            name=name,
        )
    return name


def natural_key(label: str) -> tuple[tuple[str | int, ...], str]:
    """Sorts as people count: 2 before 10, 2026-01-02 before 2026-01-10.

    Text and digits take turns in the key, text first, so that keys always compare.
    """
    parts = _DIGITS.split(label)
    numbered = tuple(int(part) if i % 2 else part for i, part in enumerate(parts))
    return numbered, label


def _article(kind: Kind) -> str:
    return "an alias" if kind == "alias" else f"a {kind}"
