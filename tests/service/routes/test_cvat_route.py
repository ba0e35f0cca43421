"""POST /cvat/ and GET /cvat/function.yaml."""

import base64
import json
from typing import Any, get_args

import httpx
import pytest
import yaml
from fake_detector import FakeDetector, picture
from fake_server import Serve, Served

from service.cvat.shapes import Shape
from service.routes.cvat import CvatShapes

pytestmark = pytest.mark.anyio

IMAGE = base64.b64encode(picture(7)).decode()


async def post(served: Served, body: Any = None, **query: Any) -> httpx.Response:
    given = {"image": IMAGE} if body is None else body
    return await served.client.post("/cvat/", json=given, params=query)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("shape", get_args(Shape))
async def test_every_shape_is_a_list_of_documented_shapes(serve: Serve, shape: str) -> None:
    response = await post(serve(), shape=shape)
    assert response.status_code == 200
    shapes = CvatShapes.model_validate(response.json()).root
    assert [found.label for found in shapes] == ["disc", "square", "star, red"]
    assert [found.confidence for found in shapes] == ["0.9", "0.6", "0.3"]


async def test_a_rectangle_is_the_default(serve: Serve) -> None:
    found = (await post(serve())).json()
    assert {shape["type"] for shape in found} == {"rectangle"}
    assert found[0]["points"] == [0.12, 0.88, 32.0, 32.0]


async def test_the_threshold_is_that_of_the_body(serve: Serve) -> None:
    response = await post(serve(), {"image": IMAGE, "threshold": 0.5, "mapping": {}})
    assert [shape["label"] for shape in response.json()] == ["disc", "square"]


async def test_a_threshold_below_the_models_own_is_refused(serve: Serve) -> None:
    response = await post(serve(), {"image": IMAGE, "threshold": 0.01})
    assert code_of(response) == (422, "score_threshold_too_low")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], (400, "malformed_json")),
        ({}, (422, "invalid_option")),
        ({"image": 7}, (422, "invalid_option")),
        ({"image": IMAGE, "threshold": "high"}, (422, "invalid_option")),
        ({"image": IMAGE, "threshold": 1.5}, (422, "invalid_option")),
        ({"image": "*"}, (400, "invalid_base64")),
        ({"image": ""}, (422, "empty_image")),
        ({"image": "AAAA"}, (415, "unsupported_image_format")),
    ],
)
async def test_a_bad_body_is_refused(serve: Serve, body: Any, expected: tuple[int, str]) -> None:
    assert code_of(await post(serve(), body)) == expected


async def test_a_shape_that_is_none_or_that_the_model_has_not_is_refused(serve: Serve) -> None:
    served = serve(FakeDetector(task="object_detection"))
    assert code_of(await post(served, shape="circle")) == (422, "invalid_option")
    assert code_of(await post(served, shape="mask")) == (422, "shape_not_supported")
    assert (await post(served)).status_code == 200


async def test_a_model_is_named_in_the_query(serve: Serve) -> None:
    served = serve()
    assert (await post(served, model="shapes")).status_code == 200
    assert code_of(await post(served, model="cars")) == (404, "unknown_model")


async def test_the_inference_token_is_asked_for(serve: Serve) -> None:
    served = serve(inference_token="secret")
    assert code_of(await post(served)) == (401, "token_required")
    assert code_of(await served.client.get("/cvat/function.yaml")) == (401, "token_required")


async def test_a_server_without_a_model_refuses(serve: Serve) -> None:
    assert code_of(await post(serve(load=False))) == (503, "not_ready")


async def test_a_full_queue_refuses_and_is_counted(serve: Serve) -> None:
    served = serve(max_queue=1)
    served.runtime.scheduler.reserve(1)
    response = await post(served)
    assert code_of(response) == (429, "queue_full")
    assert int(response.headers["retry-after"]) >= 1
    outcome = {"model": "shapes", "version": "1", "outcome": "queue_full"}
    assert served.metric("predictions_total", **outcome) == 1
    served.runtime.scheduler.unreserve(1)


async def test_a_failing_model_is_an_error_and_no_empty_list(serve: Serve) -> None:
    served = serve()
    served.detector.fail_on = {7}
    assert (await post(served)).status_code == 500


async def test_the_description_has_the_labels_and_where_to_ask(serve: Serve) -> None:
    response = await serve().client.get(
        "/cvat/function.yaml", params={"shape": "rle", "url": "http://detserve:8000"}
    )
    assert response.headers["content-type"] == "application/yaml"
    function = yaml.safe_load(response.text)
    labels = json.loads(function["metadata"]["annotations"]["spec"])
    assert labels[2] == {"id": 2, "name": "star, red", "type": "mask"}
    assert function["metadata"]["annotations"]["type"] == "detector"
    environment = {entry["name"]: entry["value"] for entry in function["spec"]["env"]}
    assert environment == {
        "DETSERVE_URL": "http://detserve:8000",
        "DETSERVE_MODEL": "shapes",
        "DETSERVE_SHAPE": "rle",
    }


async def test_the_description_tells_the_address_that_it_was_asked_at(serve: Serve) -> None:
    response = await serve().client.get("/cvat/function.yaml")
    environment = yaml.safe_load(response.text)["spec"]["env"]
    assert environment[0] == {"name": "DETSERVE_URL", "value": "http://localhost"}


async def test_names_of_classes_cannot_break_out_of_the_description(serve: Serve) -> None:
    names = ("a: b\n- c", "'\"", "${x}", "名前")
    served = serve(FakeDetector(class_names=names))
    function = yaml.safe_load((await served.client.get("/cvat/function.yaml")).text)
    labels = json.loads(function["metadata"]["annotations"]["spec"])
    assert tuple(label["name"] for label in labels) == names
