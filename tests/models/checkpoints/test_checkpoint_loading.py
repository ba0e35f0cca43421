"""Strict loading: what fits is copied, what does not leaves the model alone."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoints import LoadReport, load_checkpoint
from models.errors import CheckpointError

Tensors = dict[str, torch.Tensor]
Save = Callable[[Tensors], Path]


class FrozenBatchNorm2d(nn.Module):
    """The buffers of the norm of that name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), 3.0))
        self.register_buffer("bias", torch.full((channels,), 3.0))
        self.register_buffer("running_mean", torch.full((channels,), 3.0))
        self.register_buffer("running_var", torch.full((channels,), 3.0))


class Model(nn.Module):
    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = norm or nn.BatchNorm2d(4)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_file(tensors: Tensors) -> Path:
        torch.save({"model": tensors, "iteration": 9}, tmp_path / "model_final.pth")
        return tmp_path / "model_final.pth"

    return save_file


@pytest.fixture
def tensors() -> Tensors:
    """What a file of Model holds; different from every model's start."""
    state = Model().state_dict()
    return {name: torch.full_like(value, 7) for name, value in state.items()}


def snapshot(model: nn.Module) -> Tensors:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: Tensors) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_every_tensor_is_copied(save: Save, tensors: Tensors) -> None:
    model = Model()
    load_checkpoint(model, save(tensors))
    for name in ("stem.weight", "norm.weight", "norm.running_var"):
        assert torch.equal(model.state_dict()[name], tensors[name])


def test_the_report_says_what_was_loaded(save: Save, tensors: Tensors) -> None:
    path = save({**tensors, "pixel_mean": torch.zeros(3)})
    report = load_checkpoint(Model(), path)
    assert isinstance(report, LoadReport)
    assert (report.file, report.kind, report.iteration) == ("model_final.pth", "trainer .pth", 9)
    assert (report.tensors, report.parameters) == (6, 12 + 4 * 4 + 1)
    assert report.ignored == ("pixel_mean",)
    assert report.filled == ()
    assert report.size_bytes == path.stat().st_size
    assert report.summary().startswith("model_final.pth (trainer .pth, 0.0 MB, sha256 ")
    assert "iteration 9): loaded 6 tensors" in report.summary()
    assert "\n" not in report.summary()
    assert json.loads(json.dumps(report.to_dict()))["ignored"] == ["pixel_mean"]


def test_values_are_cast_to_the_models_precision(save: Save, tensors: Tensors) -> None:
    model = Model()
    load_checkpoint(model, save({**tensors, "stem.weight": tensors["stem.weight"].double()}))
    assert model.stem.weight.dtype == torch.float32
    assert model.stem.weight.requires_grad
    assert bool((model.stem.weight == 7).all())


def test_values_too_large_for_the_models_precision_are_refused(
    save: Save, tensors: Tensors
) -> None:
    model = Model()
    before = snapshot(model)
    path = save({**tensors, "stem.weight": tensors["stem.weight"].double() * 1e300})
    with pytest.raises(CheckpointError, match=r"too large .* stem\.weight"):
        load_checkpoint(model, path)
    assert_unchanged(model, before)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda t: t.pop("stem.weight"), "1 missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unexpected"),
        (lambda t: t.update({"stem.weight": torch.zeros(4, 1, 1, 1)}), "1 of another shape"),
        (lambda t: t.update({"stem.weight": torch.zeros(12)}), "1 of another shape"),
        (lambda t: t.update({"stem.weights": t.pop("stem.weight")}), "1 missing, 1 unexpected"),
    ],
)
def test_one_tensor_that_does_not_fit_and_nothing_is_loaded(
    save: Save, tensors: Tensors, change: Callable[[Tensors], object], counts: str
) -> None:
    model = Model()
    before = snapshot(model)
    change(tensors)
    with pytest.raises(CheckpointError, match=rf"does not fit the model \({counts}\); nothing"):
        load_checkpoint(model, save(tensors))
    assert_unchanged(model, before)


def test_the_error_lists_tensors_as_data(save: Save, tensors: Tensors) -> None:
    del tensors["norm.bias"]
    tensors["extra"] = torch.zeros(1)
    tensors["stem.weight"] = torch.zeros(4, 1, 1, 1)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(Model(), save(tensors))
    details = json.loads(json.dumps(caught.value.details))
    assert details["missing"] == ["norm.bias"]
    assert details["unexpected"] == ["extra"]
    assert details["wrong_shape"] == [
        {"name": "stem.weight", "model": [4, 3, 1, 1], "file": [4, 1, 1, 1]}
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.0"),
        "roi_heads.box_predictor.0.fed_loss_cls_weights",
    ],
)
def test_tensors_that_do_not_matter_may_be_extra(save: Save, tensors: Tensors, name: str) -> None:
    assert load_checkpoint(Model(), save({**tensors, name: torch.zeros(3)})).ignored == (name,)


def test_batch_counts_may_be_missing(save: Save, tensors: Tensors) -> None:
    del tensors["norm.num_batches_tracked"]
    report = load_checkpoint(Model(), save(tensors))
    assert report.ignored == ("norm.num_batches_tracked",)


# Running statistics that are folded into the weights


def zoo_file(tmp_path: Path, names: list[str]) -> Path:
    arrays = {"stem.weight": np.full((4, 3, 1, 1), 7, np.float32)}
    arrays |= {f"norm.{name}": np.full(4, 7, np.float32) for name in names}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol=2))
    return tmp_path / "model.pkl"


def test_folded_statistics_become_zero_and_one(tmp_path: Path) -> None:
    model = Model(FrozenBatchNorm2d(4))
    report = load_checkpoint(model, zoo_file(tmp_path, ["weight", "bias"]))
    assert bool((model.norm.weight == 7).all())
    assert bool((model.norm.running_mean == 0).all())
    assert bool((model.norm.running_var == 1).all())
    assert report.filled == ("norm.running_mean", "norm.running_var")
    assert "2 running statistics" in report.summary()


def test_statistics_that_are_there_in_part_are_missing(tmp_path: Path) -> None:
    path = zoo_file(tmp_path, ["weight", "bias", "running_mean"])
    with pytest.raises(CheckpointError, match="1 missing"):
        load_checkpoint(Model(FrozenBatchNorm2d(4)), path)


def test_a_trainers_file_of_group_norm_does_not_pass_for_folded_statistics(save: Save) -> None:
    tensors = {"stem.weight": torch.zeros(4, 3, 1, 1)}
    tensors |= {"norm.weight": torch.ones(4), "norm.bias": torch.ones(4)}
    with pytest.raises(CheckpointError, match="2 missing"):
        load_checkpoint(Model(FrozenBatchNorm2d(4)), save(tensors))


def test_nothing_is_filled_in_a_model_with_group_norm(tmp_path: Path) -> None:
    model = Model(FrozenBatchNorm2d(4))
    model.add_module("head", nn.GroupNorm(1, 4, affine=False))
    with pytest.raises(CheckpointError, match="2 missing"):
        load_checkpoint(model, zoo_file(tmp_path, ["weight", "bias"]))
