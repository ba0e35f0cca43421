"""What a training may start from: a detector, one of other classes, a backbone; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_training_config
from torch import nn

from models import build_model
from models.errors import CheckpointError
from models.training.starting import finite, frozen_modules, load_start, plain_batch_norms


def model(**changes: Any) -> nn.Module:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return build_model(tiny_training_config(keys))


def saved(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    path = folder / "start.pth"
    torch.save({"model": state}, path)
    return path


def test_a_detector_fills_the_whole_model(tmp_path: Path) -> None:
    first, second = model(), model()
    start = load_start(second, saved(tmp_path, first.state_dict()))
    assert start.fresh == ()
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert "all of the model" in start.sentence()


def test_other_classes_start_their_last_layers_anew_and_say_so(tmp_path: Path) -> None:
    wider = model(MODEL__ROI_HEADS__NUM_CLASSES=9)
    start = load_start(model(), saved(tmp_path, wider.state_dict()))
    assert {name.rpartition(".")[0] for name in start.fresh} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_head.predictor",
    }
    assert "start at random: roi_heads.box_predictor.bbox_pred" in start.sentence()


def test_a_head_that_the_file_does_not_have_starts_at_random(tmp_path: Path) -> None:
    boxes = model(MODEL__MASK_ON=False)
    start = load_start(model(), saved(tmp_path, boxes.state_dict()))
    assert start.fresh
    assert all(name.startswith("roi_heads.mask_head.") for name in start.fresh)


def test_a_part_of_a_head_is_refused(tmp_path: Path) -> None:
    state = model().state_dict()
    del state["roi_heads.mask_head.mask_fcn1.weight"]
    with pytest.raises(CheckpointError, match=r"only a part of roi_heads\.mask_head"):
        load_start(model(), saved(tmp_path, state))


def test_other_layers_of_another_size_are_refused(tmp_path: Path) -> None:
    other = model(MODEL__ROI_BOX_HEAD__FC_DIM=24)
    with pytest.raises(CheckpointError, match="another model than the config describes"):
        load_start(model(), saved(tmp_path, other.state_dict()))


def test_synchronised_norms_become_plain_ones_with_their_numbers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4))
    net[1].running_mean.fill_(3.0)
    plain = plain_batch_norms(net)
    assert type(plain[1]) is nn.BatchNorm2d  # type: ignore[index]  # a Sequential
    assert plain[1].running_mean.tolist() == [3.0] * 4  # type: ignore[index]  # likewise
    plain(torch.rand(2, 3, 4, 4))


def test_norms_whose_parameters_are_frozen_are_found() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    net[0].requires_grad_(False)
    assert frozen_modules(net) == [net[0]]


def test_a_nan_is_not_finite() -> None:
    net = nn.Linear(2, 2)
    assert finite(net)
    with torch.no_grad():
        net.weight[0, 0] = float("nan")
    assert not finite(net)
