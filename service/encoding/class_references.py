"""Which classes of a model a request means: by their names or their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from service.errors import Unprocessable
from service.inference.detector import ModelDescription


def class_ids(wanted: Sequence[int | str], model: ModelDescription) -> frozenset[int]:
    """The ids of the option ``classes``.

    Args:
        wanted: a number is an id; a text is a name, several with commas between them, or an id if no
            class has that name.
        model: whose classes they are.

    Raises:
        Unprocessable: ``unknown_class``.
    """
    by_name = _ids_by_name(model)
    ids = set()
    for given in wanted:
        if isinstance(given, int):
            ids.add(_known(given, given, model, "classes"))
            continue
        # A name may hold a comma itself, so the whole is tried first.
        for part in [given] if given in by_name else given.split(","):
            ids.add(_id_of(part.strip(), by_name, model, "classes"))
    return frozenset(ids)


def ids_of_names(
    names: Iterable[str], model: ModelDescription, *, option: str
) -> list[tuple[str, int]]:
    """Each name, or id as text, with its id; the same class only once.

    Raises:
        Unprocessable: ``unknown_class``, or ``invalid_option``: two of them are one class.
    """
    by_name = _ids_by_name(model)
    seen: dict[int, str] = {}
    for name in names:
        class_id = _id_of(name, by_name, model, option)
        if class_id in seen:
            raise Unprocessable(
                "invalid_option",
                f"Option {option} names the class {model.class_names[class_id]!r} twice, as "
                f"{seen[class_id][:64]!r} and as {name[:64]!r}.",
                option=option,
            )
        seen[class_id] = name
    return [(name, class_id) for class_id, name in seen.items()]


def _ids_by_name(model: ModelDescription) -> dict[str, int]:
    return {name: i for i, name in enumerate(model.class_names)}


def _id_of(name: str, by_name: dict[str, int], model: ModelDescription, option: str) -> int:
    is_number = name.isascii() and name.isdigit() and len(name) < 10
    return _known(by_name.get(name, int(name) if is_number else -1), name, model, option)


def _known(class_id: int, given: int | str, model: ModelDescription, option: str) -> int:
    names = model.class_names
    if 0 <= class_id < len(names):
        return class_id
    if not names:
        raise Unprocessable(
            "unknown_class", f"This model finds no classes of instances; leave {option} out."
        )
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    value = given if isinstance(given, int) else given[:64]
    raise Unprocessable(
        "unknown_class",
        f"The model has no class {value!r}; its {len(names)} classes are {shown} "
        f"(ids 0 to {len(names) - 1}). GET /models lists them all.",
        value=value,
    )
