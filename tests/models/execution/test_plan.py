"""Modes of execution: what they do to a model, what they promise, and when they step back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import MODELS, write_small_model
from torch import Tensor, nn

from models import Instances, Predictor
from models.execution import plan as plan_module
from models.execution import probe_inputs, probe_pictures
from models.structures import Boxes


def load(name: str, folder: Path, mode: Any, **options: Any) -> Predictor:
    folder.mkdir(exist_ok=True)
    return Predictor.from_files(*write_small_model(name, folder), mode=mode, **options)


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that is fast with bfloat16, whatever this one is."""
    monkeypatch.setattr(plan_module, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(plan_module, "speed_of_bfloat16", lambda: 2.0)


def answers(predictor: Predictor, count: int = 2) -> list[dict[str, Any]]:
    """Of pictures that are no probes."""
    given = probe_inputs(predictor.model, predictor.preprocess)[:count]
    for one in given:
        one["image"] = one["image"].flip(-1)
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = predictor.model.predict(given)
    return outputs


@pytest.mark.parametrize("name", MODELS)
def test_exact_answers_as_the_reference(name: str, tmp_path: Path) -> None:
    reference = load(name, tmp_path / "a", "reference")
    exact = load(name, tmp_path / "b", "exact")
    assert reference.plan.mode == "reference"
    assert reference.plan.deviation is None
    assert (exact.plan.mode, exact.plan.reason) == ("exact", "")
    assert exact.plan.memory_format == "channels_last"
    assert exact.plan.folded_norms >= 20
    for ours, expected in zip(answers(exact), answers(reference), strict=True):
        assert ours.keys() == expected.keys()
        if "sem_seg" in ours:
            torch.testing.assert_close(ours["sem_seg"], expected["sem_seg"], rtol=1e-3, atol=1e-3)
        if "instances" not in ours:
            continue
        found, wanted = ours["instances"], expected["instances"]
        assert found.pred_classes.tolist() == wanted.pred_classes.tolist()
        assert (found.scores - wanted.scores).abs().max() < 1e-4
        assert (found.pred_boxes.tensor - wanted.pred_boxes.tensor).abs().max() < 0.01
        for field in ("pred_masks", "pred_keypoints"):
            if wanted.has(field):
                torch.testing.assert_close(
                    found.get(field), wanted.get(field), rtol=1e-3, atol=1e-3
                )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("bfloat16")
def test_fast_runs_every_architecture_in_half_precision(name: str, tmp_path: Path) -> None:
    fast = load(name, tmp_path, "fast")
    assert (fast.plan.mode, fast.plan.reason) == ("fast", "")
    assert fast.plan.dtype == "bfloat16"
    assert fast.plan.deviation is not None
    dtypes = {parameter.dtype for parameter in fast.model.parameters()}
    assert torch.bfloat16 in dtypes
    for output in answers(fast):
        found = output.get("instances", output.get("proposals"))
        if found is None:
            assert output["sem_seg"].dtype == torch.float32
            continue
        for value in found.get_fields().values():
            tensor = getattr(value, "tensor", value)
            assert tensor.dtype in (torch.float32, torch.int64)
            assert not tensor.is_floating_point() or tensor.isfinite().all()


@pytest.mark.usefixtures("bfloat16")
def test_decisions_stay_in_float32(tmp_path: Path) -> None:
    model = load("mask_rcnn", tmp_path, "fast").model
    assert model.roi_heads.box_predictor.cls_score.weight.dtype == torch.float32
    assert model.pixel_mean.dtype == torch.float32
    seen: dict[str, torch.dtype] = {}
    model.backbone.register_forward_hook(
        lambda module, args, output: seen.update(features=output["p2"].dtype)
    )
    model.proposal_generator.rpn_head.register_forward_hook(
        lambda module, args, output: seen.update(logits=output[0][0].dtype)
    )
    model.backbone.bottom_up.stem.register_forward_hook(
        lambda module, args, output: seen.update(stem=output.dtype)
    )
    with torch.inference_mode():
        model.predict([{"image": torch.zeros(3, 64, 64)}])
    assert seen == {
        "stem": torch.bfloat16,
        "features": torch.float32,
        "logits": torch.float32,
    }


@pytest.mark.parametrize(
    ("has", "speed", "reason"), [(False, 9.0, "no bfloat16"), (True, 0.25, "0.25 times")]
)
def test_a_cpu_that_is_no_faster_keeps_float32(
    has: bool, speed: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(plan_module, "speed_of_bfloat16", lambda: speed)
    plan = load("retinanet", tmp_path, "fast").plan
    assert (plan.mode, plan.requested, plan.dtype) == ("exact", "fast", "float32")
    assert reason in plan.reason
    assert plan.resize == "pil"


@pytest.mark.usefixtures("bfloat16")
def test_the_resize_goes_with_the_mode_or_is_chosen_alone(tmp_path: Path) -> None:
    def resize(mode: str, how: str) -> str:
        predictor = load("retinanet", tmp_path, mode, resize=how)
        assert predictor.preprocess.resize == predictor.plan.resize
        return predictor.plan.resize

    assert resize("reference", "auto") == resize("exact", "auto") == resize("fast", "pil") == "pil"
    assert (
        resize("fast", "auto") == resize("exact", "fast") == resize("reference", "fast") == "fast"
    )


class Fragile(nn.Module):
    """A detector of somebody's own, which folding or half precision breaks."""

    def __init__(self, breaks: str) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.breaks = breaks

    def predict(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Any]]:
        outputs = []
        for one in inputs:
            value = self.backbone(one["image"][None].float()).mean()
            if self.breaks == "norm is read":
                value = value + self.backbone[1].running_var.sum()
            if self.breaks == "norm is counted":
                value = value + isinstance(self.backbone[1], nn.BatchNorm2d)
            if self.breaks == "not finite" and self.backbone[0].weight.dtype != torch.float32:
                value = value * torch.nan
            if self.breaks == "no half kernel" and self.backbone[0].weight.dtype != torch.float32:
                raise NotImplementedError("no kernel")
            found = Instances(
                (9, 9),
                pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 5.0, 5.0]])),
                scores=value[None].sigmoid(),
                pred_classes=torch.tensor([0]),
            )
            outputs.append({"instances": found})
        return outputs


def apply(model: nn.Module, mode: Any) -> plan_module.ExecutionPlan:
    probes = [{"image": torch.rand(3, 9, 9)}]
    return plan_module.apply_mode_(model.eval(), mode, lambda how: probes)


@pytest.mark.parametrize("breaks", ["norm is read", "norm is counted"])
def test_a_model_that_folding_changes_runs_as_it_is(breaks: str) -> None:
    model = Fragile(breaks)
    before = model.backbone[0].weight
    plan = apply(model, "exact")
    assert (plan.mode, plan.requested, plan.folded_norms) == ("reference", "exact", 0)
    assert "probe pictures" in plan.reason
    assert model.backbone[0].weight is before
    assert isinstance(model.backbone[1], nn.BatchNorm2d)


@pytest.mark.parametrize("breaks", ["not finite", "no half kernel"])
@pytest.mark.usefixtures("bfloat16")
def test_a_model_that_half_precision_breaks_runs_exactly(breaks: str) -> None:
    model = Fragile(breaks)
    plan = apply(model, "fast")
    assert (plan.mode, plan.dtype, plan.folded_norms) == ("exact", "float32", 1)
    assert "half precision" in plan.reason
    assert model.backbone[0].weight.dtype == torch.float32
    assert model.predict([{"image": torch.rand(3, 9, 9)}])[0]["instances"].scores.isfinite().all()


def test_a_plan_is_data() -> None:
    plan = apply(Fragile(""), "exact")
    data = plan.to_dict()
    assert data["mode"] == "exact"
    assert data["deviation"]["instances"] == 1
    assert data["deviation"]["exact"] == 1.0


def test_probe_pictures_are_the_same_every_time_and_differ_from_each_other() -> None:
    first, second = probe_pictures()
    again, _ = probe_pictures()
    assert first.shape == (240, 320, 3)
    assert (first == again).all()
    assert (first != second).mean() > 0.5
