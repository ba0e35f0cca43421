"""COCO AP of the modes on the validation set of the shapes, by a model that Detectron2 trained."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from coco_ap import DATA, as_coco_results, average_precision
from PIL import Image

from gpu_sections.checks import CheckFailedError
from gpu_sections.setting import Setting
from models import Predictor
from models.execution import Mode
from models.layers.mask_runs import encode_pasted_masks
from models.predictor import Preprocessing

LARGEST_LOSS = 0.1
MODES: tuple[Mode, ...] = ("exact", "fast")


def average_precisions(setting: Setting) -> dict[str, Any]:
    """AP x 100 of boxes and masks; the fast mode's may be 0.1 below the exact one's, no more."""
    found: dict[str, Any] = {}
    for mode in MODES:
        setting.check_time()
        predictor = Predictor.from_files(
            DATA / "config.yaml",
            DATA / "model_final.pth",
            device=str(setting.device),
            mode=mode,
        )
        results = as_coco_results(_answers(predictor, setting))
        found[mode] = {
            kind: round(average_precision(results, kind), 3) for kind in ("bbox", "segm")
        }
        found[mode]["ran_in"] = predictor.plan.mode
    losses = {kind: found["exact"][kind] - found["fast"][kind] for kind in ("bbox", "segm")}
    found["loss"] = {kind: round(loss, 3) for kind, loss in losses.items()}
    if max(losses.values()) > LARGEST_LOSS:
        raise CheckFailedError("the fast mode loses more AP than it may", found)
    return found


def _answers(predictor: Predictor, setting: Setting) -> dict[int, dict[str, Any]]:
    answers = {}
    preprocess = predictor.preprocess
    assert isinstance(preprocess, Preprocessing)
    for image in json.loads((DATA / "val.json").read_text())["images"]:
        pixels = np.asarray(Image.open(DATA / "val" / image["file_name"]).convert("RGB"))
        one = {"image": preprocess(pixels), "height": pixels.shape[0], "width": pixels.shape[1]}
        if setting.on_gpu and preprocess.resize == "fast":
            height, width = one["image"].shape[-2:]
            picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
            one |= {"image": picture, "resize_to": (height, width), "channel_order": "RGB"}
        with torch.inference_mode():
            found = predictor.model.predict([one])[0]["instances"]
        boxes = found.pred_boxes.tensor
        answers[image["id"]] = {
            "pred_boxes": boxes.tolist(),
            "pred_classes": found.pred_classes.tolist(),
            "scores": found.scores.tolist(),
            "masks": encode_pasted_masks(found.pred_masks[:, 0], boxes, found.image_size),
        }
    return answers
