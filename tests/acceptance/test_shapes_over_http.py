"""The trained checkpoint, served: Detectron2's AP and Detectron2's instances on the validation set."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_api
import pytest
import torch
from coco_ap import DATA, as_coco_results, average_precision, predict_validation_set
from golden import Differences, compare_instances
from live_server import live_server

from models.structures import Boxes, Instances


def write_as_model_zoo(folder: Path) -> Path:
    """The checkpoint as the model zoo writes its files: a pickle of NumPy arrays, protocol 2."""
    state = torch.load(DATA / "model_final.pth", weights_only=True)["model"]
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path = folder / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}, protocol=2))
    return path


def compare_with_detectron2(answers: dict[int, dict[str, Any]]) -> Differences:
    """Match every instance that Detectron2 found to one of ours."""
    predictions = json.loads((DATA / "detectron2_predictions.json").read_text())
    total = Differences()
    for image_id, answer in answers.items():
        theirs = [p for p in predictions if p["image_id"] == image_id]
        if not theirs:
            continue
        height, width = theirs[0]["segmentation"]["size"]
        frames = [mask_api.decode(mask) for mask in answer["masks"]]
        ours = Instances(
            (height, width),
            pred_boxes=Boxes(torch.tensor(answer["pred_boxes"])),
            scores=torch.tensor(answer["scores"]),
            pred_classes=torch.tensor(answer["pred_classes"]),
            pred_masks=[torch.from_numpy(frame).bool() for frame in frames],
        )
        expected = {
            "pred_boxes": [[x, y, x + w, y + h] for x, y, w, h in (p["bbox"] for p in theirs)],
            "scores": [p["score"] for p in theirs],
            "pred_classes": [p["category_id"] - 1 for p in theirs],
            "pred_masks": [p["segmentation"] for p in theirs],
        }
        found = compare_instances(expected, ours)
        total.clear += found.clear
        total.matched += found.matched
        total.unmatched += [f"image {image_id}: {text}" for text in found.unmatched]
    return total


@pytest.mark.parametrize("kind", ["pth", "pkl"])
def test_served_checkpoint_has_detectron2s_ap_and_instances(kind: str, tmp_path: Path) -> None:
    weights = write_as_model_zoo(tmp_path) if kind == "pkl" else DATA / "model_final.pth"
    arguments = ("--config", DATA / "config.yaml", "--weights", weights)
    with live_server(*arguments, cwd=tmp_path) as server:
        answers = predict_validation_set(server.url)
    expected = json.loads((DATA / "metrics.json").read_text())["plain"]
    results = as_coco_results(answers)
    assert average_precision(results, "bbox") == pytest.approx(expected["bbox"]["AP"], abs=0.1)
    assert average_precision(results, "segm") == pytest.approx(expected["segm"]["AP"], abs=0.1)
    differences = compare_with_detectron2(answers)
    assert differences.clear > 300
    assert differences.matched >= 0.99 * differences.clear, differences.unmatched
