"""What a training shows: lines in a file, bars in a terminal, the time that is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from models.training.progress import Progress


class Screen:
    """A console, what it showed, and a clock that moves when told."""

    def __init__(self, *, terminal: bool = False, width: int = 100) -> None:
        self.output = io.StringIO()
        self.now = 0.0
        self.console = Console(
            file=self.output, force_terminal=terminal, width=width, color_system=None, _environ={}
        )

    def progress(self, total: int, start: int = 0, batch_size: int = 8) -> Progress:
        return Progress(
            total, start, batch_size=batch_size, console=self.console, clock=lambda: self.now
        )

    @property
    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()


def test_a_file_gets_a_line_every_twenty_iterations() -> None:
    screen = Screen()
    with screen.progress(60) as progress:
        for iteration in range(1, 61):
            screen.now += 0.5
            progress.step(iteration, {"loss_cls": 0.25, "total_loss": 1.5, "lr": 0.02})

    assert screen.lines == [
        "iteration 20/60  0:00:20 left  16 images/s  total_loss 1.5  loss_cls 0.25  lr 0.02",
        "iteration 40/60  0:00:10 left  16 images/s  total_loss 1.5  loss_cls 0.25  lr 0.02",
        "iteration 60/60  0:00:00 left  16 images/s  total_loss 1.5  loss_cls 0.25  lr 0.02",
    ]


def test_the_last_iteration_has_a_line_whatever_its_number() -> None:
    screen = Screen()
    with screen.progress(7) as progress:
        for iteration in range(1, 8):
            progress.step(iteration, {"total_loss": 1.0})
        progress.step(7, {})

    assert [line.partition("  ")[0] for line in screen.lines] == ["iteration 7/7"]


def test_a_resumed_training_goes_on_where_it_was() -> None:
    screen = Screen()
    with screen.progress(60, start=30) as progress:
        for iteration in range(31, 51):
            screen.now += 1.0
            progress.step(iteration, {"total_loss": 1.0})

    assert screen.lines == ["iteration 40/60  0:00:20 left  8 images/s  total_loss 1"]


def test_a_loss_is_the_median_of_the_last_twenty_iterations() -> None:
    screen = Screen()
    with screen.progress(40) as progress:
        for iteration in range(1, 41):
            progress.step(iteration, {"total_loss": 1000.0 if iteration in (25, 33) else iteration})

    assert "total_loss 10.5" in screen.lines[0]
    assert "total_loss 31.5" in screen.lines[1]


def test_figures_that_come_seldom_are_shown_as_they_are() -> None:
    screen = Screen()
    with screen.progress(40) as progress:
        for iteration in range(1, 41):
            progress.step(
                iteration, {"total_loss": float(iteration)} if iteration % 20 == 0 else {}
            )

    assert [line.partition("total_loss ")[2] for line in screen.lines] == ["20", "40"]


def test_what_is_no_loss_is_not_in_the_line() -> None:
    screen = Screen()
    with screen.progress(20) as progress:
        progress.step(20, {"total_loss": 1.0, "fg_samples": 12.0, "data_seconds": 0.1})
    assert screen.lines == ["iteration 20/20  0:00:00 left  total_loss 1"]


def test_an_evaluation_has_a_line_of_its_headlines_and_stays_in_view() -> None:
    screen = Screen()
    with screen.progress(40) as progress:
        progress.step(20, {"total_loss": 1.0})
        progress.step(
            20, {"bbox/AP": 47.26, "segm/AP": 46.0, "bbox/AP50": 80.0, "bbox/AP-disc": 1.0}
        )
        progress.step(40, {"total_loss": 1.0})

    assert screen.lines[1:] == [
        "iteration 20/40  bbox AP 47.3  segm AP 46.0",
        "iteration 40/40  0:00:00 left  total_loss 1  bbox AP 47.3  segm AP 46.0",
    ]


def test_the_time_left_comes_from_the_median_duration() -> None:
    screen = Screen()
    with screen.progress(100) as progress:
        for iteration, seconds in enumerate((2.0, 1.0, 1.0, 600.0, 1.0), start=1):
            screen.now += seconds
            progress.step(iteration, {})

    assert progress.seconds_per_iteration == 1.0
    assert progress.seconds_left == 95.0


def test_several_iterations_at_once_share_their_time() -> None:
    screen = Screen()
    with screen.progress(100) as progress:
        screen.now += 10.0
        progress.step(20, {})
    assert progress.seconds_per_iteration == 0.5


def test_a_measured_duration_counts_before_the_clock() -> None:
    screen = Screen()
    with screen.progress(100) as progress:
        screen.now += 10.0
        progress.step(20, {"seconds": 0.25})
    assert progress.seconds_left == 20.0


def test_an_evaluation_is_no_part_of_an_iteration() -> None:
    screen = Screen()
    with screen.progress(100) as progress:
        for done in (0, 30, 60):
            screen.now += 50.0
            progress.evaluated(done, 60)
        screen.now += 1.0
        progress.step(1, {})

    assert progress.seconds_per_iteration == 1.0
    assert screen.lines == []


def test_before_the_first_iteration_nothing_is_known() -> None:
    progress = Screen().progress(10)
    assert progress.seconds_per_iteration is None
    assert progress.seconds_left is None


def test_a_long_note_is_one_line_with_its_brackets() -> None:
    screen = Screen(width=40)
    text = f"SOLVER.STEPS [1, 2] {'is ignored ' * 10}"
    with screen.progress(10) as progress:
        progress.note(text)
    assert screen.lines == [text]


def _rows(screen: Screen) -> list[str]:
    """What stands on the terminal after the last control sequence."""
    last = screen.output.getvalue().rpartition("\x1b[2K")[2].removesuffix("\x1b[?25h")
    return [row.strip() for row in last.strip().splitlines()]


def test_a_terminal_shows_a_bar_and_the_figures_below() -> None:
    screen = Screen(terminal=True)
    with screen.progress(100) as progress:
        screen.now += 0.5
        progress.step(25, {"total_loss": 1.5, "lr": 0.02, "seconds": 0.5})
        progress.step(25, {"bbox/AP": 47.3})

    bar, figures = _rows(screen)
    assert bar.startswith("training ━")
    assert bar.endswith("25/100 0:00:38 left  16 images/s")
    assert figures == "total_loss 1.5  lr 0.02  bbox AP 47.3"


def test_a_terminal_shows_a_second_bar_during_an_evaluation_only() -> None:
    screen = Screen(terminal=True)
    with screen.progress(100) as progress:
        progress.evaluated(0, 60)
        assert _rows(screen)[1].startswith("evaluating")
        screen.now += 1.0
        progress.evaluated(30, 60)
        assert " 30/60 " in _rows(screen)[1]
        progress.evaluated(60, 60)
        assert not any("evaluating" in row for row in _rows(screen))


def test_a_terminal_keeps_notes_above_the_bar() -> None:
    screen = Screen(terminal=True)
    with screen.progress(100) as progress:
        progress.note("a new best")
        note, bar = _rows(screen)

    assert note == "a new best"
    assert bar.startswith("training")


def test_a_terminal_is_not_drawn_anew_more_than_ten_times_a_second() -> None:
    screen = Screen(terminal=True)
    with screen.progress(1000) as progress:
        progress.step(1, {})
        before = len(screen.output.getvalue())
        for iteration in range(2, 100):
            screen.now += 0.0005
            progress.step(iteration, {})
        assert len(screen.output.getvalue()) == before


@pytest.mark.parametrize("terminal", [False, True])
def test_an_interrupted_training_leaves_its_last_state(terminal: bool) -> None:
    screen = Screen(terminal=terminal)
    progress = screen.progress(100).__enter__()
    progress.step(20, {"total_loss": 1.5})

    progress.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert "total_loss 1.5" in screen.lines[-2 if terminal else -1]
    assert screen.output.getvalue().endswith("\x1b[?25h") == terminal  # the cursor is back
