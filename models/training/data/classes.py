"""Which class of the model each category of a data set is: by name, never by id."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from models.evaluation.files import shown
from models.files import open_regular
from models.training.data.errors import DataError
from models.training.data.findings import EXAMPLES, Finding

_NAMES_IN_MESSAGE = 20
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class ClassMap:
    """The classes, and which of them each category is.

    Attributes:
        class_names: of the model, by class id.
        class_ids: by the id of the category; one that is left out is not there.
        findings: what is worth a word, such as categories that the model does not know.
    """

    class_names: tuple[str, ...]
    class_ids: dict[int, int]
    findings: tuple[Finding, ...]

    @classmethod
    def between(
        cls,
        categories: Mapping[int, str],
        used: Collection[int],
        *,
        class_names: Sequence[str] | None,
        label_map: Mapping[str, str],
        file: str,
    ) -> ClassMap:
        """Match categories with classes by name.

        Args:
            categories: names by id, ascending.
            used: ids that annotations have; a category without any need not be a class of the model.
            class_names: of the model; None takes those of the data.
            label_map: category's name to class's name, where they differ.
            file: name of the data set, for messages.

        Raises:
            DataError: an object's category is no class of the model, or a label map leads to none.
        """
        findings = []
        unknown = [name for name in label_map if name not in categories.values()]
        if unknown:
            findings.append(
                Finding.at(
                    "warning",
                    "label-map-unused",
                    "The label map names categories that the data does not have.",
                    "Are they written as in the data?",
                    unknown,
                )
            )
        wanted = {i: label_map.get(name, name) for i, name in categories.items()}
        names = tuple(dict.fromkeys(wanted.values())) if class_names is None else tuple(class_names)
        if not names:
            raise DataError(f"{file} has no categories, so there is nothing to learn.")
        places = {name: index for index, name in enumerate(names)}
        if len(places) != len(names):
            raise DataError("The model has two classes of one name; give each its own.")
        lost = {old: new for old, new in label_map.items() if new not in places}
        if lost:
            pairs = ", ".join(f"{old}: {new}" for old, new in lost.items())
            raise DataError(
                f"The label map leads to classes that the model does not have ({pairs}); "
                f"its classes are {listed(names)}.",
                unknown=list(lost.values()),
                classes=list(names),
            )
        missing = {i: name for i, name in wanted.items() if name not in places}
        if failing := [name for i, name in missing.items() if i in used]:
            raise DataError(
                _unknown_classes(file, failing, names), unknown=failing, classes=list(names)
            )
        if missing:
            findings.append(
                Finding.at(
                    "note",
                    "category-unknown",
                    "Categories without objects are no classes of the model, and are left out.",
                    "",
                    list(missing.values()),
                )
            )
        class_ids = {i: places[name] for i, name in wanted.items() if name in places}
        findings += _note_of_ids(tuple(categories))
        return cls(names, class_ids, tuple(findings))


def read_label_map(path: str | Path) -> dict[str, str]:
    """The label map in a YAML or JSON file: ``name in the data: name in the model`` a line.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    path = Path(path)
    data = _read_small(path)
    try:
        # YAML's safe loader makes plain values only; JSON goes its own way, as not all of it is YAML.
        content = json.loads(data) if path.suffix.lower() == ".json" else yaml.safe_load(data)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} is no label map: {reason}") from None
    if not isinstance(content, dict) or not all(
        isinstance(value, str) for pair in content.items() for value in pair
    ):
        raise DataError(
            f"{path.name} holds {shown(content)}; a label map has lines 'name in the data: name in the "
            "model'. Names that YAML takes for numbers or booleans stand in quotes."
        )
    return content


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The model's class names in a text file, one a line.

    Raises:
        DataError: the file cannot be read, or has no name or one twice.
    """
    path = Path(path)
    try:
        text = _read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is no UTF-8 text (byte {error.start}).") from None
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names or len(set(names)) != len(names):
        raise DataError(f"{path.name} has no class name, or one twice; it has one name a line.")
    return names


def listed(names: Sequence[str]) -> str:
    """Names as a message shows them; of many the first, and their number."""
    more = f", ... ({len(names)})" if len(names) > _NAMES_IN_MESSAGE else ""
    return (", ".join(names[:_NAMES_IN_MESSAGE]) or "(none)") + more


def _read_small(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > _MAX_BYTES:
        raise DataError(f"{path.name} is over {_MAX_BYTES} bytes, which no list of names is.")
    return data


def _unknown_classes(file: str, unknown: Sequence[str], names: Sequence[str]) -> str:
    close = {name: difflib.get_close_matches(name, names, n=1) for name in unknown}
    guesses = [f"{name}: {found[0]}" for name, found in close.items() if found]
    guess = f" (such as {', '.join(guesses[:EXAMPLES])})" if guesses else ""
    return (
        f"{file} has objects of the classes {listed(unknown)}, which the model does not have; its classes "
        f"are {listed(names)}. Name the model's class of each in a label map, --label-map{guess}; or give "
        f"the model new classes: detserve extend --add {','.join(unknown[:_NAMES_IN_MESSAGE])}."
    )


def _note_of_ids(ids: tuple[int, ...]) -> list[Finding]:
    if ids in (tuple(range(1, len(ids) + 1)), tuple(range(len(ids)))):
        return []
    text = ", ".join(str(i) for i in ids[:EXAMPLES]) + (", ..." if len(ids) > EXAMPLES else "")
    return [
        Finding(
            "note",
            "ids-not-contiguous",
            f"The category ids ({text}) have gaps; classes are matched by name, so nothing is to do.",
        )
    ]
