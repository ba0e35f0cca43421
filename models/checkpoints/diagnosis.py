"""Why a file does not fit: the tensors by module, and the config key that is likely wrong."""

from __future__ import annotations

from collections import Counter

from models.checkpoints.hints import PARTS, RULES, Difference, Part, Shapes
from models.errors import CheckpointError

_MAX_HINTS = 8
_MAX_GROUPS = 20


def diagnose(name: str, *, model: Shapes, file: Shapes) -> CheckpointError:
    """The error for a file that does not fit.

    Args:
        name: the file's name.
        model: shapes of the model's tensors by name, without those that may differ.
        file: the same of the file.
    """
    differences = [
        Difference(key, model.get(key), file.get(key), model, file)
        for key in sorted(model.keys() | file.keys())
        if model.get(key) != file.get(key)
    ]
    kinds = Counter(d.kind for d in differences)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    hints = _hints(differences, model, file)
    lines = [f"{name} does not fit the model ({counts}); nothing was loaded."]
    if hints:
        lines.append("Likely: " + "; ".join(hints) + ".")
    lines += _groups(differences)
    missing = [d.name for d in differences if d.file is None]
    unexpected = [d.name for d in differences if d.model is None]
    shapes = [
        {"name": d.name, "model": list(d.model), "file": list(d.file)}
        for d in differences
        if d.model is not None and d.file is not None
    ]
    return CheckpointError(
        "\n".join(lines),
        file=name,
        hints=hints,
        missing=missing,
        unexpected=unexpected,
        wrong_shape=shapes,
    )


def _hints(differences: list[Difference], model: Shapes, file: Shapes) -> list[str]:
    hints: dict[str, None] = {}
    covered: list[str] = []
    for part in PARTS:
        if part.prefix.startswith(tuple(covered)):
            continue
        sides = [any(key.startswith(part.prefix) for key in shapes) for shapes in (model, file)]
        if sides[0] != sides[1]:
            having, without = ("model", "file") if sides[0] else ("file", "model")
            hints[_part_hint(part, having, without)] = None
            covered.append(part.covers or part.prefix)
    for difference in differences:
        if difference.name.startswith(tuple(covered)):
            continue
        for kinds, pattern, explain in RULES:
            match = pattern.fullmatch(difference.name) if difference.kind in kinds else None
            text = explain(match, difference) if match else None
            if text:
                hints[text] = None
                break
    return list(hints)[:_MAX_HINTS]


def _part_hint(part: Part, having: str, without: str) -> str:
    if part.keys.endswith("_ON"):
        has = "has no" if without == "file" else "has a"
        return f"the file {has} {part.name} but {part.keys} is {having == 'model'}"
    return f"the {having} has a {part.name} and the {without} has none: check {part.keys}"


def _groups(differences: list[Difference]) -> list[str]:
    """Lines such as "backbone.bottom_up.res4: 23 missing, e.g. ...", at most a screenful."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for d in differences:
        module = ".".join(d.name.split(".")[:-1][:3]) or d.name
        groups.setdefault((module, d.kind), []).append(d)
    lines = []
    for (module, kind), members in groups.items():
        first = members[0]
        example = first.name.removeprefix(module + ".")
        if first.model is not None and first.file is not None:
            example += f" {list(first.file)} in the file, {list(first.model)} in the model"
        lines.append(f"  {module}: {len(members)} {kind}, e.g. {example}")
    if len(lines) > _MAX_GROUPS:
        lines = [*lines[:_MAX_GROUPS], f"  and {len(lines) - _MAX_GROUPS} more groups"]
    return lines
