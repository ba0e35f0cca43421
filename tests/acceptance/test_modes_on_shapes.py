"""The modes of execution on the trained model: how many points of COCO AP they cost."""

import json
from typing import Any

import pytest
import torch
from coco_ap import DATA, as_coco_results, average_precision
from PIL import Image

from models import Predictor
from models.execution import plan as plan_module
from models.layers.mask_runs import encode_pasted_masks


def ap(mode: Any, **options: Any) -> tuple[Predictor, float, float]:
    """The model in ``mode``, its box AP and its mask AP."""
    predictor = Predictor.from_files(
        DATA / "config.yaml", DATA / "model_final.pth", mode=mode, **options
    )
    answers = {}
    for entry in json.loads((DATA / "val.json").read_text())["images"]:
        picture = Image.open(DATA / "val" / entry["file_name"]).convert("RGB")
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        array = pixels.view(picture.height, picture.width, 3).numpy()
        one = {"image": predictor.preprocess(array), "height": picture.height}
        with torch.inference_mode():
            found = predictor.model.predict([{**one, "width": picture.width}])[0]["instances"]
        boxes = found.pred_boxes.tensor
        answers[entry["id"]] = {
            "pred_boxes": boxes.tolist(),
            "pred_classes": found.pred_classes.tolist(),
            "scores": found.scores.tolist(),
            "masks": encode_pasted_masks(found.pred_masks[:, 0], boxes, found.image_size),
        }
    results = as_coco_results(answers)
    return predictor, average_precision(results, "bbox"), average_precision(results, "segm")


@pytest.fixture(scope="module")
def reference() -> tuple[float, float]:
    _, boxes, masks = ap("reference")
    return boxes, masks


def test_exact_costs_nothing(reference: tuple[float, float]) -> None:
    predictor, boxes, masks = ap("exact")
    assert predictor.plan.mode == "exact"
    assert (boxes, masks) == pytest.approx(reference, abs=0.01)


def test_the_fast_resize_moves_less_than_a_quarter_of_a_point(
    reference: tuple[float, float],
) -> None:
    predictor, boxes, masks = ap("exact", resize="fast")
    assert (predictor.plan.mode, predictor.plan.resize) == ("exact", "fast")
    assert (boxes, masks) == pytest.approx(reference, abs=0.25)


def test_fast_costs_a_tenth_of_a_point_at_most(
    reference: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it would not be taken for want of speed."""
    monkeypatch.setattr(plan_module, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(plan_module, "speed_of_bfloat16", lambda: 2.0)
    predictor, boxes, masks = ap("fast")
    assert (predictor.plan.mode, predictor.plan.resize) == ("fast", "fast")
    # On 60 small pictures rounding may as well gain some tenths: with bfloat16 it does.
    assert boxes > reference[0] - 0.1
    assert masks > reference[1] - 0.1
    assert (boxes, masks) == pytest.approx(reference, abs=0.5)
