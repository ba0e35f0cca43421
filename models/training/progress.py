"""What a training shows while it runs: bars in a terminal, lines of text everywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from statistics import median
from types import TracebackType

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

_HEADLINES = ("AP", "PQ", "mIoU")
_WINDOW = 20  # iterations whose median is shown, as Detectron2 prints
_REFRESH_SECONDS = 0.1


class Progress:
    """Loss, learning rate, time left, images per second, and the last evaluation.

    Use it as a context manager, and call :meth:`step` after each iteration. A terminal shows bars;
    anything else (a file, a pipe) gets a line every ``every`` iterations. A loss is shown as the
    median over the last 20 iterations, the time left from the median of the last durations.

    Args:
        total: iterations of the whole training.
        start: how many of them were done before.
        batch_size: images per iteration, over all processes.
        console: where to show it; None is standard error.
        every: iterations between two lines of text.
        clock: seconds, ever rising.
    """

    def __init__(
        self,
        total: int,
        start: int,
        *,
        batch_size: int,
        console: Console | None = None,
        every: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._total = total
        self._batch_size = batch_size
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._every = every
        self._clock = clock
        self._iteration = start
        self._printed = start
        self._mark: float | None = None
        self._refreshed: float | None = None
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._losses: dict[str, deque[tuple[int, float]]] = {}
        self._learning_rate: float | None = None
        self._evaluation: dict[str, float] = {}
        self._live: Live | None = None
        plain = TextColumn("{task.description}", markup=False)
        after = TextColumn("{task.fields[after]}", markup=False)
        self._bars = Bars(plain, BarColumn(None), MofNCompleteColumn(), after, expand=True)
        self._training = self._bars.add_task("training", total=total, completed=start, after="")
        self._evaluating = self._bars.add_task("evaluating", total=1, visible=False, after="images")

    def __enter__(self) -> Progress:
        self._mark = self._clock()
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # No thread that refreshes: processes that load pictures may be forked at any time.
            self._live = Live(self._shown(), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._bars.update(self._evaluating, visible=False)
            self._live.update(self._shown(), refresh=True)
            self._live.stop()
            self._live = None

    @property
    def seconds_per_iteration(self) -> float | None:
        """The median of the last durations; None before the first."""
        return median(self._durations) if self._durations else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last iteration, evaluations not counted; None before the first."""
        seconds = self.seconds_per_iteration
        return None if seconds is None else seconds * (self._total - self._iteration)

    def step(self, iteration: int, figures: Mapping[str, float]) -> None:
        """Shows that ``iteration`` iterations are done.

        Args:
            iteration: may advance by more than one.
            figures: those that are known now, maybe none: ``total_loss``, losses, ``lr``; ``seconds``
                of an iteration (else the time since the last step counts); and of an evaluation
                ``bbox/AP`` and its like.
        """
        self._measure(iteration, figures.get("seconds"))
        self._iteration = iteration
        for name, value in figures.items():
            if "loss" in name:
                self._losses.setdefault(name, deque()).append((iteration, float(value)))
        for values in self._losses.values():
            while len(values) > 1 and values[0][0] <= iteration - _WINDOW:
                values.popleft()
        if "lr" in figures:
            self._learning_rate = float(figures["lr"])
        headlines = {
            name: float(value)
            for name, value in figures.items()
            if name.partition("/")[2] in _HEADLINES
        }
        self._evaluation.update(headlines)
        if self._live is not None:
            self._refresh(force=bool(headlines) or iteration >= self._total)
            return
        if headlines:
            self._line(iteration, _evaluation_texts(headlines))
        due = iteration // self._every > self._printed // self._every
        ended = iteration >= self._total > self._printed
        if self._losses and (due or ended):
            self._printed = iteration
            self._line(iteration, [*self._speed(), *self._figures()])

    def evaluated(self, done: int, total: int) -> None:
        """Shows a bar of an evaluation, ``done`` of ``total`` images, until they are all done.

        The time of the evaluation does not count as that of an iteration.
        """
        self._mark = self._clock()
        if self._live is not None:
            self._bars.update(self._evaluating, completed=done, total=total, visible=done < total)
            self._refresh(force=done in (0, total))

    def note(self, text: str) -> None:
        """A sentence that stays: above the bars, or a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _measure(self, iteration: int, seconds: float | None) -> None:
        now = self._clock()
        advanced = iteration - self._iteration
        if advanced > 0:
            if seconds is None and self._mark is not None:
                seconds = (now - self._mark) / advanced
            if seconds is not None:
                self._durations.append(float(seconds))
        self._mark = now

    def _refresh(self, *, force: bool) -> None:
        now = self._clock()
        due = self._refreshed is None or now - self._refreshed >= _REFRESH_SECONDS
        if self._live is not None and (due or force):
            self._refreshed = now
            self._live.update(self._shown(), refresh=True)

    def _shown(self) -> Group:
        speed = "  ".join(self._speed())
        self._bars.update(self._training, completed=self._iteration, after=speed)
        # In columns, so that a narrow terminal never parts a name from its number.
        figures = [Text(text, style="dim", no_wrap=True) for text in self._figures()]
        return Group(self._bars, Columns(figures, padding=(0, 2)))

    def _line(self, iteration: int, texts: list[str]) -> None:
        self.note("  ".join([f"iteration {iteration}/{self._total}", *texts]))

    def _speed(self) -> list[str]:
        seconds, left = self.seconds_per_iteration, self.seconds_left
        if seconds is None or left is None:
            return []
        texts = [f"{timedelta(seconds=round(left))} left"]
        return texts + ([f"{self._batch_size / seconds:.3g} images/s"] if seconds > 0 else [])

    def _figures(self) -> list[str]:
        texts = [
            f"{name} {median(value for _, value in values):.4g}"
            for name, values in sorted(
                self._losses.items(), key=lambda item: item[0] != "total_loss"
            )
        ]
        if self._learning_rate is not None:
            texts.append(f"lr {self._learning_rate:.3g}")
        return texts + _evaluation_texts(self._evaluation)


def _evaluation_texts(figures: Mapping[str, float]) -> list[str]:
    return [f"{name.replace('/', ' ')} {value:.1f}" for name, value in figures.items()]
