"""POST /predict: every form of the answer, of masks and of boxes."""

import csv
import io
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fake_detector import FakeDetector, picture
from fake_server import Serve, Served
from mask_decoding import decoded, of_polygons
from PIL import Image
from pydantic import TypeAdapter

from models.structures import Boxes, Instances
from service.inference.detector import Prediction, PreparedImage
from service.schemas.answers import ErrorAnswer, PredictAnswer
from service.schemas.formats import CategoryAnswer, CocoResult, GeoJsonAnswer

pytestmark = pytest.mark.anyio

BROKEN = ("broken.png", b"\x89PNG\r\n\x1a\n but no picture")


async def post(served: Served, *names: str, accept: str | None = None, **params: Any) -> Any:
    """Pictures by these names; ``broken.png`` is none."""
    files = [
        ("images", BROKEN if name == "broken.png" else (name, picture(i, (40, 60))))
        for i, name in enumerate(names or ("1.png",))
    ]
    headers = {"accept": accept} if accept is not None else {}
    return await served.client.post("/predict", files=files, params=params, headers=headers)


def error_of(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate(response.json()).error


def ring(image: PreparedImage) -> Prediction:
    """One instance: two parts, the first with a hole in it."""
    bits = torch.zeros(1, image.height, image.width, dtype=torch.bool)
    bits[0, 5:25, 5:25] = True
    bits[0, 10:20, 10:20] = False
    bits[0, 30:35, 40:50] = True
    instances = Instances((image.height, image.width))
    instances.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 50.0, 35.0]]))
    instances.scores = torch.tensor([0.75])
    instances.pred_classes = torch.tensor([1])
    instances.pred_masks = bits
    return Prediction(instances=instances)


def ringed() -> FakeDetector:
    detector = FakeDetector()
    detector.predicts = ring
    return detector


# --- masks, boxes, include ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rle", "polygon", "png", "bitmap"])
async def test_a_mask_is_the_same_in_every_form(serve: Serve, form: str) -> None:
    served = serve(ringed())
    answer = (await post(served, masks=form)).json()
    PredictAnswer.model_validate(answer)
    [mask] = answer["predictions"][0]["instances"]["masks"]
    bits = decoded(mask, form, (40, 60))
    expected = ring(PreparedImage(torch.zeros(0), 40, 60, (64, 64), "rgb")).instances
    assert expected is not None
    np.testing.assert_array_equal(bits, expected.pred_masks[0].numpy())


@pytest.mark.parametrize(
    ("form", "mode", "box"),
    [
        ("xyxy", "XYXY_ABS", [5, 5, 50, 35]),
        ("xywh", "XYWH_ABS", [5, 5, 45, 30]),
        ("normalized", "XYXY_REL", [5 / 60, 5 / 40, 50 / 60, 35 / 40]),
    ],
)
async def test_boxes_come_as_they_are_wanted(
    serve: Serve, form: str, mode: str, box: list[float]
) -> None:
    answer = PredictAnswer.model_validate((await post(serve(ringed()), boxes=form)).json())
    instances = answer.predictions[0].instances
    assert instances is not None
    assert instances.box_mode == mode
    assert instances.pred_boxes == [pytest.approx(box)]


def everything(image: PreparedImage) -> Prediction:
    found = ring(image).instances
    assert found is not None
    found.pred_keypoints = torch.zeros(1, 2, 3)
    size = (image.height, image.width)
    return Prediction(
        instances=found,
        proposals=Instances(size, proposal_boxes=Boxes(torch.zeros(1, 4)), objectness_logits=torch.ones(1)),
        sem_seg=torch.zeros(size, dtype=torch.int16),
        panoptic_seg=(torch.zeros(size, dtype=torch.int32), []),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (None, {"keypoints", "sem_seg", "panoptic_seg", "proposals"}),
        ("keypoints", {"keypoints"}),
        ("sem_seg,panoptic", {"sem_seg", "panoptic_seg"}),
        (["proposals", "keypoints"], {"proposals", "keypoints"}),
        ("none", set()),
    ],
)
async def test_what_is_not_included_is_left_out_and_not_asked_of_the_model(
    serve: Serve, include: Any, expected: set[str]
) -> None:
    detector = FakeDetector(stuff_class_names=("sky",))
    wanted = []

    def predicts(image: PreparedImage) -> Prediction:
        wanted.append(image.wanted)
        return everything(image)

    served = serve(detector)
    detector.predicts = predicts
    params = {} if include is None else {"include": include}
    [prediction] = (await post(served, **params)).json()["predictions"]
    found = {name for name in ("sem_seg", "panoptic_seg", "proposals") if name in prediction}
    found |= {"keypoints"} if "pred_keypoints" in prediction["instances"] else set()
    assert found == expected
    assert wanted[-1].keypoints is ("keypoints" in expected)
    assert wanted[-1].segmentation is bool({"sem_seg", "panoptic_seg"} & expected)


@pytest.mark.parametrize(
    "params", [{"include": "masks"}, {"boxes": "xyxyn"}, {"masks": "svg"}, {"format": "xml"}]
)
async def test_what_there_is_not_is_refused(serve: Serve, params: dict[str, str]) -> None:
    error = error_of(await post(serve(), **params), 422)
    assert error.code == "invalid_option"
    assert error.details["option"] == next(iter(params))


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "accept", "content_type"),
    [
        ({}, None, "application/json"),
        ({}, "*/*", "application/json"),
        ({}, "text/csv", "text/csv; charset=utf-8"),
        ({"format": "csv"}, "application/json", "text/csv; charset=utf-8"),
        ({"format": "coco"}, None, "application/json"),
        ({}, "application/geo+json", "application/geo+json"),
        ({}, "application/x-ndjson", "application/x-ndjson"),
        ({}, "image/*", "image/png"),
        ({"format": "jpeg"}, None, "image/jpeg"),
        ({"format": "webp"}, None, "image/webp"),
    ],
)
async def test_the_answer_has_the_type_that_is_asked_for(
    serve: Serve, params: dict[str, str], accept: str | None, content_type: str
) -> None:
    response = await post(serve(), accept=accept, **params)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == content_type
    assert response.headers["vary"] == "Accept"


async def test_an_accept_header_that_rules_all_out_is_refused_before_any_work(serve: Serve) -> None:
    served = serve()
    error = error_of(await post(served, accept="text/html"), 406)
    assert error.code == "not_acceptable"
    assert "text/csv" in error.details["offered"]
    assert served.detector.batches == []


async def test_coco_results_have_the_ids_of_files_and_of_categories(serve: Serve) -> None:
    served = serve(ringed())
    response = await post(served, "000042.png", "7.png", format="coco", boxes="xywh")
    results = TypeAdapter(list[CocoResult]).validate_python(response.json())
    assert [result.image_id for result in results] == [42, 7]
    assert results[0].bbox == [5, 5, 45, 30]
    assert results[0].segmentation is not None
    categories = await served.client.get("/models/shapes/categories.json")
    names = {
        c.id: c.name for c in TypeAdapter(list[CategoryAnswer]).validate_python(categories.json())
    }
    assert names[results[0].category_id] == "square"
    assert response.headers["x-model-version"] == "shapes:1"


async def test_a_table_has_a_line_for_each_instance(serve: Serve) -> None:
    response = await post(serve(), "a.png", "=b.png", format="csv", score_threshold=0.5)
    assert response.content.count(b"\r\n") == 5
    lines = list(csv.DictReader(io.StringIO(response.text)))
    assert [(line["image"], line["class_name"], float(line["score"])) for line in lines] == [
        ("a.png", "disc", 0.9), ("a.png", "square", 0.6),
        ("'=b.png", "disc", 0.9), ("'=b.png", "square", 0.6),
    ]  # fmt: skip
    assert {(line["width"], line["height"], line["x2"], line["y2"]) for line in lines} == {
        ("60", "40", "60.0", "40.0")
    }


async def test_geojson_has_the_parts_and_holes_of_masks(serve: Serve) -> None:
    response = await post(serve(ringed()), format="geojson")
    answer = GeoJsonAnswer.model_validate(response.json())
    [feature] = answer.features
    assert feature.bbox == [5, 5, 50, 35]
    assert feature.properties.class_name == "square"
    assert feature.geometry is not None
    assert feature.geometry.type == "MultiPolygon"
    polygons = []
    for exterior, *holes in feature.geometry.coordinates:
        assert all(ring[0] == ring[-1] for ring in (exterior, *holes))
        polygons.append({"exterior": exterior[:-1], "holes": [hole[:-1] for hole in holes]})
    assert sorted(len(polygon["holes"]) for polygon in polygons) == [0, 1]
    assert of_polygons(polygons, (40, 60)).sum() == 400 - 100 + 50


async def test_geojson_without_masks_has_boxes(serve: Serve) -> None:
    response = await post(serve(ringed()), format="geojson", masks="none")
    [feature] = GeoJsonAnswer.model_validate(response.json()).features
    assert feature.geometry is not None
    assert feature.geometry.coordinates == [[(5, 5), (50, 5), (50, 35), (5, 35), (5, 5)]]


async def test_geojson_of_an_empty_mask_has_no_place(serve: Serve) -> None:
    detector = FakeDetector()

    def emptied(image: PreparedImage) -> Prediction:
        prediction = ring(image)
        assert prediction.instances is not None
        prediction.instances.pred_masks[:] = False
        return prediction

    served = serve(detector)
    detector.predicts = emptied
    [feature] = GeoJsonAnswer.model_validate((await post(served, format="geojson")).json()).features
    assert feature.geometry is None


@pytest.mark.parametrize("form", ["coco", "csv", "geojson"])
async def test_images_that_cannot_be_used_are_named_in_a_header(serve: Serve, form: str) -> None:
    response = await post(serve(), "a.png", "broken.png", "b.png", format=form)
    assert response.status_code == 200
    assert response.headers["x-failed-images"] == "1=invalid_image"
    if form == "geojson":
        answer = GeoJsonAnswer.model_validate(response.json())
        assert [(error.index, error.name) for error in answer.errors] == [(1, "broken.png")]
        assert [image.index for image in answer.images] == [0, 2]


@pytest.mark.parametrize("form", ["json", "coco", "csv", "geojson", "png"])
async def test_where_no_image_can_be_used_the_answer_is_an_error(serve: Serve, form: str) -> None:
    assert error_of(await post(serve(), "broken.png", format=form), 422).code == "invalid_image"


async def test_a_picture_is_the_image_with_what_was_found_on_it(serve: Serve) -> None:
    served = serve(ringed())
    response = await post(served, accept="image/png")
    drawn = np.asarray(Image.open(io.BytesIO(response.content)))
    assert drawn.shape == (40, 60, 3)
    assert (drawn[7, 7] != 0).any()  # the mask over a black picture
    assert (drawn[38, 2] == 0).all()
    plain = await post(served, accept="image/png", score_threshold=0.9)
    assert (np.asarray(Image.open(io.BytesIO(plain.content))) == 0).all()


async def test_a_picture_of_two_images_is_refused(serve: Serve) -> None:
    served = serve()
    assert (
        error_of(await post(served, "a.png", "b.png", format="png"), 422).code == "one_image_only"
    )
    assert served.detector.batches == []


async def test_a_model_without_instances_has_none_to_tell(serve: Serve) -> None:
    detector = FakeDetector(task="region_proposal", outputs=("proposals",))
    error = error_of(await post(serve(detector), format="csv"), 422)
    assert error.code == "format_not_supported"


async def test_categories_of_an_unknown_model_are_not_found(serve: Serve) -> None:
    response = await serve().client.get("/models/car/categories.json")
    assert error_of(response, 404).code == "unknown_model"


async def test_categories_want_the_token_of_the_server(serve: Serve) -> None:
    served = serve(inference_token="a-token-of-the-tests")
    response = await served.client.get("/models/shapes/categories.json")
    assert error_of(response, 401).code == "token_required"
