"""The log of a training: JSON lines in ``metrics.jsonl``, and the same figures for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from models.errors import ModelError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"

Line = dict[str, float]
"""``iteration`` (how many were done) and figures by name; NaN where a figure was no number."""


class Journal:
    """Writes figures as they come; what a killed process wrote can be read and gone on from.

    A line of ``metrics.jsonl`` is one JSON object with ``iteration`` and figures, whole numbers in
    full precision, null for NaN and infinity. It is with the operating system before :meth:`write`
    returns. TensorBoard's files lie in the folder ``tensorboard`` beside it.

    Args:
        folder: is made if it is not there.
        resume_at: iterations done when the training stopped; later lines are cut off, also from
            what TensorBoard shows. 0 begins anew: earlier lines of the folder are gone.

    Raises:
        ModelError: TensorBoard is not installed, or the lines to go on from are damaged.
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        writer = _summary_writer_class()  # before anything is cut
        self._file = _cut(folder / METRICS, resume_at)
        # TensorBoard then drops what older files of the folder hold from this step on.
        purge_step = resume_at + 1 if resume_at else 0
        self._tensorboard = writer(str(folder / TENSORBOARD), purge_step=purge_step)

    def write(self, iteration: int, figures: Mapping[str, float]) -> None:
        """Adds a line.

        Args:
            iteration: how many are done.
            figures: numbers by name, also scalar tensors; TensorBoard groups ``bbox/AP`` by the
                part before the slash.
        """
        numbers = {name: float(value) for name, value in figures.items()}
        line: dict[str, Any] = {"iteration": iteration}
        line |= {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        for name, value in numbers.items():
            self._tensorboard.add_scalar(name, value, iteration)
        self._tensorboard.flush()

    def close(self) -> None:
        """Closes the files; again does nothing."""
        self._file.close()
        self._tensorboard.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_journal(path: Path) -> list[Line]:
    """The lines of a ``metrics.jsonl``, in their order; a last one that was torn off is left out.

    Raises:
        ModelError: the file is not there, or a line before the last one is damaged.
    """
    try:
        with path.open("rb") as file:
            return [line for _, line in _lines(file)]
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from error


def _cut(path: Path, resume_at: int) -> BinaryIO:
    """Opens the file for further lines, without those that come after ``resume_at``."""
    file = path.open("r+b" if resume_at and path.exists() else "w+b")
    try:
        end = 0
        for line_end, line in _lines(file):
            if line["iteration"] > resume_at:
                break
            end = line_end
        file.truncate(end)
        file.seek(max(0, end - 1))
        if file.read(1) not in (b"", b"\n"):  # an editor took the last line break away
            file.write(b"\n")
    except BaseException:  # nobody else closes it
        file.close()
        raise
    return file


def _lines(file: BinaryIO) -> Iterator[tuple[int, Line]]:
    """Each line with the offset of its end, in bytes."""
    end = 0
    for number, raw in enumerate(file, start=1):
        line = _parsed(raw)
        if line is None:
            if not raw.endswith(b"\n"):  # the process was killed while it wrote this
                return
            raise ModelError(
                f"Line {number} of {METRICS} is damaged: it is not a JSON object with an iteration "
                "and figures. Remove the line, or move the file away to go on without it."
            )
        end += len(raw)
        yield end, line


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get("iteration")) is not int:
        return None
    if not all(value is None or isinstance(value, int | float) for value in line.values()):
        return None
    return {name: math.nan if value is None else value for name, value in line.items()}


def _summary_writer_class() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModelError(
            "Training writes files for TensorBoard, which is not installed: "
            "pip install 'detserve[train]'."
        ) from error
    return SummaryWriter
