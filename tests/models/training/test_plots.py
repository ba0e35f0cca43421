"""Pictures of a training: which are drawn from which figures, and what stands in them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from models.errors import ModelError
from models.training.journal import METRICS, Journal
from models.training.plots import plot_training, smoothed


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that would be saved, by name of their file; drawing the pixels takes long."""
    saved: dict[str, Any] = {}

    def savefig(figure: matplotlib.figure.Figure, path: Path) -> None:
        saved[path.name] = figure

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return saved


def _journal(folder: Path, *lines: tuple[int, dict[str, float]]) -> Path:
    with Journal(folder) as journal:
        for iteration, figures in lines:
            journal.write(iteration, figures)
    return folder / METRICS


def _legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


_LINES = (
    (20, {"total_loss": 3.0, "loss_cls": 2.0, "lr": 0.1}),
    (40, {"total_loss": 2.0, "loss_cls": 1.0, "lr": 0.1}),
    (40, {"bbox/AP": 40.0}),
)


def test_each_picture_is_a_png_of_a_legible_size(tmp_path: Path) -> None:
    drawn = plot_training(_journal(tmp_path, *_LINES), tmp_path / "plots")

    assert [path.name for path in drawn] == ["losses.png", "ap.png", "lr.png"]
    for path in drawn:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.size == (1235, 650)
            assert len(np.unique(np.asarray(image))) > 20  # something is drawn


def test_each_picture_has_a_title_and_labels(tmp_path: Path, figures: dict[str, Any]) -> None:
    plot_training(_journal(tmp_path, *_LINES), tmp_path)

    labels = {
        name: (axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel())
        for name, axes in ((name, figure.axes[0]) for name, figure in figures.items())
    }
    assert labels == {
        "losses.png": ("Losses", "iteration", "loss"),
        "ap.png": ("Evaluation on the validation images", "iteration", "score (per cent)"),
        "lr.png": ("Learning rate", "iteration", "learning rate"),
    }


def test_losses_are_drawn_raw_and_smoothed_the_total_first(
    tmp_path: Path, figures: dict[str, Any]
) -> None:
    lines = [(i, {"loss_cls": 1.0 + i % 2, "total_loss": 2.0}) for i in range(1, 121)]

    plot_training(_journal(tmp_path, *lines), tmp_path)

    assert _legend(figures["losses.png"]) == ["total_loss  2", "loss_cls  1.33"]
    raw, smooth = figures["losses.png"].axes[0].lines[2:]
    assert np.ptp(raw.get_ydata()) == 1.0
    assert np.ptp(smooth.get_ydata()[5:-5]) < 0.3


def test_the_scale_is_logarithmic_unless_a_loss_reaches_zero(
    tmp_path: Path, figures: dict[str, Any]
) -> None:
    plot_training(_journal(tmp_path, (1, {"total_loss": 2.0}), (2, {"total_loss": 1.0})), tmp_path)
    assert figures["losses.png"].axes[0].get_yscale() == "log"

    plot_training(_journal(tmp_path, (1, {"total_loss": 2.0}), (2, {"total_loss": 0.0})), tmp_path)
    assert figures["losses.png"].axes[0].get_yscale() == "linear"


def test_the_best_evaluation_is_marked_and_classes_are_left_out(
    tmp_path: Path, figures: dict[str, Any]
) -> None:
    journal = _journal(
        tmp_path,
        (0, {"bbox/AP": 1.0, "segm/AP": math.nan, "bbox/AP-disc": 99.0}),
        (1000, {"bbox/AP": 47.26, "segm/AP": 46.0, "bbox/AP50": 80.0}),
        (2000, {"bbox/AP": 46.0, "segm/AP": 46.5}),
    )

    plot_training(journal, tmp_path)

    assert _legend(figures["ap.png"]) == [
        "box AP\nbest 47.3 at iteration 1,000",
        "mask AP\nbest 46.5 at iteration 2,000",
    ]
    stars = [line for line in figures["ap.png"].axes[0].lines if line.get_marker() == "*"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in stars] == [
        (1000, 47.26),
        (2000, 46.5),
    ]


def test_the_learning_rate_is_drawn_as_logged(tmp_path: Path, figures: dict[str, Any]) -> None:
    plot_training(_journal(tmp_path, (1, {"lr": 0.1}), (2, {"lr": 0.01})), tmp_path)

    (line,) = figures["lr.png"].axes[0].lines
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == [0.1, 0.01]


def test_without_figures_nothing_is_drawn(tmp_path: Path) -> None:
    assert plot_training(_journal(tmp_path), tmp_path / "plots") == []


def test_an_evaluation_that_measured_nothing_has_no_picture(tmp_path: Path) -> None:
    assert plot_training(_journal(tmp_path, (1, {"bbox/AP": math.nan})), tmp_path) == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_training_that_diverged_is_drawn_with_gaps(tmp_path: Path, count: int) -> None:
    lines = [(i, {"total_loss": math.nan, "lr": 0.1}) for i in range(count)]
    assert len(plot_training(_journal(tmp_path, *lines), tmp_path)) == 2


def test_many_losses_have_curves_that_differ(tmp_path: Path, figures: dict[str, Any]) -> None:
    losses = {f"loss_{i}": 1.0 for i in range(12)}

    plot_training(_journal(tmp_path, (1, losses), (2, losses)), tmp_path)

    smooth = [line for line in figures["losses.png"].axes[0].lines if line.get_alpha() is None]
    assert len({(line.get_color(), line.get_linestyle()) for line in smooth}) == 12


def test_smoothing_takes_the_mean_of_known_neighbours() -> None:
    values = np.array([1.0, 3.0, math.nan, 5.0, 9.0])
    assert smoothed(values, 3).tolist() == [2.0, 2.0, 4.0, 7.0, 7.0]
    assert np.isnan(smoothed(np.array([math.nan, math.nan]), 1)).all()


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _journal(tmp_path, (1, {"lr": 0.1}))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModelError, match=r"pip install 'detserve\[train\]'"):
        plot_training(journal, tmp_path)
