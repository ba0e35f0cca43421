"""The trained checkpoint, served: Detectron2's AP and Detectron2's instances on the validation set."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import httpx
import pycocotools.mask as mask_api
import pytest
import torch
from golden import Differences, compare_instances
from live_server import live_server
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.structures import Boxes, Instances
from service.settings import PRETRAINED

DATA = Path(__file__).parent.parent / "data" / "shapes"
IMAGES_PER_REQUEST = 10


def write_as_model_zoo(folder: Path) -> Path:
    """The checkpoint as the model zoo writes its files: a pickle of NumPy arrays, protocol 2."""
    state = torch.load(PRETRAINED / "model_final.pth", weights_only=True)["model"]
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path = folder / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}, protocol=2))
    return path


def predict_validation_set(url: str) -> dict[int, dict[str, Any]]:
    """Per image id what the server answers."""
    images = json.loads((DATA / "val.json").read_text())["images"]
    answers = {}
    with httpx.Client(timeout=120) as client:
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            chunk = images[start : start + IMAGES_PER_REQUEST]
            files = [("images", (DATA / "val" / i["file_name"]).read_bytes()) for i in chunk]
            response = client.post(f"{url}/predict", files=files)
            assert response.status_code == 200, response.text
            for image, prediction in zip(chunk, response.json()["predictions"], strict=True):
                answers[image["id"]] = prediction["instances"]
    return answers


def as_coco_results(answers: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """In COCO's results format; category ids of the data set start at 1."""
    return [
        {
            "image_id": image_id,
            "category_id": class_id + 1,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
            "segmentation": mask,
        }
        for image_id, answer in answers.items()
        for box, class_id, score, mask in zip(
            answer["pred_boxes"],
            answer["pred_classes"],
            answer["scores"],
            answer["masks"],
            strict=True,
        )
    ]


def average_precision(results: list[dict[str, Any]], kind: str) -> float:
    """COCO AP x 100. For masks the box is left out, so that areas are those of the masks."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(DATA / "val.json"))
        if kind == "segm":
            results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]) * 100


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
    weights = write_as_model_zoo(tmp_path) if kind == "pkl" else PRETRAINED / "model_final.pth"
    arguments = ("--config", PRETRAINED / "config.yaml", "--weights", weights)
    with live_server(*arguments, cwd=tmp_path) as server:
        answers = predict_validation_set(server.url)
    expected = json.loads((DATA / "metrics.json").read_text())["plain"]
    results = as_coco_results(answers)
    assert average_precision(results, "bbox") == pytest.approx(expected["bbox"]["AP"], abs=0.1)
    assert average_precision(results, "segm") == pytest.approx(expected["segm"]["AP"], abs=0.1)
    differences = compare_with_detectron2(answers)
    assert differences.clear > 300
    assert differences.matched >= 0.99 * differences.clear, differences.unmatched
