"""Which category of a data set each class of a model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.errors import EvaluationError

_NAMES_IN_MESSAGE = 20


@dataclass(frozen=True)
class CategoryMap:
    """Categories of a model's K classes.

    Attributes:
        category_ids: per class id its category's id; None for a class that the data set does not know.
        matched_by: "name", or "order": the ascending ids of the categories are the class ids.
    """

    category_ids: tuple[int | None, ...]
    matched_by: Literal["name", "order"]

    @classmethod
    def between(
        cls,
        dataset: CocoDataset,
        class_names: Sequence[str],
        *,
        unknown_categories: Literal["refuse", "miss"] = "refuse",
    ) -> CategoryMap:
        """By name if all categories are classes of the model, leaving out categories that nothing is
        annotated with (as some tools add one for all); else, if the model's names are placeholders
        and there are as many categories, in order.

        Args:
            dataset: the data set.
            class_names: of the model, by class id; ``class_0``, ... where it has none.
            unknown_categories: "miss": a model need not know all categories, if it knows one by name;
                what it does not know it misses, as a model does that is compared with one that was
                taught more.

        Raises:
            EvaluationError: neither holds; the message lists both.
        """
        known = set(class_names)
        if len(known) != len(class_names):
            raise EvaluationError("The model has two classes of one name; give each its own.")
        used = {annotation["category_id"] for annotation in dataset.annotations}
        unknown = [n for i, n in dataset.categories.items() if n not in known and i in used]
        if (not unknown or unknown_categories == "miss") and known & set(
            dataset.categories.values()
        ):
            ids = {name: i for i, name in dataset.categories.items()}
            return cls(tuple(ids.get(name) for name in class_names), "name")
        are_placeholders = all(name == f"class_{i}" for i, name in enumerate(class_names))
        if are_placeholders and len(dataset.categories) == len(class_names):
            return cls(tuple(dataset.categories), "order")
        categories = list(dataset.categories.values())
        raise EvaluationError(
            f"{dataset.name} has the categories {_listed(categories)}; the model has the classes "
            f"{_listed(class_names)}. Give both the same names, in a labels file or in the data set.",
            categories=categories,
            classes=list(class_names),
            unknown=unknown,
        )


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _NAMES_IN_MESSAGE else ""
    return (", ".join(names[:_NAMES_IN_MESSAGE]) or "(none)") + more
