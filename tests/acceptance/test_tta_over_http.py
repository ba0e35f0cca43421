"""The trained checkpoint with test-time augmentation, served: Detectron2's AP with its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coco_ap import DATA, as_coco_results, average_precision, predict_validation_set
from live_server import live_server


def test_served_checkpoint_with_tta_has_detectron2s_ap(tmp_path: Path) -> None:
    weights = DATA / "model_final.pth"
    with live_server(
        "--config", DATA / "config.yaml", "--weights", weights, cwd=tmp_path
    ) as server:
        answers = predict_validation_set(server.url, tta="full")
    expected = json.loads((DATA / "metrics.json").read_text())["tta"]
    results = as_coco_results(answers)
    assert average_precision(results, "bbox") == pytest.approx(expected["bbox"]["AP"], abs=0.1)
    assert average_precision(results, "segm") == pytest.approx(expected["segm"]["AP"], abs=0.1)
