"""A training: what it leaves, that it learns, stops, resumes to the bit, and what it refuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CLASSES, tiny_train_set, tiny_training_config, tiny_val_set

from models import Predictor, load_config
from models.errors import CheckpointError, ConfigError
from models.training import Trainer, TrainingOptions, TrainingResult
from models.training.journal import read_journal


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """More threads add numbers in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Watcher:
    """Keeps what it is told, and acts in one iteration."""

    def __init__(self, at: int = 0, act: Any = None) -> None:
        self.notes: list[str] = []
        self._at, self._act = at, act

    def step(self, iteration: int, figures: Mapping[str, float]) -> None:
        if iteration == self._at:
            self._act()

    def evaluated(self, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(
    folder: Path,
    name: str,
    changes: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    options: TrainingOptions | None = None,
    watcher: Watcher | None = None,
    val: bool = False,
    weights: Path | None = None,
) -> TrainingResult:
    trainer = Trainer(
        tiny_training_config(changes),
        tiny_train_set(folder),
        tiny_val_set(folder) if val else None,
        output=folder / name,
        weights=weights,
        options=options or TrainingOptions(log_period=2),
        device="cpu",
        watcher=watcher,
    )
    if resume:
        trainer.resume()
    return trainer.train()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "model_final.pth", weights_only=True)[
        "model"
    ]
    return state


def assert_equal_weights(first: Path, second: Path) -> None:
    one, other = weights_of(first), weights_of(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_training_leaves_a_model_that_serves(tmp_path: Path) -> None:
    result = run(tmp_path, "run")
    assert (result.iteration, result.finished) == (6, True)
    predictor = Predictor.from_files(
        tmp_path / "run" / "config.yaml", tmp_path / "run" / "model_final.pth", device="cpu"
    )
    assert predictor.report is not None
    assert predictor.report.iteration == 5
    assert (tmp_path / "run" / "labels.txt").read_text().split() == list(CLASSES)
    assert load_config(tmp_path / "run" / "config.yaml").MODEL.WEIGHTS == "model_final.pth"


def test_losses_fall(tmp_path: Path) -> None:
    run(tmp_path, "run", {"SOLVER.MAX_ITER": 30, "SOLVER.STEPS": (29,), "SOLVER.BASE_LR": 0.02})
    losses = [
        line["total_loss"]
        for line in read_journal(tmp_path / "run" / "metrics.jsonl")
        if "total_loss" in line
    ]
    assert len(losses) == 15
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two")
    run(tmp_path, "other", options=TrainingOptions(seed=1))
    assert_equal_weights(tmp_path / "one", tmp_path / "two")
    first, other = weights_of(tmp_path / "one"), weights_of(tmp_path / "other")
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_ctrl_c_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, "whole", {"SOLVER.MAX_ITER": 7})
    watcher = Watcher(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = run(tmp_path, "parts", {"SOLVER.MAX_ITER": 7}, watcher=watcher)
    assert (stopped.iteration, stopped.finished) == (4, False)
    assert "nothing is lost" in watcher.notes[-1]
    assert not (tmp_path / "parts" / "model_final.pth").exists()
    resumed = run(tmp_path, "parts", {"SOLVER.MAX_ITER": 7}, resume=True)
    assert resumed.finished
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


def test_the_curve_goes_on_where_the_training_was_stopped(tmp_path: Path) -> None:
    options = TrainingOptions(log_period=3)
    run(tmp_path, "whole", {"SOLVER.MAX_ITER": 9}, options=options)
    watcher = Watcher(5, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path, "parts", {"SOLVER.MAX_ITER": 9}, options=options, watcher=watcher)
    run(tmp_path, "parts", {"SOLVER.MAX_ITER": 9}, options=options, resume=True)
    whole = read_journal(tmp_path / "whole" / "metrics.jsonl")
    parts = read_journal(tmp_path / "parts" / "metrics.jsonl")
    assert [line["iteration"] for line in whole] == [3, 6, 9]
    for expected, line in zip(whole, parts, strict=True):
        for name in ("iteration", "total_loss", "loss_cls", "loss_mask", "gradient_norm", "lr"):
            assert line[name] == pytest.approx(expected[name], rel=1e-12)


def test_momentum_and_averages_come_back(tmp_path: Path) -> None:
    options = TrainingOptions(ema_decay=0.9, log_period=2)
    run(tmp_path, "whole", options=options)
    watcher = Watcher(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path, "parts", options=options, watcher=watcher)
    run(tmp_path, "parts", options=options, resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


def test_an_average_is_another_model_than_the_last_weights(tmp_path: Path) -> None:
    run(tmp_path, "run", options=TrainingOptions(ema_decay=0.99))
    last = torch.load(tmp_path / "run" / "last.pth", weights_only=True)["model"]
    final = weights_of(tmp_path / "run")
    assert not torch.equal(
        last["roi_heads.box_predictor.cls_score.weight"],
        final["roi_heads.box_predictor.cls_score.weight"],
    )


def test_a_finished_training_has_nothing_to_resume(tmp_path: Path) -> None:
    run(tmp_path, "run")
    before = (tmp_path / "run" / "model_final.pth").read_bytes()
    result = run(tmp_path, "run", resume=True)
    assert result.finished
    assert_equal_weights(tmp_path / "run", tmp_path / "run")
    assert (tmp_path / "run" / "model_final.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({"SOLVER.BASE_LR": 0.01}, None, "the config is another one"),
        ({}, TrainingOptions(seed=3), "the seed"),
    ],
)
def test_another_training_is_not_resumed(
    tmp_path: Path, changes: dict[str, Any], options: TrainingOptions | None, sentence: str
) -> None:
    run(tmp_path, "run")
    with pytest.raises(CheckpointError, match=sentence):
        run(tmp_path, "run", changes, options=options, resume=True)


def test_other_data_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, "run")
    trainer = Trainer(
        tiny_training_config(),
        tiny_train_set(tmp_path, 5),
        output=tmp_path / "run",
        options=TrainingOptions(log_period=2),
        device="cpu",
    )
    with pytest.raises(CheckpointError, match="the training data has changed"):
        trainer.resume()


def test_changed_labels_are_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, "run")
    data = tiny_train_set(tmp_path)
    first = data.images[0]
    other = replace(first.objects[0], class_id=(first.objects[0].class_id + 1) % len(CLASSES))
    changed = replace(first, objects=(other, *first.objects[1:]))
    trainer = Trainer(
        tiny_training_config(),
        replace(data, images=(changed, *data.images[1:])),
        output=tmp_path / "run",
        options=TrainingOptions(log_period=2),
        device="cpu",
    )
    with pytest.raises(CheckpointError, match="the training data has changed"):
        trainer.resume()


def test_resuming_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no last\.pth"):
        run(tmp_path, "run", resume=True)


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    run(tmp_path, "run")
    last = tmp_path / "run" / "last.pth"
    last.write_bytes(last.read_bytes()[: 1 << 12])
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path, "run", resume=True)


def test_ap_is_measured_and_the_best_is_kept(tmp_path: Path) -> None:
    result = run(tmp_path, "run", options=TrainingOptions(eval_period=3), val=True)
    assert result.after is not None
    assert set(result.after.per_class) == {"bbox", "segm"}
    assert result.best is not None
    assert result.best.iteration in (3, 6)
    assert (tmp_path / "run" / "model_best.pth").is_file()
    measured = [
        line["iteration"]
        for line in read_journal(tmp_path / "run" / "metrics.jsonl")
        if "bbox/AP" in line
    ]
    assert measured == [3, 6]
    assert {row["class"] for row in result.classes} == set(CLASSES)


def test_patience_ends_a_training_that_gets_no_better(tmp_path: Path) -> None:
    changes = {"SOLVER.MAX_ITER": 9, "SOLVER.BASE_LR": 1e-9}
    watcher = Watcher()
    options = TrainingOptions(eval_period=1, patience=2, log_period=2)
    result = run(tmp_path, "run", changes, options=options, val=True, watcher=watcher)
    assert (result.iteration, result.finished) == (3, True)
    assert "Ends early" in watcher.notes[-2]
    assert "Next to nothing is right" in watcher.notes[-1]
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_what_weights_knew_is_measured_before(tmp_path: Path) -> None:
    run(tmp_path, "first")
    result = run(tmp_path, "second", val=True, weights=tmp_path / "first" / "model_final.pth")
    assert result.before is not None
    assert all(row["before"] is not None for row in result.classes if row["after"] is not None)


def test_a_frozen_part_stays_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, "first")
    start = tmp_path / "first" / "model_final.pth"
    options = TrainingOptions(learning_rates={"backbone": 0.0, "roi_heads.mask_head": 0.1})
    run(tmp_path, "second", options=options, weights=start)
    before, after = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    for name, value in before.items():
        changed = not torch.equal(value, after[name])
        assert changed == (not name.startswith("backbone.")), name


def test_nothing_to_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Nothing is left to train"):
        run(tmp_path, "run", options=TrainingOptions(learning_rates={"": 0.0}))


def test_a_diverging_training_says_what_to_lower(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"SOLVER\.BASE_LR"):
        run(
            tmp_path,
            "run",
            {"SOLVER.BASE_LR": 1e9, "SOLVER.WARMUP_ITERS": 0, "SOLVER.MAX_ITER": 20},
        )


def test_a_class_count_that_is_not_the_datas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.ROI_HEADS\.NUM_CLASSES"):
        run(tmp_path, "run", {"MODEL.ROI_HEADS.NUM_CLASSES": 80})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "first")
    with pytest.raises(CheckpointError, match="another model than the config describes"):
        run(
            tmp_path,
            "second",
            {"MODEL.ROI_BOX_HEAD.FC_DIM": 24},
            weights=tmp_path / "first" / "model_final.pth",
        )
