"""The confusion matrix as SVG, legible from a few classes to a hundred, and the list of the worst."""

from __future__ import annotations

from models.evaluation.detail import Confusion
from models.evaluation.report.page import text
from models.evaluation.report.tables import Cell, number_cell, table

MOST_CLASSES = 80
"""More would be no picture any more; those with the most mistakes are shown."""

NUMBERS_UP_TO = 20
"""Classes: with more, cells have their number as a tooltip alone."""

_LETTER = 6.4  # pixels, on average: an SVG does not know how wide its text will be
_NAME_LETTERS = 22


def confusion_body(confusion: Confusion) -> str:
    """The picture with the list of the worst beside it, or below where it takes the width."""
    listed = f"<div><h3>Most frequent confusions</h3>{confusions_table(confusion)}</div>"
    beside = ' class="two"' if len(_shown(confusion)) <= NUMBERS_UP_TO else ""
    return f"<div{beside}>{matrix_svg(confusion)}{listed}</div>"


def matrix_svg(confusion: Confusion) -> str:
    """Rows are what is there, columns what was found; a cell's strength is its share of its row."""
    shown = _shown(confusion)
    names = [_short(confusion.names[i]) for i in shown]
    few = len(shown) <= NUMBERS_UP_TO
    size = max(28, min(64, 560 // (len(shown) + 1))) if few else 12
    font = "" if few else "small"
    letter = _LETTER if few else _LETTER * 0.9
    last = len(confusion.names)
    rows = [(i, name) for i, name in zip(shown, names, strict=True)] + [(last, "nothing there")]
    columns = [(i, name) for i, name in zip(shown, names, strict=True)] + [(last, "missed")]
    margin = round(letter * max(len(name) for _, name in [*rows, *columns])) + 12
    side = size * len(rows)
    width, height = margin + side + 8, margin + side + 8
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        "<title>Confusion matrix</title>"
    ]
    for place, (_, name) in enumerate(rows):
        y = margin + (place + 0.5) * size
        parts.append(
            f'<text class="{font}" x="{margin - 6}" y="{y + 4:.1f}" text-anchor="end">{text(name)}'
            "</text>"
        )
    for place, (_, name) in enumerate(columns):
        x = margin + (place + 0.5) * size + 4
        parts.append(
            f'<text class="{font}" transform="translate({x:.1f} {margin - 6}) rotate(-90)">'
            f"{text(name)}</text>"
        )
    for down, (i, row) in enumerate(rows):
        total = sum(confusion.matrix[i])
        for across, (j, column) in enumerate(columns):
            if i == j == last:
                continue
            said = (row, column) if few else (f"{row} ", f" {column}")
            parts.append(
                _cell(
                    confusion.matrix[i][j],
                    total,
                    x=margin + across * size,
                    y=margin + down * size,
                    size=size,
                    kind="hit" if i == j else "miss",
                    said=f"{said[0].strip()} → {said[1].strip()}",
                    written=few,
                )
            )
    return f'<div class="scroll matrix">{"".join(parts)}</svg></div>'


def left_out(confusion: Confusion) -> int:
    """How many classes the picture leaves out."""
    return max(0, len(confusion.names) - MOST_CLASSES)


def confusions_table(confusion: Confusion, number: int = 12) -> str:
    """The most frequent confusions of two classes; a sentence if there are none."""
    worst = confusion.worst(number)
    if not worst:
        return '<p class="soft">No class was taken for another one.</p>'
    totals = {
        name: sum(row) for name, row in zip(confusion.names, confusion.matrix[:-1], strict=True)
    }
    rows: list[list[Cell | str]] = [
        [
            f"{there} → {found}",
            number_cell(count, 0),
            Cell(f"{100 * count / totals[there]:.1f} %", count / totals[there]),
        ]
        for there, found, count in worst
    ]
    return table(["is → was found as", "times", "share"], rows)


def _shown(confusion: Confusion) -> list[int]:
    """Places of the classes in the picture: all, or those with the most mistakes, in their order."""
    matrix = confusion.matrix
    number = len(confusion.names)
    if number <= MOST_CLASSES:
        return list(range(number))
    mistakes = [
        sum(matrix[i]) + sum(row[i] for row in matrix) - 2 * matrix[i][i] for i in range(number)
    ]
    return sorted(sorted(range(number), key=lambda i: -mistakes[i])[:MOST_CLASSES])


def _cell(
    count: int, total: int, *, x: int, y: int, size: int, kind: str, said: str, written: bool
) -> str:
    share = count / total if total else 0.0
    inner = size - (2 if written else 1)
    square = f'x="{x}" y="{y}" width="{inner}" height="{inner}"'
    parts = [f'<rect class="cell" {square}/>']
    if count:
        # A single mistake among thousands shall be seen as well.
        opacity = 0.12 + 0.88 * share
        tip = f"<title>{text(said)}: {count} ({100 * share:.1f} %)</title>"
        parts.append(f'<rect class="{kind}" {square} opacity="{opacity:.2f}">{tip}</rect>')
        if written:
            tone = "on" if opacity > 0.55 else "off"
            parts.append(
                f'<text class="{tone}" x="{x + inner / 2}" y="{y + inner / 2 + 4}" '
                f'text-anchor="middle" pointer-events="none">{count}</text>'
            )
    return "".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"
