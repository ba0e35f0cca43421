"""Two models side by side in a report: figures, classes, and the pictures that they differ in."""

from __future__ import annotations

from dataclasses import dataclass

from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.comparison import Change, Comparison, ImageChange
from models.evaluation.detail import DetailedResult
from models.evaluation.report.figures import KIND_NAMES
from models.evaluation.report.gallery import LEGEND, Gallery
from models.evaluation.report.page import Section
from models.evaluation.report.tables import (
    Cell,
    change,
    change_cell,
    number,
    number_cell,
    table,
    tile,
)

MOST_PICTURES = 6
"""That got better, and as many that got worse; each is there twice."""

_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class Against:
    """What a model was compared with; the other one comes first in the comparison.

    Attributes:
        title: of the other model.
        detail: what was measured of it.
        comparison: of the two.
    """

    title: str
    detail: DetailedResult
    comparison: Comparison


def compared_sections(
    detail: DetailedResult, against: Against, dataset: CocoDataset, name: str
) -> list[Section]:
    """The sections of a comparison; ``name`` is the model's."""
    comparison = against.comparison
    figures = Section(
        "against",
        "Compared",
        _tiles(comparison) + _figures_table(comparison) + _classes_tables(comparison),
        f"This is {name}, the other is {against.title}. A change above 0 is for this one. A picture is "
        "better or worse by its F1, at the thresholds of the confusion.",
    )
    gallery = Gallery(dataset)

    def pairs(changes: list[ImageChange]) -> str:
        return LEGEND + "".join(
            gallery.pair(
                against.detail,
                detail,
                one.image_id,
                names=("other", "this"),
                said=_said(one),
            )
            for one in changes
        )

    sections = [figures]
    if not (detail.answers and against.detail.answers):
        return sections  # there is nothing to draw
    for anchor, title, changes in (
        ("worse", "Pictures that got worse", comparison.most_worsened(MOST_PICTURES)),
        ("better", "Pictures that got better", comparison.most_improved(MOST_PICTURES)),
    ):
        if changes:
            intro = (
                f"The {len(changes)} with the largest change. Left the other, {against.title}; right this, "
                f"{name}."
            )
            sections.append(Section(anchor, title, pairs(changes), intro))
    return sections


def _tiles(comparison: Comparison) -> str:
    parts = [
        tile(
            f"AP of {KIND_NAMES[kind]}",
            change(figures["AP"].difference),
            f"{number(figures['AP'].before)} → {number(figures['AP'].after)}",
        )
        for kind, figures in comparison.figures.items()
    ]
    total = len(comparison.images)
    parts += [
        tile("pictures better", str(comparison.count("better")), f"of {total}"),
        tile("pictures worse", str(comparison.count("worse")), f"of {total}"),
    ]
    return f'<div class="tiles">{"".join(parts)}</div>'


def _figures_table(comparison: Comparison) -> str:
    rows: list[list[Cell | str]] = []
    for kind, figures in comparison.figures.items():
        for what, side in (("other", "before"), ("this", "after")):
            values = [getattr(figures[key], side) if key in figures else None for key in _FIGURES]
            rows.append([f"{KIND_NAMES[kind]}, {what}", *map(number_cell, values)])
        differences = [figures[key].difference if key in figures else None for key in _FIGURES]
        rows.append([f"{KIND_NAMES[kind]}, change", *(Cell(change(d), d) for d in differences)])
    return table(["", *_FIGURES], rows)


def _classes_tables(comparison: Comparison) -> str:
    parts = []
    for kind, classes in comparison.per_class.items():
        most = max((abs(c.difference or 0.0) for c in classes.values()), default=0.0)
        rows = [_class_row(name, one, most) for name, one in classes.items()]
        parts.append(
            f"<h3>AP of {KIND_NAMES[kind]} by class</h3>"
            + table(["class", "other", "this", "change"], rows, sort=True)
        )
    return "".join(parts)


def _said(one: ImageChange) -> str:
    """What changed in a picture, in words."""
    parts = [f"{one.path.name}: F1 {one.before.goodness:.2f} → {one.after.goodness:.2f}"]
    parts += [f"{len(one.gained)} found that was not"] if one.gained else []
    parts += [f"{len(one.lost)} lost"] if one.lost else []
    return ", ".join(parts)


def _class_row(name: str, one: Change, most: float) -> list[Cell | str]:
    return [
        name,
        number_cell(one.before),
        number_cell(one.after),
        change_cell(one.difference, most),
    ]
