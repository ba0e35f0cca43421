"""The augmentation that a training is told of is what its pictures go through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_fcos import training_overrides, transform, write_tiny_fcos
from tiny_training import tiny_train_set, tiny_training_config
from torchvision.transforms import v2

from models import load_config
from models.errors import CheckpointError, ConfigError
from models.training import Trainer, TrainingOptions
from models.training.data.dumped_augmentation import dumped_augmentations

Batches = list[list[dict[str, Any]]]


def trainer(folder: Path, name: str = "run", **more: Any) -> Trainer:
    """One iteration; no two of a folder have the same name."""
    cfg = more.pop("cfg", None) or tiny_training_config({"SOLVER.MAX_ITER": 1, "SOLVER.STEPS": ()})
    return Trainer(cfg, tiny_train_set(folder), output=folder / name, device="cpu", **more)


def batches_of(built: Trainer) -> Batches:
    """What the model is given while it trains."""
    seen: Batches = []
    built.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    built.train()
    return seen


def pictures_of(built: Trainer) -> list[torch.Tensor]:
    return [entry["image"] for batch in batches_of(built) for entry in batch]


def test_large_scale_jitter_gives_pictures_of_the_size_of_its_crop(tmp_path: Path) -> None:
    plain = pictures_of(trainer(tmp_path, "plain"))
    options = TrainingOptions(large_scale_jitter=(48, 80))
    jittered = pictures_of(trainer(tmp_path, "jittered", options=options))
    assert all(min(picture.shape[1:]) == 64 for picture in plain)
    assert [picture.shape for picture in jittered] == [(3, 48, 80)] * 2


def test_colour_jitter_changes_colours_and_nothing_else(tmp_path: Path) -> None:
    (plain,) = batches_of(trainer(tmp_path, "plain"))
    options = TrainingOptions(colour_jitter=0.5)
    (coloured,) = batches_of(trainer(tmp_path, "coloured", options=options))
    for before, after in zip(plain, coloured, strict=True):
        assert before["image"].shape == after["image"].shape
        assert not torch.equal(before["image"], after["image"])
        boxes, same_boxes = (entry["instances"].gt_boxes.tensor for entry in (before, after))
        assert torch.equal(boxes, same_boxes)


def test_both_kinds_of_jitter_go_together(tmp_path: Path) -> None:
    size = (64, 64)
    alone = TrainingOptions(large_scale_jitter=size)
    both = TrainingOptions(large_scale_jitter=size, colour_jitter=0.5)
    plain = pictures_of(trainer(tmp_path, "plain", options=alone))
    coloured = pictures_of(trainer(tmp_path, "coloured", options=both))
    assert [picture.shape for picture in coloured] == [(3, *size)] * 2
    assert not any(torch.equal(a, b) for a, b in zip(plain, coloured, strict=True))


def test_an_augmentation_of_ones_own_comes_instead_of_all_others(tmp_path: Path) -> None:
    black = v2.Lambda(torch.zeros_like)
    own = v2.Compose([v2.Resize([40, 56]), black])
    options = TrainingOptions(large_scale_jitter=(64, 64), colour_jitter=0.5)
    seen = pictures_of(trainer(tmp_path, options=options, augmentations=own))
    assert [picture.shape for picture in seen] == [(3, 40, 56)] * 2
    assert not any(bool(picture.any()) for picture in seen)


def test_a_dumped_configs_augmentation_is_used(tmp_path: Path) -> None:
    crop = transform("FixedSizeCrop", crop_size=[56, 72])
    path = write_tiny_fcos(tmp_path / "fcos.yaml", [crop])
    cfg = load_config(path, training_overrides(SOLVER__MAX_ITER=1, SOLVER__STEPS=()))
    seen = pictures_of(trainer(tmp_path, cfg=cfg, augmentations=dumped_augmentations(path)))
    assert [picture.shape for picture in seen] == [(3, 56, 72)] * 2


@pytest.mark.parametrize(
    "others",
    [
        TrainingOptions(colour_jitter=0.5),
        TrainingOptions(colour_jitter=0.2, large_scale_jitter=(64, 64)),
        TrainingOptions(),
    ],
    ids=["another strength", "large scale jitter too", "none"],
)
def test_a_training_is_not_resumed_with_another_augmentation(
    tmp_path: Path, others: TrainingOptions
) -> None:
    begun = TrainingOptions(colour_jitter=0.2)
    trainer(tmp_path, options=begun).train()
    with pytest.raises(CheckpointError, match="the augmentation"):
        trainer(tmp_path, options=others).resume()
    trainer(tmp_path, options=begun).resume()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"colour_jitter": 1.5}, "colour_jitter is a part from 0 to 1, not 1.5"),
        ({"colour_jitter": -0.5}, "The colour jitter is -0.5; it is 0 or more"),
        ({"large_scale_jitter": (64, 0)}, "large_scale_jitter is a height and a width in pixels"),
    ],
)
def test_what_is_no_jitter_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        trainer(tmp_path, options=TrainingOptions(**options))
