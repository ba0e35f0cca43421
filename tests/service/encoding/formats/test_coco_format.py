"""COCO's results and categories."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fake_detector import FakeDetector
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.structures import Boxes, Instances, RotatedBoxes
from service.encoding.formats.coco import coco_categories, coco_results, image_ids
from service.encoding.instances import Selection, encode_instances
from service.inference.detector import ModelDescription
from service.schemas.formats import CategoryAnswer, CocoResult
from service.schemas.options import PredictOptions


def found() -> Instances:
    instances = Instances((40, 60))
    instances.pred_boxes = Boxes(torch.tensor([[10.0, 5.0, 30.0, 25.0], [0.0, 0.0, 60.0, 40.0]]))
    instances.scores = torch.tensor([0.9, 0.4])
    instances.pred_classes = torch.tensor([2, 0])
    instances.pred_masks = torch.ones(2, 1, 28, 28)
    return instances


def results(
    instances: Instances, model: ModelDescription, image_id: int = 7, **options: Any
) -> list[dict[str, Any]]:
    """As a client sees them, held against their schema."""
    selection = Selection.resolve(PredictOptions.parse(options), model)
    encoded = coco_results(encode_instances(instances, selection, model), model, image_id=image_id)
    shown: list[dict[str, Any]] = orjson.loads(
        orjson.dumps(encoded, option=orjson.OPT_SERIALIZE_NUMPY)
    )
    for result in shown:
        CocoResult.model_validate(result)
    return shown


def test_results_are_what_pycocotools_evaluates() -> None:
    model = FakeDetector().description
    detections = results(found(), model)
    annotations = [
        {**result, "id": i + 1, "iscrowd": 0, "area": result["bbox"][2] * result["bbox"][3]}
        for i, result in enumerate(detections)
    ]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 7, "width": 60, "height": 40}],
        "annotations": json.loads(json.dumps(annotations)),
        "categories": coco_categories(model),
    }
    truth.createIndex()
    loaded = truth.loadRes(detections)
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(truth, loaded, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)


def test_boxes_are_left_top_width_height_and_classes_count_from_one() -> None:
    first = results(found(), FakeDetector().description, masks="none")[0]
    assert first == {
        "image_id": 7,
        "category_id": 3,
        "bbox": [10, 5, 20, 20],
        "score": pytest.approx(0.9),
    }


def test_the_data_sets_own_ids_come_first() -> None:
    model = FakeDetector(category_ids=(3, 44, 90, 91)).description
    assert [result["category_id"] for result in results(found(), model)] == [90, 3]
    assert [category["id"] for category in coco_categories(model)] == [3, 44, 90, 91]


def test_keypoints_count_from_the_centre_of_the_first_pixel() -> None:
    instances = found()
    instances.pred_keypoints = torch.tensor([[[10.5, 5.5, 0.8], [0.5, 1.0, 0.1]]] * 2)
    model = FakeDetector(
        outputs=("instances", "keypoints"),
        keypoint_names=("head", "hand"),
        keypoint_skeleton=((0, 1),),
    ).description
    [first, _] = results(instances, model)
    assert first["keypoints"] == pytest.approx([10, 5, 0.8, 0, 0.5, 0.1])
    assert coco_categories(model)[0] == {
        "id": 1,
        "name": "disc",
        "supercategory": "",
        "keypoints": ["head", "hand"],
        "skeleton": [[1, 2]],
    }


def test_rotated_boxes_keep_their_five_numbers() -> None:
    instances = found()
    instances.remove("pred_masks")
    boxes = torch.tensor([[20.0, 10.0, 8.0, 4.0, 30.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    instances.pred_boxes = RotatedBoxes(boxes)
    model = FakeDetector(task="rotated_object_detection", box_mode="XYWHA_ABS").description
    assert [result["bbox"] for result in results(instances, model)] == boxes.tolist()


def test_an_image_without_instances_has_no_results() -> None:
    instances = found()[:0]
    instances.pred_keypoints = torch.zeros(0, 17, 3)
    assert results(instances, FakeDetector().description) == []


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000397133.jpg", "12.png"], [397133, 12]),
        (["12.jpg", "012.png"], [0, 1]),
        (["12.jpg", "photo.jpg"], [0, 1]),
        (["photo.jpg"], [0]),
        (["\u0663.jpg"], [0]),
        (["9" * 40 + ".jpg"], [0]),
        ([], []),
    ],
)
def test_an_image_has_the_number_that_its_file_is_named_after(
    names: list[str], ids: list[int]
) -> None:
    assert image_ids(names) == ids


def test_categories_of_a_semantic_model_are_the_values_of_its_map() -> None:
    model = FakeDetector(
        task="semantic_segmentation", outputs=("sem_seg",), stuff_class_names=("sky", "sea")
    ).description
    categories = [CategoryAnswer.model_validate(c) for c in coco_categories(model)]
    assert [(category.id, category.name) for category in categories] == [(0, "sky"), (1, "sea")]


def test_the_arrays_of_an_answer_are_not_changed() -> None:
    instances = found()
    before = instances.pred_boxes.tensor.clone()
    results(instances, FakeDetector().description)
    np.testing.assert_array_equal(instances.pred_boxes.tensor, before)
