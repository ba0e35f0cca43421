"""The ML backend's answers under Label Studio's own validators, and its own brush converter."""

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import PredictionValue
from PIL import Image

LABELS = "".join(f'<Label value="{name}"/>' for name in ("Disc", "Rectangle", "Triangle", "Star"))
CONFIG = (
    '<View><Image name="picture" value="$image"/>'
    f'<RectangleLabels name="box" toName="picture">{LABELS}</RectangleLabels>'
    f'<PolygonLabels name="outline" toName="picture">{LABELS}</PolygonLabels>'
    f'<BrushLabels name="mask" toName="picture">{LABELS}</BrushLabels></View>'
)
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "label-studio" / "label-config.xml"


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        return json.load(response)


def data_url(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def predict(server_url: str, *pictures: str, config: str = CONFIG) -> list[dict[str, Any]]:
    """What Label Studio sends, and the results that it takes."""
    tasks = [{"id": number, "data": {"image": image}} for number, image in enumerate(pictures)]
    body = {
        "tasks": tasks,
        "project": "3.1746612998",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }
    results: list[dict[str, Any]] = post(f"{server_url}/label-studio/predict", body)["results"]
    assert len(results) == len(tasks)
    return results


def regions(result: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [region for region in result["result"] if region["type"] == kind]


def native_masks(server_url: str, sample: Path) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """Masks of ``POST /predict`` as crops of bits through CVAT's contract, and the picture's size."""
    body = {"image": base64.b64encode(sample.read_bytes()).decode()}
    with Image.open(sample) as image:
        return post(f"{server_url}/cvat/?shape=mask", body), (image.height, image.width)


def test_health_and_setup_answer_what_label_studio_asks_for(server_url: str) -> None:
    with urllib.request.urlopen(f"{server_url}/label-studio/health", timeout=1) as response:
        assert json.load(response)["status"] == "UP"
    body = {"project": "3.17", "schema": CONFIG, "hostname": "http://x", "access_token": "t"}
    body |= {"extra_params": None}
    assert post(f"{server_url}/label-studio/setup", body) == {"model_version": "shapes@1"}


@pytest.mark.parametrize("config", [CONFIG, EXAMPLE.read_text()], ids=["all kinds", "example"])
def test_predictions_pass_the_validators(server_url: str, sample: Path, config: str) -> None:
    [result] = predict(server_url, data_url(sample), config=config)
    PredictionValue.model_validate(result)
    assert result["result"]
    assert LabelInterface(config).validate_prediction(result, return_errors=True) == []


def test_every_instance_has_a_region_of_every_kind(server_url: str, sample: Path) -> None:
    [result] = predict(server_url, data_url(sample))
    boxes = regions(result, "rectanglelabels")
    assert boxes
    assert len(regions(result, "brushlabels")) == len(boxes)
    assert len(regions(result, "polygonlabels")) >= len(boxes)


def test_brush_masks_decode_to_the_masks_of_the_model(server_url: str, sample: Path) -> None:
    [result] = predict(server_url, data_url(sample))
    masks, (height, width) = native_masks(server_url, sample)
    drawn = regions(result, "brushlabels")
    assert len(drawn) == len(masks)
    for region, shape in zip(drawn, masks, strict=True):
        *bits, left, top, right, bottom = shape["mask"]
        expected = np.zeros((height, width), dtype=np.uint8)
        crop = np.reshape(bits, (bottom - top + 1, right - left + 1))
        expected[top : bottom + 1, left : right + 1] = crop * 255
        decoded = brush.decode_rle(region["value"]["rle"]).reshape(height, width, 4)
        assert (decoded[:, :, 3] == expected).all()
        # Byte for byte what the converter itself writes.
        assert region["value"]["rle"] == brush.mask2rle(expected)


def test_a_task_that_fails_has_its_place_among_the_others(server_url: str, sample: Path) -> None:
    results = predict(
        server_url, data_url(sample), "/data/upload/1/x.jpg", "s3://bucket/x.jpg", data_url(sample)
    )
    assert [bool(result["result"]) for result in results] == [True, False, False, True]
    for result in results:
        assert LabelInterface(CONFIG).validate_prediction(result, return_errors=True) == []
