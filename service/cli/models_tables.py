"""What ``detserve models`` prints: versions, and the figures of a gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
)
from rich.table import Table

TEXT = TextColumn("{task.description}", markup=False)

_MIN_WIDTH = 100  # so that a sentence in a table stays readable, as in a pipe
_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def console(*, stderr: bool = False) -> Console:
    """Made when needed: a console keeps the stream that it found."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=True)
    made.width = max(made.width, _MIN_WIDTH)
    return made


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Columns on standard error that are gone at the end; nothing at all where nobody watches."""
    shown = console(stderr=True)
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


@contextmanager
def bytes_bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar of bytes; what it yields is told what is done and how many more bytes of it."""
    with progress_bar(SpinnerColumn(), TEXT, BarColumn(), DownloadColumn()) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, count: bar.update(task, advance=count, description=what)


def say(text: str) -> None:
    """A line of output."""
    console().print(text, markup=False)


def fail(message: str, code: int = 1) -> int:
    """An error in one sentence; ``code``."""
    console(stderr=True).print(f"error: {message}", style="red", markup=False)
    return code


def print_json(value: Any) -> None:
    """``value`` for programs."""
    console().out(json.dumps(value, indent=2))


def size_text(size: int | None) -> str:
    """Bytes for people."""
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def versions_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each version; ``current`` is a mark, ``aliases`` are joined, the rest is text."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column == "size" else "left",
            overflow="fold",
            no_wrap=column in ("model", "version"),
        )
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "*" if value else ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value).replace("[", r"\[")


def gate_table(gate: Mapping[str, Any]) -> Table:
    """The figures of a gate: of the new version, and of the current one if they were compared."""
    kind = str(gate.get("iou_type", ""))
    sides = {"new": gate.get("candidate"), "current": gate.get("current")}
    figures = {side: _figures(result, kind) for side, result in sides.items() if result}
    table = Table(title=f"{kind} AP", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for side in figures:
        table.add_column(side, justify="right")
    for name in _FIGURES:
        values = [found.get(name) for found in figures.values()]
        if any(value is not None for value in values):
            table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def _figures(result: Any, kind: str) -> Mapping[str, Any]:
    figures = result.get("figures") if isinstance(result, dict) else None
    found = figures.get(kind) if isinstance(figures, dict) else None
    return found if isinstance(found, dict) else {}
