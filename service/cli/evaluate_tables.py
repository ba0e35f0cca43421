"""What ``detserve evaluate`` prints: short tables of figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from models.evaluation import DetailedResult
from models.evaluation.panoptic import PanopticResult
from models.evaluation.semantic import SemanticResult
from service.cli.evaluate_outcome import Outcome

KINDS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
"""IoU types in words."""

_NOTES = 3
"""Lines at most: all are in the report."""

_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_CLASSES = 20
"""Rows at most: of more classes the worst are printed, and all are in the report."""


def show(outcome: Outcome, console: Console) -> None:
    """Print what was measured, a screen of it."""
    console.print(outcome.subject.title, style="bold", markup=False)
    detail = outcome.detail
    if detail is not None:
        _show_instances(outcome, detail, console)
    if outcome.panoptic is not None:
        console.print(_panoptic_table(outcome.panoptic))
    if outcome.semantic is not None:
        console.print(_semantic_table(outcome.semantic[1]))
    for hint in outcome.hints:
        console.print(f"hint: {hint}", style="yellow", markup=False)


def _show_instances(outcome: Outcome, detail: DetailedResult, console: Console) -> None:
    result, against = detail.result, outcome.against
    console.print(
        f"{result.dataset}: {result.images} images, {result.instances} instances, {result.detections} "
        "detections",
        style="dim",
        markup=False,
    )
    other = ("the other", against.detail) if against is not None else None
    if other is not None:
        console.print(overall_table([other, ("this", detail)]))
    else:
        console.print(overall_table(outcome.ways))
    console.print()
    if detail.per_class:
        console.print(class_table(detail, other))
    left = classes_left_out(detail)
    if left:
        console.print(f"... and {left} classes more, in the report", style="dim")
    if against is not None:
        comparison = against.comparison
        counts = ", ".join(
            f"{comparison.count(verdict)} {verdict}" for verdict in ("better", "worse", "same")
        )
        console.print(f"Pictures against {against.title}: {counts}.", markup=False)
    for note in detail.notes[:_NOTES]:
        console.print(f"note: {note}", style="dim", markup=False)


def overall_table(results: Sequence[tuple[str, DetailedResult]]) -> Table:
    """A row for each IoU type and result; with several results the change of AP against the first."""
    several = len(results) > 1
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in (*_FIGURES, *(("change",) if several else ())):
        table.add_column(name, justify="right")
    for kind, base in results[0][1].result.figures.items():
        for place, (name, detail) in enumerate(results):
            figures = detail.result.figures.get(kind, {})
            row = [KINDS[kind] + (f", {name}" if several else "")]
            row += [_number(figures.get(figure)) for figure in _FIGURES]
            if several:
                row.append(_change(base.get("AP"), figures.get("AP")) if place else "")
            table.add_row(*map(_plain, row))
    return table


def class_table(detail: DetailedResult, other: tuple[str, DetailedResult] | None = None) -> Table:
    """AP of each class; the worst of many. With ``other`` its AP and the change from it."""
    table = Table(box=None, pad_edge=False)
    kinds = list(detail.per_class)
    finest = kinds[-1]
    table.add_column("class", overflow="fold")
    table.add_column("there", justify="right")
    for kind in kinds:
        table.add_column(f"{KINDS[kind]} AP", justify="right")
    if other is not None:
        table.add_column(f"{KINDS[finest]} AP, {_plain(other[0])}", justify="right")
        table.add_column("change", justify="right")
    table.add_column("best threshold", justify="right")
    table.add_column("F1", justify="right")
    for name in _worst_classes(detail, finest):
        figures = detail.per_class[finest][name]
        row = [_plain(name), _number(figures.get("instances"), 0)]
        row += [_number(detail.per_class[kind][name].get("AP")) for kind in kinds]
        if other is not None:
            before = other[1].per_class.get(finest, {}).get(name, {}).get("AP")
            row += [_number(before), _change(before, figures.get("AP"))]
        best = detail.thresholds.get(finest, {}).get(name)
        known = best if best is not None and best.score is not None else None
        row += [_number(known.score if known else None, 2), _number(known.f1 if known else None, 2)]
        table.add_row(*row)
    return table


def classes_left_out(detail: DetailedResult) -> int:
    """How many classes :func:`class_table` leaves out."""
    return max(0, max((len(c) for c in detail.per_class.values()), default=0) - _CLASSES)


def _panoptic_table(result: PanopticResult) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(("panoptic", "PQ", "SQ", "RQ", "classes")):
        table.add_column(name, justify="right" if place else "left")
    for group, figures in result.figures.items():
        values = [_number(figures[key]) for key in ("PQ", "SQ", "RQ")]
        table.add_row(group, *values, _number(figures["classes"], 0))
    return table


def _semantic_table(result: SemanticResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("semantic")
    for name in result.figures:
        table.add_column(name, justify="right")
    table.add_row("all", *(_number(value) for value in result.figures.values()))
    return table


def _worst_classes(detail: DetailedResult, kind: str) -> list[str]:
    names = list(detail.per_class[kind])
    if len(names) <= _CLASSES:
        return names

    def order(name: str) -> float:
        ap = detail.per_class[kind][name].get("AP")
        return 101.0 if ap is None else ap  # nothing to measure by: last

    return sorted(names, key=order)[:_CLASSES]


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _change(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{after - before:+.2f}"


def _plain(text: str) -> str:
    """Names are no markup."""
    return text.replace("[", r"\[")
