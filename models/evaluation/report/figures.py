"""COCO's figures in a report: the tiles on top, the table of all of them, and one row for each class."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.detail import DetailedResult
from models.evaluation.report.curves import LEGEND, large_curve, small_curve
from models.evaluation.report.tables import (
    Cell,
    bar_cell,
    change_cell,
    number,
    number_cell,
    table,
    tile,
)

KIND_NAMES = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
"""IoU types in words."""

_OVERALL = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_OF_CLASS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
_HEADS = {"APs": "AP small", "APm": "AP medium", "APl": "AP large", "AR100": "AR"}
_SMALL_CURVES = 24
"""Classes whose curves are shown at once; those of more are behind a line to click on."""


def tiles(detail: DetailedResult) -> str:
    """The figures that are read from afar."""
    figures = detail.result.figures
    parts = [
        tile(
            f"AP of {KIND_NAMES[kind]}",
            number(of_kind["AP"]),
            f"AP50 {number(of_kind['AP50'])} · AP75 {number(of_kind['AP75'])}",
        )
        for kind, of_kind in figures.items()
    ]
    right = sum(image.true_positives for image in detail.images)
    confused = sum(image.confused for image in detail.images)
    false = sum(image.false_positives for image in detail.images)
    missed = sum(image.false_negatives for image in detail.images)
    there, found = right + confused + missed, right + confused + false
    at = f"at a score of {detail.confusion.score_threshold:g}"
    parts += [
        tile("found of what is there", _share(right, there), f"{right} of {there} {at}"),
        tile("right of what is found", _share(right, found), f"{right} of {found} {at}"),
    ]
    return f'<div class="tiles">{"".join(parts)}</div>'


def overall_table(results: Sequence[tuple[str, DetailedResult]]) -> str:
    """A row for each IoU type, of each result if there are several; a second one with its gain."""
    rows: list[list[Cell | str]] = []
    for kind in results[0][1].result.figures:
        base = results[0][1].result.figures[kind]
        for place, (name, detail) in enumerate(results):
            figures = detail.result.figures.get(kind, {})
            values = [_recall(figures) if key == "AR100" else figures.get(key) for key in _OVERALL]
            label = KIND_NAMES[kind] + (f", {name}" if len(results) > 1 else "")
            row: list[Cell | str] = [label, *map(number_cell, values)]
            if len(results) > 1:
                gain = _difference(base.get("AP"), figures.get("AP")) if place else None
                row.append(change_cell(gain, 10.0))
            rows.append(row)
    heads = ["", *(_HEADS.get(key, key) for key in _OVERALL)]
    return table([*heads, "change of AP"] if len(results) > 1 else heads, rows)


def class_tables(detail: DetailedResult) -> str:
    """For each IoU type a table of all classes, which sorts by a click."""
    several = len(detail.per_class) > 1
    return "".join(
        (f"<h3>AP of {KIND_NAMES[kind]}</h3>" if several else "") + _class_table(detail, kind)
        for kind in detail.per_class
    )


def _class_table(detail: DetailedResult, kind: str) -> str:
    rows: list[list[Cell | str]] = []
    for name, figures in detail.per_class[kind].items():
        best = detail.thresholds.get(kind, {}).get(name)
        has_best = best is not None and best.score is not None
        rows.append(
            [
                name,
                number_cell(figures.get("instances"), 0),
                number_cell(figures.get("detections"), 0),
                bar_cell(figures.get("AP")),
                *(number_cell(figures.get(key)) for key in _OF_CLASS[1:]),
                number_cell(best.score if best is not None and has_best else None, 2),
                number_cell(best.f1 if best is not None and has_best else None, 2),
                number_cell(best.precision if best is not None and has_best else None, 2),
                number_cell(best.recall if best is not None and has_best else None, 2),
            ]
        )
    heads = ["class", "there", "found", *(_HEADS.get(key, key) for key in _OF_CLASS)]
    return table([*heads, "best threshold", "F1", "precision", "recall"], rows, sort=True)


def curve_plots(detail: DetailedResult) -> str:
    """Mean curves side by side, and a small one for each class, of the finest IoU type."""
    kinds = [kind for kind in detail.curves if detail.mean_curve(kind) is not None]
    if not kinds:
        return '<p class="soft">The data set has no instances to draw curves of.</p>'
    large = ""
    for kind in kinds[-2:]:
        curve = detail.mean_curve(kind)
        assert curve is not None, "asked before"
        large += (
            f'<div class="large">{large_curve(curve, f"{KIND_NAMES[kind]}, all classes")}</div>'
        )
    finest = kinds[-1]
    curves = detail.curves[finest]
    thresholds = detail.thresholds.get(finest, {})
    small = '<div class="curves">{}</div>'.format(
        "".join(small_curve(curve, name, thresholds.get(name)) for name, curve in curves.items())
    )
    if len(curves) > _SMALL_CURVES:
        small = (
            f"<details><summary>Curves of {len(curves)} classes ({KIND_NAMES[finest]})</summary>"
            f"{small}</details>"
        )
    else:
        small = f"<h3>By class ({KIND_NAMES[finest]})</h3>{small}"
    grid = "two-even" if len(kinds) > 1 else "large"
    return f'{LEGEND}<div class="{grid}">{large}</div>{small}'


def _recall(figures: dict[str, float | None]) -> float | None:
    """Keypoints have one recall, without a number of detections in its name."""
    return figures.get("AR100", figures.get("AR"))


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else number(None)
