"""Predictions: errors of single images, maps, and answers that are none."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from models.structures.rle import encode_rle_map
from service.client import DetserveError, InvalidAnswer, Prediction, Unprocessable
from service.client.answers import read_predictions
from service.encoding.segmentation import encode_panoptic_seg, encode_sem_seg

IDS = np.array([[0, 0, 2], [1, 2, 2]])
NAMES = ("grass", "sky", "road")
THINGS = [
    {"id": 1, "isthing": True, "category_id": 0, "score": 0.9, "instance_id": 0},
    {"id": 2, "isthing": False, "category_id": 1},
]


def body(*predictions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    model = {"name": "shapes", "version": "2", "architecture": "RCNN", "weights_sha256": "00"}
    timing = {"decode": 1.0, "queue": 2.0, "inference": 3.0, "encode": 4.0, "total": 9.0}
    return {
        "model": model, "request_id": "abc", "predictions": list(predictions), "timing_ms": timing,
    } | changes  # fmt: skip


def one(**outputs: Any) -> Prediction:
    image = {"name": "a.png", "width": 3, "height": 2}
    answer = body({"image": image, "batch_size": 1, **outputs})
    [prediction] = read_predictions(httpx.Response(200, json=answer))
    return prediction


def test_what_is_told_of_the_request() -> None:
    prediction = one()
    assert (prediction.name, prediction.width, prediction.height) == ("a.png", 3, 2)
    assert (prediction.version, prediction.model.name) == ("2", "shapes")
    assert (prediction.timing_ms["inference"], prediction.request_id) == (3.0, "abc")
    assert prediction.error is None


def test_an_image_in_error_raises_it_where_its_answer_is_used() -> None:
    error = {"code": "corrupt_image", "message": "It stops early.", "details": {"byte": 7}}
    answer = body({"image": {"name": "b.png"}, "error": error})
    [prediction] = read_predictions(httpx.Response(200, json=answer))
    assert prediction.error is not None
    assert (prediction.error.code, prediction.error.details) == ("corrupt_image", {"byte": 7})
    assert prediction.error.request_id == "abc"
    for use in (lambda: prediction.instances, prediction.to_coco, lambda: prediction.draw(b"")):
        with pytest.raises(DetserveError, match="It stops early"):
            use()


@pytest.mark.parametrize("output", ["instances", "sem_seg", "panoptic_seg", "proposals"])
def test_an_output_that_is_not_there_is_named(output: str) -> None:
    prediction = one()
    assert not prediction.has(output)
    with pytest.raises(Unprocessable, match=f"no {output}") as caught:
        getattr(prediction, output)
    assert caught.value.code == f"no_{output}"


@pytest.mark.parametrize("form", ["png", "rle"])
def test_a_semantic_map_comes_back_from_both_forms(form: str) -> None:
    found = one(sem_seg=encode_sem_seg(IDS, NAMES, form)).sem_seg
    assert np.array_equal(found.ids, IDS)
    assert found.ids.dtype == np.int32
    assert [segment["category_name"] for segment in found.segments] == list(NAMES)
    assert not any("segmentation" in segment for segment in found.segments)


@pytest.mark.parametrize("form", ["png", "rle"])
def test_a_panoptic_map_comes_back_from_both_forms(form: str) -> None:
    answer = encode_panoptic_seg(IDS, THINGS, things=("person",), stuff=NAMES, form=form)
    found = one(panoptic_seg=answer).panoptic_seg
    assert np.array_equal(found.ids, IDS)
    assert [(s["id"], s["isthing"], s["area"]) for s in found.segments] == [
        (1, True, 1), (2, False, 3),
    ]  # fmt: skip


def test_a_map_of_more_than_256_segments() -> None:
    ids = np.arange(6).reshape(2, 3) * 100
    found = one(sem_seg=encode_sem_seg(ids, ("x",) * 501, "png")).sem_seg
    assert np.array_equal(found.ids, ids)


def test_proposals() -> None:
    proposals = {
        "box_mode": "XYXY_ABS", "proposal_boxes": [[0, 0, 2, 1]], "objectness_logits": [3.5],
    }  # fmt: skip
    found = one(proposals=proposals).proposals
    assert found.boxes.tolist() == [[0, 0, 2, 1]]
    assert found.objectness_logits.tolist() == [3.5]
    empty = one(proposals=proposals | {"proposal_boxes": [], "objectness_logits": []}).proposals
    assert empty.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "content", ["<html>", "[]", "{}", '{"model": 1, "predictions": [], "timing_ms": {}}']
)
def test_an_answer_of_others_is_refused(content: str) -> None:
    with pytest.raises(InvalidAnswer, match="not one of a detserve"):
        read_predictions(httpx.Response(200, text=content))


def test_a_map_that_is_no_map_is_refused() -> None:
    file = io.BytesIO()
    Image.new("L", (9, 9)).save(file, "PNG")
    wrong_size = base64.b64encode(file.getvalue()).decode()
    _, _, masks = encode_rle_map(np.zeros((5, 5), dtype=np.int64))
    segment = {"category_id": 0, "category_name": "grass", "area": 25, "segmentation": masks[0]}
    for answer in (
        {"format": "png", "segments": [], "png": wrong_size},
        {"format": "png", "segments": [], "png": "AAAA"},
        {"format": "rle", "segments": [segment]},
    ):
        with pytest.raises(InvalidAnswer):
            _ = one(sem_seg=answer).sem_seg
