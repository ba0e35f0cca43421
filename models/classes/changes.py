"""Changes of a list of class names, and what they mean for the classes' numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import ModelError

_MAX_LISTED = 10


@dataclass(frozen=True)
class ClassChanges:
    """What is to become of the classes, by name; done in this order.

    Attributes:
        remove: names that go.
        keep: the only names that stay; None is all but those of ``remove``.
        rename: old name -> new name, all at once, so that names can change places.
        add: names that come, behind the others.
        reorder: all names that there are then, in their new order; None leaves the order.
    """

    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    keep: Sequence[str] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    reorder: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("add", "remove", "keep", "reorder"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ModelError(
                    f"{name} takes a list of names, such as [{value!r}], not one text."
                )

    def __bool__(self) -> bool:
        return bool(
            self.add
            or self.remove
            or self.rename
            or self.keep is not None
            or self.reorder is not None
        )


@dataclass(frozen=True)
class ClassPlan:
    """Where each class of the new model comes from.

    Attributes:
        old_names: K names, the index is the class id.
        names: K' names of the new model, likewise.
        sources: for each of these its old class id; None is a new class.
    """

    old_names: tuple[str, ...]
    names: tuple[str, ...]
    sources: tuple[int | None, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the new classes."""
        pairs = zip(self.names, self.sources, strict=True)
        return tuple(name for name, source in pairs if source is None)

    @property
    def removed(self) -> tuple[str, ...]:
        """Old names of the classes that are gone."""
        kept = set(self.sources)
        return tuple(name for i, name in enumerate(self.old_names) if i not in kept)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-serialisable data."""
        return {
            "classes": [
                {
                    "id": i,
                    "name": name,
                    "old_id": source,
                    "old_name": None if source is None else self.old_names[source],
                }
                for i, (name, source) in enumerate(zip(self.names, self.sources, strict=True))
            ],
            "removed": list(self.removed),
        }


def plan_classes(old_names: Sequence[str], changes: ClassChanges) -> ClassPlan:
    """What ``changes`` make of the classes ``old_names``.

    Raises:
        ModelError: a name is unknown (with the closest ones), comes twice, or is no name; no class
            would be left; nothing is to change, or what is asked for contradicts itself.
    """
    if not changes:
        raise ModelError("Nothing is to change: name classes to add, remove, rename or reorder.")
    check_names(old_names, "The model's classes")
    gone = _gone(old_names, changes)
    _check_known(changes.rename, old_names, "rename")
    renamed_and_gone = [name for name in changes.rename if name in gone]
    if renamed_and_gone:
        raise ModelError(f"The class {renamed_and_gone[0]!r} cannot be both renamed and removed.")
    names = [changes.rename.get(name, name) for name in old_names if name not in gone]
    sources: list[int | None] = [i for i, name in enumerate(old_names) if name not in gone]
    names += changes.add
    sources += [None] * len(changes.add)
    if not names:
        raise ModelError("No class would be left; a model has one at least.")
    check_names(names, "The new classes")
    if changes.reorder is not None:
        order = _order(names, changes.reorder)
        names, sources = [names[i] for i in order], [sources[i] for i in order]
    return ClassPlan(tuple(old_names), tuple(names), tuple(sources))


def check_names(names: Iterable[str], what: str) -> None:
    """Names that one line of a labels file can hold, each once.

    Raises:
        ModelError: one cannot, or two are equal.
    """
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or name != name.strip() or not name or not name.isprintable():
            raise ModelError(
                f"{what}: {name!r} is no name; a name is one line of text without blanks around it."
            )
        if name in seen:
            raise ModelError(f"{what}: the name {name!r} comes twice.", name=name)
        seen.add(name)


def _gone(old_names: Sequence[str], changes: ClassChanges) -> set[str]:
    _check_known(changes.remove, old_names, "remove")
    if changes.keep is None:
        return set(changes.remove)
    if changes.remove:
        raise ModelError("keep and remove exclude each other: say what stays, or what goes.")
    _check_known(changes.keep, old_names, "keep")
    return set(old_names) - set(changes.keep)


def _check_known(wanted: Iterable[str], names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in wanted:
        if name not in names:
            raise _unknown(name, names, what)
        if name in seen:
            raise ModelError(f"{what} has the name {name!r} twice.", name=name)
        seen.add(name)


def _order(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    _check_known(wanted, names, "reorder")
    missing = [name for name in names if name not in set(wanted)]
    if missing:
        raise ModelError(
            f"reorder names all classes in their new order; {_listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. To drop a class, remove it.",
            missing=missing,
        )
    return [names.index(name) for name in wanted]


def _unknown(name: str, names: Sequence[str], what: str) -> ModelError:
    by_lower = {known.lower(): known for known in names}
    close = [by_lower[key] for key in difflib.get_close_matches(str(name).lower(), by_lower, n=3)]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are {_listed(names)}."
    return ModelError(f"{what}: the model has no class {name!r}. {hint}", name=name, close=close)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_LISTED])
    more = len(names) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
