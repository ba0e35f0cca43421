"""``detserve inspect``: what it shows, and its exit codes."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models.detection as detection
from typer.testing import CliRunner, Result

from service.cli.main import app

PRETRAINED = Path(__file__).parents[3] / "models" / "pretrained" / "shapes"
WEIGHTS, CONFIG = str(PRETRAINED / "model_final.pth"), str(PRETRAINED / "config.yaml")


def inspect(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *arguments])


@pytest.fixture
def other_config(tmp_path: Path) -> str:
    path = tmp_path / "other.yaml"
    path.write_text(f"_BASE_: {CONFIG}\nMODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 3\n")
    return str(path)


def test_a_checkpoint_that_fits_its_config() -> None:
    result = inspect(WEIGHTS, "--config", CONFIG)
    assert result.exit_code == 0, result.output
    for text in ("Mask R-CNN FPN", "ResNet-50", "trainer .pth", "StandardROIHeads", "It fits"):
        assert text in result.output


def test_a_checkpoint_alone() -> None:
    result = inspect(WEIGHTS, "--json")
    assert result.exit_code == 0
    shown = json.loads(result.output)
    assert list(shown) == ["checkpoint"]
    assert shown["checkpoint"]["model"]["num_classes"] == 4


def test_a_checkpoint_of_another_number_of_classes(other_config: str) -> None:
    result = inspect(WEIGHTS, "--config", other_config)
    assert result.exit_code == 1
    assert "the file has 4 classes but MODEL.ROI_HEADS.NUM_CLASSES is 3" in result.output
    assert "of another shape:" in result.output
    result = inspect(WEIGHTS, "--config", other_config, "--json")
    assert result.exit_code == 1
    fit = json.loads(result.output)["fit"]
    assert not fit["fits"]
    assert {row["name"] for row in fit["wrong_shape"]} == {
        f"roi_heads.{layer}.{parameter}"
        for layer in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
        for parameter in ("weight", "bias")
    }


def test_a_config_alone() -> None:
    result = inspect(CONFIG)
    assert result.exit_code == 0
    assert "GeneralizedRCNN" in result.output
    shown = json.loads(inspect(CONFIG, "--json").output)
    assert shown["config"]["min_size"] == 160


def test_a_backbone_does_not_fit_a_detector(tmp_path: Path) -> None:
    names = torch.load(WEIGHTS, weights_only=True)["model"]
    body = "backbone.bottom_up."
    arrays = {k.removeprefix(body): v.numpy() for k, v in names.items() if k.startswith(body)}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True}, protocol=2))
    result = inspect(str(path), "--config", CONFIG)
    assert result.exit_code == 1
    assert "ImageNet backbone" in result.output
    assert "is a backbone, not a detector" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.pth"],
        ["missing.yaml"],
        [WEIGHTS, "--config", "missing.yaml"],
        [CONFIG, "--config", CONFIG],
    ],
)
def test_what_cannot_be_read(arguments: list[str]) -> None:
    result = inspect(*arguments)
    assert result.exit_code == 2
    assert "error: " in result.output
    result = inspect(*arguments, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]


def test_a_pickle_that_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": np.full(1, np.nan)}}))
    assert inspect(str(path)).exit_code == 2


def test_a_file_of_torchvisions_is_checked_without_a_config(tmp_path: Path) -> None:
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    state = model.state_dict()
    path = tmp_path / "fasterrcnn.pth"
    torch.save(state, path)
    result = inspect(str(path))
    assert result.exit_code == 0, result.output
    assert "torchvision fasterrcnn_mobilenet_v3_large_fpn" in result.output
    assert "It fits" in result.output
    del state["rpn.head.cls_logits.bias"]
    torch.save(state, path)
    assert inspect(str(path)).exit_code == 1
