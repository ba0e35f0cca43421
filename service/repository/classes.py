"""Whether a new version means the same by its class ids as the one that answers now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.errors import Unprocessable
from service.inference.detector import ModelDescription

_SHOWN = 5


def check_classes(old: ModelDescription, new: ModelDescription) -> None:
    """Clients know classes by id as well as by name: an id that keeps its number and changes its name
    is a silent mistake in their counts.

    Classes may be added behind the others. Placeholders (``class_0``, ...) may become names.

    Args:
        old, new: of the current version, and of the one that shall follow it.

    Raises:
        Unprocessable: ``classes_changed``, with a list of the ids and both names.
    """
    changes = _changes(old.class_names, new.class_names, old.class_names_source == "placeholder")
    changes += _changes(old.stuff_class_names, new.stuff_class_names, placeholder=False)
    if not changes:
        return
    shown = ", ".join(
        f"{change['id']} was {change['was']!r} and "
        + ("is gone" if change["is"] is None else f"is {change['is']!r}")
        for change in changes[:_SHOWN]
    )
    more = f", and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    raise Unprocessable(
        "classes_changed",
        f"Class ids would change their meaning: {shown}{more}. If all clients know, say "
        "allow_class_changes.",
        changes=changes,
        classes_before=len(old.class_names),
        classes=len(new.class_names),
    )


def _changes(old: Sequence[str], new: Sequence[str], placeholder: bool) -> list[dict[str, Any]]:
    """Ids whose class is another one, or gone."""
    after = [*new, *[None] * (len(old) - len(new))]
    return [
        {"id": i, "was": was, "is": now}
        for i, (was, now) in enumerate(zip(old, after, strict=False))
        if was != now and not (placeholder and now is not None)
    ]
