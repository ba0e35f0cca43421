"""Tables of a report, numbers as people read them, and the bars beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.evaluation.report.page import text

_BAR = 64


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        html: what it shows.
        value: what it is sorted by; None goes last.
    """

    html: str
    value: float | str | None = None


def number(value: float | None, digits: int = 1) -> str:
    """With ``digits`` decimals; a dash where there is nothing to measure."""
    return "–" if value is None else f"{value:,.{digits}f}"  # noqa: RUF001  # an en dash is meant


def number_cell(value: float | None, digits: int = 1) -> Cell:
    """A number alone."""
    return Cell(number(value, digits), value)


def bar_cell(value: float | None, most: float = 100.0) -> Cell:
    """A number, and how much of ``most`` it is."""
    if value is None:
        return number_cell(value)
    width = _BAR * min(max(value / most, 0), 1)
    bar = (
        f'<svg class="bar" width="{_BAR}" height="8" aria-hidden="true">'
        f'<rect class="track" width="{_BAR}" height="8" rx="2"/>'
        f'<rect class="full" width="{width:.1f}" height="8" rx="2"/></svg>'
    )
    return Cell(number(value) + bar, value)


def change_cell(value: float | None, most: float, digits: int = 1) -> Cell:
    """A difference with its sign, and a bar to the left or to the right of the middle."""
    if value is None:
        return number_cell(None)
    middle, length = _BAR / 2, _BAR / 2 * min(abs(value) / most, 1) if most else 0.0
    start = middle if value >= 0 else middle - length
    bar = (
        f'<svg class="bar" width="{_BAR}" height="10" aria-hidden="true">'
        f'<rect class="{tone(value)}" x="{start:.1f}" y="1" width="{length:.1f}" height="8"/>'
        f'<line class="axis" x1="{middle}" x2="{middle}" y2="10"/></svg>'
    )
    return Cell(change(value, digits) + bar, value)


def change(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, coloured."""
    if value is None:
        return number(None)
    return f'<span class="{tone(value)}">{value:+.{digits}f}</span>'


def tone(value: float) -> str:
    """Whether a difference is good or bad, as a class of the style sheet."""
    return "good" if value > 0 else "bad" if value < 0 else "soft"


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, sort: bool = False) -> str:
    """A table whose first column is names.

    Args:
        heads: plain text.
        rows: plain text or cells.
        sort: a click on a head sorts by its column.
    """
    head = "".join(
        f"<th>{f'<button>{text(name)}</button>' if sort else text(name)}</th>" for name in heads
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    kind = ' class="sortable"' if sort else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts_table(facts: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, all plain text."""
    rows = "".join(f"<tr><td>{text(k)}</td><td>{text(v)}</td></tr>" for k, v in facts if v)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def tile(label: str, value: str, below: str = "") -> str:
    """A figure that is read from afar; ``value`` and ``below`` are HTML."""
    return f'<div class="tile"><span>{text(label)}</span><b>{value}</b><span>{below}</span></div>'


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f'<td data-value="{text(cell)}">{text(cell)}</td>'
    value = "" if cell.value is None else text(cell.value)
    return f'<td data-value="{value}">{cell.html}</td>'
