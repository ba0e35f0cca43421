"""Pictures of a training, drawn from its log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.training.journal import Line, read_journal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES, AVERAGE_PRECISION, LEARNING_RATE = "losses.png", "ap.png", "lr.png"

_HEADLINES = ("AP", "PQ", "mIoU")
_TITLES = {
    "bbox/AP": "box AP",
    "segm/AP": "mask AP",
    "keypoints/AP": "keypoint AP",
    "panoptic_seg/PQ": "panoptic quality",
    "sem_seg/mIoU": "semantic mIoU",
}
_INK, _GRID = "#222222", "#dddddd"
# Okabe and Ito's colours, which the colour-blind can tell apart, without black and yellow.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":")  # for more curves than colours

_LEGEND: dict[str, Any] = {
    "loc": "upper left",
    "bbox_to_anchor": (1.01, 1.0),  # beside the curves, never on them
    "borderaxespad": 0.0,
    "frameon": False,
    "alignment": "left",
}

_STAR: dict[str, Any] = {
    "markersize": 17,
    "markeredgecolor": "white",
    "zorder": 3,
    "clip_on": False,
}

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Iterations and what was measured after them, NaN where it was no number."""


def plot_training(journal: Path, folder: Path) -> list[Path]:
    """Draws ``losses.png``, ``ap.png`` and ``lr.png``, each where the log has figures for it.

    Args:
        journal: a training's ``metrics.jsonl``.
        folder: where the pictures go; is made if it is not there.

    Returns:
        The pictures that were drawn.

    Raises:
        ModelError: the log cannot be read, or Matplotlib is not installed.
    """
    lines = read_journal(journal)
    names = list(dict.fromkeys(name for line in lines for name in line))
    losses = sorted((n for n in names if "loss" in n), key=lambda name: name != "total_loss")
    evaluations = [n for n in names if n.partition("/")[2] in _HEADLINES and _measured(lines, n)]
    folder.mkdir(parents=True, exist_ok=True)
    last = max((line["iteration"] for line in lines), default=0)
    drawn = []
    if losses:
        drawn.append(_losses({n: _curve(lines, n) for n in losses}, last, folder / LOSSES))
    if evaluations:
        curves = {n: _curve(lines, n) for n in evaluations}
        drawn.append(_evaluations(curves, last, folder / AVERAGE_PRECISION))
    if "lr" in names:
        drawn.append(_learning_rate(_curve(lines, "lr"), last, folder / LEARNING_RATE))
    return drawn


def smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(N,) means over ``width`` neighbours (odd), fewer at the ends; NaN counts for nothing."""
    known = np.isfinite(values)
    kernel = np.ones(width)
    half = width // 2
    sums = np.convolve(np.where(known, values, 0.0), kernel)[half : half + len(values)]
    counts = np.convolve(known.astype(np.float64), kernel)[half : half + len(values)]
    means: NDArray[np.float64] = np.full(len(values), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _losses(curves: dict[str, Curve], last: float, path: Path) -> Path:
    figure, axes = _figure("Losses", "loss", last)
    styles = iter([(colour, dash) for dash in _DASHES for colour in _COLOURS] * len(curves))
    for name, (iterations, values) in curves.items():
        total = name == "total_loss"
        colour, dash = (_INK, "-") if total else next(styles)
        width = 2 * (len(values) // 60) + 1
        smooth = smoothed(values, width)
        axes.plot(iterations, values, color=colour, alpha=0.2, linewidth=0.8)
        axes.plot(
            iterations,
            smooth,
            dash,
            color=colour,
            linewidth=2.2 if total else 1.6,
            marker="o" if len(values) == 1 else "",
            label=f"{name}  {_last(smooth):.3g}",
        )
    if all(_positive(values) for _, values in curves.values()):
        axes.set_yscale("log")  # the small losses and the large one, the start and the end
        _plain_log_labels(axes)
    axes.legend(title="smoothed; value at the end", **_LEGEND)
    return _saved(figure, path)


def _evaluations(curves: dict[str, Curve], last: float, path: Path) -> Path:
    figure, axes = _figure("Evaluation on the validation images", "score (per cent)", last)
    for i, (name, (iterations, values)) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        label = _TITLES.get(name, name)
        best = int(np.nanargmax(values))
        label += f"\nbest {values[best]:.1f} at iteration {iterations[best]:,.0f}"
        axes.plot(iterations[best], values[best], "*", color=colour, **_STAR)
        axes.plot(iterations, values, "o-", color=colour, markersize=4.5, label=label)
    axes.margins(y=0.12)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.legend(labelspacing=1.0, **_LEGEND)
    return _saved(figure, path)


def _learning_rate(curve: Curve, last: float, path: Path) -> Path:
    figure, axes = _figure("Learning rate", "learning rate", last)
    axes.plot(*curve, color=_COLOURS[0], marker="o" if len(curve[0]) == 1 else "")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(bottom=0)
    return _saved(figure, path)


def _curve(lines: list[Line], name: str) -> Curve:
    points = [(line["iteration"], line[name]) for line in lines if name in line]
    iterations, values = np.array(points, dtype=np.float64).T
    return iterations, values


def _measured(lines: list[Line], name: str) -> bool:
    return any(np.isfinite(line[name]) for line in lines if name in line)


def _last(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else float("nan")


def _positive(values: NDArray[np.float64]) -> bool:
    return bool((values[np.isfinite(values)] > 0).all())


def _figure(title: str, y_label: str, last_iteration: float) -> tuple[Figure, Axes]:
    """A figure of its own: pyplot's shared state and its choice of a window stay out of it."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    except ImportError as error:
        raise ModelError(
            "Plots need Matplotlib, which is not installed: pip install 'detserve[train]'."
        ) from error
    figure = Figure(figsize=(9.5, 5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK)
    axes.set_xlabel("iteration", color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.set_xlim(0, max(1, last_iteration) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(colors="#555555")
    return figure, axes


def _plain_log_labels(axes: Axes) -> None:
    """0.05 in place of 5 x 10^-2, and as many numbers as one decade needs."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    return path
