"""Which label of a project stands for which of the model's names."""

from __future__ import annotations

from collections.abc import Sequence

from service.label_studio.config import Label


def match_labels(names: Sequence[str], labels: Sequence[Label]) -> dict[int, str]:
    """The label for each of ``names``, by index; a name without one is left out.

    A label stands for the names in its ``predicted_values``, else for its own value. Equal names go
    before those that differ in case alone, and the first label before later ones.
    """
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for label in labels:
        for name in label.predicted:
            exact.setdefault(name, label.name)
            folded.setdefault(name.casefold(), label.name)
    found = ((i, exact.get(name) or folded.get(name.casefold())) for i, name in enumerate(names))
    return {i: label for i, label in found if label is not None}
