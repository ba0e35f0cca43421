"""COCO AP on the shapes: the figures that Detectron2's own evaluation gave."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from coco_ap import DATA
from numpy.typing import NDArray

from models import Predictor
from models.evaluation import CocoDataset, average_precision, evaluate
from models.structures import Instances

EXPECTED = json.loads((DATA / "metrics.json").read_text())["plain"]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_figures_of_detectron2s_results_are_detectron2s(kind: Any) -> None:
    dataset = CocoDataset.load(DATA / "val.json")
    results = json.loads((DATA / "detectron2_predictions.json").read_text())
    figures = average_precision(dataset, results, kind)
    by_class = {f"AP-{dataset.categories[i]}": ap for i, ap in figures.per_category.items()}
    found = {**figures.overall, **by_class}
    assert {name: found[name] for name in EXPECTED[kind]} == pytest.approx(EXPECTED[kind], abs=1e-3)


def test_results_and_data_set_are_not_changed() -> None:
    dataset = CocoDataset.load(DATA / "val.json").subset(3)
    results = [
        result
        for result in json.loads((DATA / "detectron2_predictions.json").read_text())
        if result["image_id"] <= 3
    ]
    before = json.dumps(results), json.dumps(dataset.annotations)
    first = average_precision(dataset, results, "segm")
    assert (json.dumps(results), json.dumps(dataset.annotations)) == before
    assert average_precision(dataset, results, "segm") == first


def test_no_results_find_nothing() -> None:
    overall = average_precision(CocoDataset.load(DATA / "val.json"), [], "bbox").overall
    assert set(overall.values()) == {0.0}


def test_the_embedded_model_has_detectron2s_ap(shapes_predictor: Predictor) -> None:
    """From the pictures on, by soft masks that never become frames."""

    def predict(pixels: NDArray[np.uint8]) -> Instances:
        height, width = pixels.shape[:2]
        inputs = {"image": shapes_predictor.preprocess(pixels), "height": height, "width": width}
        with torch.inference_mode():
            found: Instances = shapes_predictor.model.predict([inputs])[0]["instances"]
        return found

    names = ["disc", "rectangle", "triangle", "star"]
    result = evaluate(predict, CocoDataset.load(DATA / "val.json"), names)
    for kind in ("bbox", "segm"):
        assert result.ap(kind) == pytest.approx(EXPECTED[kind]["AP"], abs=0.1)
