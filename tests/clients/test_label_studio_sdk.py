"""The ML backend's answers under Label Studio's own validators, and its own brush converter."""

import base64
import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from conftest import PYTHON, ROOT, SAMPLES
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.objects import PredictionValue
from label_studio_sdk.types.actions_enum import ActionsEnum
from live_server import live_server
from PIL import Image

LABELS = "".join(f'<Label value="{name}"/>' for name in ("Disc", "Rectangle", "Triangle", "Star"))
CONFIG = (
    '<View><Image name="picture" value="$image"/>'
    f'<RectangleLabels name="box" toName="picture">{LABELS}</RectangleLabels>'
    f'<PolygonLabels name="outline" toName="picture">{LABELS}</PolygonLabels>'
    f'<BrushLabels name="mask" toName="picture">{LABELS}</BrushLabels></View>'
)
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "label-studio" / "label-config.xml"


def sent(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and answer."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        return response.status, json.load(response)


def post(url: str, body: dict[str, Any]) -> Any:
    return sent(url, body)[1]


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


# --- keypoints ------------------------------------------------------------------------------------

WRITE_MODEL = """
import sys
from pathlib import Path
from small_models import write_small_model
write_small_model("keypoints", Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def keypoints_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of a keypoint model from its files, which the server's Python writes."""
    folder = tmp_path_factory.mktemp("keypoints")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    subprocess.run(
        [str(PYTHON), "-c", WRITE_MODEL, str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        timeout=100,
    )
    files = ("--config", folder / "config.yaml", "--weights", folder / "model_final.pth")
    with live_server(*files, "--device", "cpu", "--threads", "2", cwd=folder, python=PYTHON) as own:
        yield own.url


def keypoint_config(names: list[str], **attributes: str) -> str:
    labels = "".join(f'<Label value="{name}"/>' for name in names)
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return (
        '<View><Image name="picture" value="$image"/>'
        '<RectangleLabels name="box" toName="picture"><Label value="person"/></RectangleLabels>'
        f'<KeyPointLabels name="point" toName="picture"{more}>{labels}</KeyPointLabels></View>'
    )


def keypoint_names(url: str) -> list[str]:
    """As the model has them; of a person, as its one class is."""
    with urllib.request.urlopen(f"{url}/models", timeout=10) as response:
        [model] = json.load(response)["models"]
    assert [known["name"] for known in model["classes"]] == ["person"]
    names: list[str] = model["keypoint_names"]
    return names


def test_keypoints_pass_the_validators_and_lie_where_the_model_has_them(
    keypoints_url: str, sample: Path
) -> None:
    points = keypoint_names(keypoints_url)
    config = keypoint_config(points)
    [result] = predict(keypoints_url, data_url(sample), config=config)
    PredictionValue.model_validate(result)
    assert LabelInterface(config).validate_prediction(result, return_errors=True) == []

    body = {"images": [base64.b64encode(sample.read_bytes()).decode()]}
    [native] = post(f"{keypoints_url}/predict", body)["predictions"]
    found = native["instances"]["pred_keypoints"]
    boxes = regions(result, "rectanglelabels")
    drawn = regions(result, "keypointlabels")
    assert len(boxes) == len(found) > 0
    assert len(drawn) == len(found) * len(points)
    with Image.open(sample) as image:
        size = np.array([image.width, image.height])
    at = [[region["value"]["x"], region["value"]["y"]] for region in drawn]
    expected = np.reshape(found, (-1, 3))[:, :2] / size * 100
    np.testing.assert_allclose(at, expected.clip(0, 100), atol=1e-3)
    labels = [label for region in drawn for label in region["value"]["keypointlabels"]]
    assert labels == points * len(found)
    # Each names the rectangle of its instance.
    owners = [box["id"] for box in boxes for _ in points]
    assert [region["parentID"] for region in drawn] == owners


def test_keypoints_without_a_label_or_a_score_are_left_out(
    keypoints_url: str, sample: Path
) -> None:
    points = keypoint_names(keypoints_url)
    [few] = predict(keypoints_url, data_url(sample), config=keypoint_config(points[:2]))
    drawn = regions(few, "keypointlabels")
    assert {region["value"]["keypointlabels"][0] for region in drawn} == set(points[:2])
    config = keypoint_config(points, model_point_threshold="1")
    [none] = predict(keypoints_url, data_url(sample), config=config)
    assert regions(none, "keypointlabels") == []
    assert LabelInterface(config).validate_prediction(none, return_errors=True) == []


# --- events ---------------------------------------------------------------------------------------


# Those that the SDK lists, and one that it lacks and ML backends know.
ACTIONS = (*get_args(get_args(ActionsEnum)[0]), "ANNOTATION_DELETED")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_event_that_a_webhook_can_send_is_taken(server_url: str, action: str) -> None:
    body = {
        "action": action,
        "project": {"id": 3, "title": "shapes", "label_config": CONFIG},
        "task": {"id": 1, "data": {"image": "/data/upload/3/a.jpg"}},
        "annotation": {"id": 9, "result": [], "task": 1, "completed_by": 1},
    }
    known = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED"}
    answer = (201, {"result": None, "status": "ok"})
    if action not in known:
        answer = (200, {"status": "Unknown event"})
    assert sent(f"{server_url}/label-studio/webhook", body) == answer


# --- pictures in Label Studio ---------------------------------------------------------------------

UPLOADED = "/data/upload/3/a%20b.jpg"
LEGACY, REFRESH, ACCESS = "0123456789abcdef", "head.refresh.signature", "head.access.signature"


class LabelStudio(BaseHTTPRequestHandler):
    """Hands a picture to whoever has a token, and an access token to whoever has a refresh token."""

    def do_GET(self) -> None:
        allowed = (f"Token {LEGACY}", f"Bearer {ACCESS}")
        if self.headers["Authorization"] not in allowed:
            self.answer(401, b"{}")
        elif self.path != UPLOADED:
            self.answer(404, b"{}")
        else:
            self.answer(200, (SAMPLES / "shapes-1.jpg").read_bytes())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if (self.path, body) == ("/api/token/refresh", {"refresh": REFRESH}):
            self.answer(200, json.dumps({"access": ACCESS}).encode())
        else:
            self.answer(401, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def label_studio() -> Iterator[str]:
    """Address of a server that plays Label Studio."""
    with ThreadingHTTPServer(("127.0.0.1", 0), LabelStudio) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def fetched(label_studio: str, cwd: Path, *options: str) -> list[list[dict[str, Any]]]:
    """Values of the boxes: of an inline picture, of it as a path and in full, of a wrong path."""
    address = ("--label-studio-url", label_studio)
    pictures = (
        data_url(SAMPLES / "shapes-1.jpg"),
        UPLOADED,
        label_studio + UPLOADED,
        "/data/upload/3/gone.jpg",
    )
    with live_server(*address, *options, "--threads", "2", cwd=cwd, python=PYTHON) as own:
        results = predict(own.url, *pictures)
    for result in results:
        assert LabelInterface(CONFIG).validate_prediction(result, return_errors=True) == []
    return [
        [region["value"] for region in regions(result, "rectanglelabels")] for result in results
    ]


@pytest.mark.parametrize("token", [LEGACY, REFRESH], ids=["legacy token", "personal access token"])
def test_pictures_are_fetched_from_label_studio_with_the_token(
    label_studio: str, token: str, tmp_path: Path
) -> None:
    inline, path, full, gone = fetched(label_studio, tmp_path, "--label-studio-token", token)
    assert inline
    for found in (path, full):
        assert len(found) == len(inline)
        for own, expected in zip(found, inline, strict=True):
            assert own.pop("rectanglelabels") == expected["rectanglelabels"]
            # A picture of a batch is not rounded as its neighbour is.
            assert own == pytest.approx({name: expected[name] for name in own}, abs=0.01)
    assert gone == []


def test_without_a_token_label_studio_gives_no_picture(label_studio: str, tmp_path: Path) -> None:
    inline, *others = fetched(label_studio, tmp_path)
    assert inline
    assert others == [[], [], []]
