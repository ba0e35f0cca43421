"""Precision-recall curves as SVG, whose colours are the page's."""

from __future__ import annotations

from collections.abc import Sequence

from models.evaluation.detail import BestThreshold, Curve
from models.evaluation.report.page import text

_LINES = (("0.5:0.95", "mean"), ("0.75", "iou75"), ("0.5", "iou50"))

LEGEND = (
    '<p class="soft"><span class="key50">&#9644;</span> IoU 0.5 &nbsp; '
    '<span class="key75">&#9644;</span> IoU 0.75 &nbsp; '
    '<span class="keymean">&#9644;</span> mean over IoU 0.5 to 0.95 &nbsp; '
    '<span class="key50">&#9679;</span> threshold of the best F1</p>'
)
"""What the lines of all curves are, as HTML."""


def large_curve(curve: Curve, title: str) -> str:
    """One plot over the width of a column; ``title`` is plain text."""
    return _plot(curve, title, width=520, height=330, marks=5, best=None)


def small_curve(curve: Curve, title: str, best: BestThreshold | None) -> str:
    """One of many plots, with the place of the best threshold."""
    return _plot(curve, title, width=250, height=190, marks=2, best=best)


def _plot(
    curve: Curve, title: str, *, width: int, height: int, marks: int, best: BestThreshold | None
) -> str:
    left, right, top, bottom = 34, width - 10, 26, height - 34

    def x(recall: float) -> float:
        return left + recall * (right - left)

    def y(precision: float) -> float:
        return bottom - precision * (bottom - top)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img"><title>{text(title)}</title>',
        f'<text class="name" x="{left}" y="15">{text(_short(title, width // 8))}</text>',
    ]
    for step in range(marks + 1):
        value = step / marks
        parts += [
            f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{bottom}"/>',
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>',
            f'<text x="{x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>',
            f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    parts.append(
        f'<text x="{(left + right) / 2:.0f}" y="{height - 4}" text-anchor="middle">recall</text>'
    )
    for iou, kind in _LINES:
        points = _simplified(curve.recall, curve.precision[iou])
        path = " ".join(f"{x(r):.1f},{y(p):.1f}" for r, p in points)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
    if best is not None and best.score is not None:
        said = (
            f"at a threshold of {best.score:.2f}: precision {best.precision:.2f}, recall "
            f"{best.recall:.2f}, F1 {best.f1:.2f}"
        )
        parts.append(
            f'<circle class="dot" cx="{x(best.recall):.1f}" cy="{y(best.precision):.1f}" r="4.5">'
            f"<title>{said}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def _simplified(recall: Sequence[float], precision: Sequence[float]) -> list[tuple[float, float]]:
    """The points without those inside of a level stretch."""
    points = list(zip(recall, precision, strict=True))
    last = len(points) - 1
    return [
        point
        for i, point in enumerate(points)
        if i in (0, last) or not points[i - 1][1] == point[1] == points[i + 1][1]
    ]


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"
