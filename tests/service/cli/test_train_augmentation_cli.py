"""``detserve train`` hands on the augmentation that it is told of, or that a dumped config has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_fcos import training_overrides, transform, write_tiny_fcos
from training_workshop import Workshop, done, refused

from models import load_config
from models.config import Config
from models.training import Trainer, TrainingOptions
from models.training.data.dataset import TrainingDataset
from models.training.data.dumped_augmentation import dumped_augmentations
from models.training.journal import read_journal

ONE = ("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def loss(folder: Path) -> float:
    """Of the only iteration."""
    (line,) = read_journal(folder / "metrics.jsonl")
    return line["total_loss"]


def loss_of_trainer(workshop: Workshop, cfg: Config, name: str, **more: Any) -> float:
    """Of the same training through the Python interface."""
    train = TrainingDataset.load(workshop.folder / "train.json")
    Trainer(cfg, train, output=workshop.folder / name, device="cpu", **more).train()
    return loss(workshop.folder / name)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("--colour-jitter", "0.5"), TrainingOptions(colour_jitter=0.5)),
        (("--large-scale-jitter", "64x48"), TrainingOptions(large_scale_jitter=(64, 48))),
    ],
    ids=["colour", "scale"],
)
def test_the_jitter_of_the_command_is_that_of_the_trainer(
    workshop: Workshop, arguments: tuple[str, str], options: TrainingOptions
) -> None:
    done(workshop.train(*arguments, *ONE))
    cfg = load_config(workshop.config, list(ONE))
    assert loss(workshop.run) == loss_of_trainer(workshop, cfg, "same", options=options)
    assert loss(workshop.run) != loss_of_trainer(workshop, cfg, "plain")


def test_a_dumped_configs_augmentation_is_used(workshop: Workshop) -> None:
    crop = transform("FixedSizeCrop", crop_size=[56, 72])
    write_tiny_fcos(workshop.config, [crop])
    changes = training_overrides(SOLVER__MAX_ITER=1, SOLVER__STEPS=())
    done(workshop.train(*changes))
    cfg = load_config(workshop.config, changes)
    own = dumped_augmentations(workshop.config)
    assert loss(workshop.run) == loss_of_trainer(workshop, cfg, "same", augmentations=own)
    assert loss(workshop.run) != loss_of_trainer(workshop, cfg, "plain")


def test_an_option_comes_before_a_dumped_configs_augmentation(workshop: Workshop) -> None:
    write_tiny_fcos(workshop.config, [transform("FixedSizeCrop", crop_size=[56, 72])])
    changes = training_overrides(SOLVER__MAX_ITER=1, SOLVER__STEPS=())
    done(workshop.train("--large-scale-jitter", "64x48", *changes))
    options = TrainingOptions(large_scale_jitter=(64, 48))
    cfg = load_config(workshop.config, changes)
    assert loss(workshop.run) == loss_of_trainer(workshop, cfg, "same", options=options)


def test_a_dumped_augmentation_that_is_not_known_is_refused(workshop: Workshop) -> None:
    write_tiny_fcos(workshop.config, [transform("RandomRotation", angle=[0, 90])])
    assert "has RandomRotation; known are" in refused(workshop.train(*training_overrides()))
