"""The log of a training: what is written survives a kill, and resuming leaves one line per step."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.errors import ModelError
from models.training.journal import METRICS, TENSORBOARD, Journal, read_journal


def _written(folder: Path, *iterations: int) -> Path:
    with Journal(folder) as journal:
        for iteration in iterations:
            journal.write(iteration, {"total_loss": iteration / 10})
    return folder / METRICS


def _iterations(path: Path) -> list[float]:
    return [line["iteration"] for line in read_journal(path)]


def _tensorboard(folder: Path, name: str = "total_loss") -> dict[int, float]:
    events = EventAccumulator(str(folder / TENSORBOARD))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def test_a_line_is_json_with_the_iteration_and_every_figure_in_full(tmp_path: Path) -> None:
    third = 1 / 3

    with Journal(tmp_path / "made" / "here") as journal:
        journal.write(20, {"total_loss": third, "bbox/AP": torch.tensor(47.5)})

    text = (tmp_path / "made" / "here" / METRICS).read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"iteration": 20, "total_loss": third, "bbox/AP": 47.5}


def test_a_line_outlives_a_process_that_is_killed_after_it(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(1, {"total_loss": 0.5})

        # What others can read is with the operating system, whatever happens to this process.
        assert read_journal(tmp_path / METRICS) == [{"iteration": 1, "total_loss": 0.5}]
        assert _tensorboard(tmp_path) == {1: 0.5}


def test_what_is_no_number_is_null_in_the_file_and_nan_to_a_reader(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(1, {"total_loss": math.nan, "loss_cls": math.inf})

    text = (tmp_path / METRICS).read_text()
    assert text == '{"iteration": 1, "total_loss": null, "loss_cls": null}\n'
    (line,) = read_journal(tmp_path / METRICS)
    assert math.isnan(line["total_loss"])
    assert math.isnan(line["loss_cls"])


def test_tensorboard_shows_the_same_figures(tmp_path: Path) -> None:
    _written(tmp_path, 1, 2)
    assert _tensorboard(tmp_path) == pytest.approx({1: 0.1, 2: 0.2})


def test_resuming_cuts_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = _written(tmp_path, 1, 2, 3, 4)

    with Journal(tmp_path, resume_at=2) as journal:
        journal.write(3, {"total_loss": 9.0})

    assert _iterations(path) == [1, 2, 3]
    assert _tensorboard(tmp_path) == pytest.approx({1: 0.1, 2: 0.2, 3: 9.0})


def test_all_lines_of_the_iteration_that_is_resumed_at_stay(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write(2, {"total_loss": 1.0})
        journal.write(2, {"bbox/AP": 40.0})
        journal.write(3, {"total_loss": 1.0})

    Journal(tmp_path, resume_at=2).close()

    assert _iterations(tmp_path / METRICS) == [2, 2]


def test_beginning_anew_leaves_nothing_of_before(tmp_path: Path) -> None:
    path = _written(tmp_path, 0, 1, 2)

    with Journal(tmp_path) as journal:
        journal.write(1, {"total_loss": 5.0})

    assert _iterations(path) == [1]
    assert _tensorboard(tmp_path) == {1: 5.0}


def test_resuming_without_a_log_begins_one(tmp_path: Path) -> None:
    with Journal(tmp_path, resume_at=7) as journal:
        journal.write(8, {"total_loss": 1.0})
    assert _iterations(tmp_path / METRICS) == [8]


@pytest.mark.parametrize("torn", ['{"iteration": 3, "total_', '{"iteration": 3', "{", "\x00\x00"])
def test_a_torn_last_line_is_ignored_and_cut(tmp_path: Path, torn: str) -> None:
    path = _written(tmp_path, 1, 2)
    with path.open("a") as file:
        file.write(torn)

    assert _iterations(path) == [1, 2]

    with Journal(tmp_path, resume_at=2) as journal:
        journal.write(3, {"total_loss": 1.0})
    assert _iterations(path) == [1, 2, 3]


def test_a_last_line_without_its_line_break_is_kept(tmp_path: Path) -> None:
    path = _written(tmp_path, 1, 2)
    path.write_text(path.read_text().rstrip("\n"))

    with Journal(tmp_path, resume_at=2) as journal:
        journal.write(3, {"total_loss": 1.0})

    assert _iterations(path) == [1, 2, 3]


@pytest.mark.parametrize("line", ["", "[]", '{"iteration": 1.5}', '{"iteration": 1, "lr": "x"}'])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / METRICS
    path.write_text(f'{{"iteration": 1}}\n{line}\n{{"iteration": 2}}\n')

    with pytest.raises(ModelError, match=r"Line 2 of metrics\.jsonl is damaged"):
        read_journal(path)
    with pytest.raises(ModelError, match=r"move the file away"):
        Journal(tmp_path, resume_at=2)
    assert path.read_text().count("\n") == 3


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"metrics\.jsonl cannot be read: No such file"):
        read_journal(tmp_path / METRICS)


def test_closing_again_does_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.close()


def test_without_tensorboard_it_says_what_to_install_and_leaves_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _written(tmp_path, 1, 2)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(ModelError, match=r"pip install 'detserve\[train\]'"):
        Journal(tmp_path)

    assert _iterations(path) == [1, 2]
