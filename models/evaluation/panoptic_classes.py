"""Which category of a panoptic data set each class of a model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.errors import EvaluationError
from models.evaluation.panoptic_dataset import PanopticDataset

_SHOWN = 10

Ids = tuple[int | None, ...]


@dataclass(frozen=True)
class PanopticClasses:
    """Category ids of a model's things and of the classes of its semantic head; None for a class that
    the data set does not know, as for the semantic head's first one, which stands for all things."""

    things: Ids
    stuff: Ids

    @classmethod
    def between(
        cls, dataset: PanopticDataset, thing_names: Sequence[str], stuff_names: Sequence[str]
    ) -> PanopticClasses:
        """By name, things with things and stuff with stuff; else, if the names are the placeholders
        ``class_0`` and ``stuff_0`` and there are as many categories, in the order of the ids.

        Args:
            dataset: the data set.
            thing_names: of the model, by class id.
            stuff_names: of its semantic head, by class id; the first one stands for all things.

        Raises:
            EvaluationError: a category that is in a picture is no class of the model.
        """
        used = {s.category_id for image in dataset.images for s in image.segments}

        def of(categories: dict[int, str], names: list[str], placeholders: list[str]) -> Ids:
            if names and names == placeholders and len(names) == len(categories):
                return tuple(categories)
            unknown = [n for i, n in categories.items() if i in used and n not in names]
            if unknown:
                raise EvaluationError(
                    f"{dataset.name} has {_listed(unknown)}, which the model does not know: it has "
                    f"{_listed(names)}. Give both the same names, in a labels file or in the data set.",
                    unknown=unknown,
                )
            ids = {name: i for i, name in categories.items()}
            return tuple(ids.get(name) for name in names)

        things = {i: n for i, n in dataset.categories.items() if i in dataset.things}
        stuff = {i: n for i, n in dataset.categories.items() if i not in dataset.things}
        regions = list(stuff_names[1:])
        return cls(
            things=of(things, list(thing_names), [f"class_{i}" for i in range(len(thing_names))]),
            stuff=(None, *of(stuff, regions, [f"stuff_{i + 1}" for i in range(len(regions))])),
        )

    def category(self, segment: dict[str, Any]) -> int | None:
        """The category of a segment of an answer.

        Raises:
            EvaluationError: its class is none of the model's.
        """
        known = self.things if segment["isthing"] else self.stuff
        found = int(segment["category_id"])
        if not 0 <= found < len(known):
            raise EvaluationError(
                f"An answer has a segment of class {found}; the model has {len(known)} of "
                f"{'things' if segment['isthing'] else 'stuff'}."
            )
        return known[found]


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "(none)") + more
