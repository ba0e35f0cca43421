"""COCO AP of a server on the validation images of the shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from models.evaluation import CocoDataset, IouType
from models.evaluation import average_precision as measure

DATA = Path(__file__).parent.parent / "data" / "shapes"
IMAGES_PER_REQUEST = 10


def predict_validation_set(url: str, **options: str) -> dict[int, dict[str, Any]]:
    """Per image id what the server answers to a request with these options."""
    images = json.loads((DATA / "val.json").read_text())["images"]
    answers = {}
    with httpx.Client(timeout=120) as client:
        for start in range(0, len(images), IMAGES_PER_REQUEST):
            chunk = images[start : start + IMAGES_PER_REQUEST]
            files = [("images", (DATA / "val" / i["file_name"]).read_bytes()) for i in chunk]
            response = client.post(f"{url}/predict", files=files, data=options)
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


def average_precision(results: list[dict[str, Any]], kind: IouType) -> float:
    """COCO AP x 100. For masks the areas are those of the masks."""
    ap = measure(CocoDataset.load(DATA / "val.json"), results, kind).overall["AP"]
    assert ap is not None
    return ap
