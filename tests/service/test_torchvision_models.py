"""torchvision's own detectors, served and predicted with by their weights alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models.detection as detection
from PIL import Image
from typer.testing import CliRunner

from service.cli.main import app
from service.inference.loading import load_torch_detector
from service.runtime import Runtime
from service.settings import Settings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    path = tmp_path_factory.mktemp("models") / "fasterrcnn.pth"
    torch.save(model.state_dict(), path)
    return path


def test_a_detector_is_loaded_from_its_weights(weights: Path) -> None:
    detector = load_torch_detector(config=None, weights=weights, labels=None, device="cpu")
    description = detector.description
    assert description.architecture == "TorchvisionDetector"
    assert description.backbone == "fasterrcnn_mobilenet_v3_large_fpn"
    assert description.class_names == ("class_0", "class_1", "class_2")
    assert (description.input_format, description.config_file) == ("RGB", "")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    image = detector.prepare(pixels)
    assert image.tensor.shape == (3, 60, 90)
    assert image.padded_size == (800, 1216)
    (prediction,) = detector.infer([image])
    instances = prediction.instances
    assert instances is not None
    assert instances.image_size == (60, 90)
    assert len(instances) > 0
    detector.close()


def test_labels_lie_beside_the_weights(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "fasterrcnn.pth"
    copy.write_bytes(weights.read_bytes())
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    detector = load_torch_detector(config=None, weights=copy, labels=None, device="cpu")
    assert detector.description.class_names == ("cat", "dog", "bird")


def test_the_runtime_names_it_after_its_file(weights: Path) -> None:
    runtime = Runtime(Settings(weights=weights, threads=1, device="cpu"))
    try:
        runtime.load()
        served = runtime.repository.get()
        assert served.name == "fasterrcnn"
        assert runtime.model_root == weights.parent.resolve()
    finally:
        runtime.close()


def test_predict_takes_weights_alone(weights: Path, tmp_path: Path) -> None:
    picture = tmp_path / "grey.png"
    Image.new("RGB", (64, 48), "grey").save(picture)
    arguments = ["predict", str(picture), "--weights", str(weights), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    answer = json.loads((tmp_path / "out" / "grey.json").read_text())
    assert answer["model"]["architecture"] == "TorchvisionDetector"


def test_weights_of_something_else_need_their_config(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pth"
    torch.save({"model": {"stem.weight": torch.zeros(3)}}, path)
    result = CliRunner().invoke(app, ["predict", "x.png", "--weights", str(path)])
    assert result.exit_code == 2
    assert "needs its config" in result.output
