"""``/v2``: the Open Inference Protocol over HTTP."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from fake_detector import STEP, FakeDetector, picture, pixels
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import detector_of, record_at, until

from service.open_inference.bytes_tensors import join_elements, split_elements
from service.schemas.open_inference import (
    IndexEntry,
    InferResultAnswer,
    ModelMetadataAnswer,
    ProtocolError,
)

pytestmark = pytest.mark.anyio
URL = "/v2/models/shapes/infer"


def files(*data: bytes) -> dict[str, Any]:
    texts = [base64.b64encode(one).decode() for one in data]
    return {"name": "IMAGE", "datatype": "BYTES", "shape": [len(data)], "data": texts}


def message(*data: bytes, outputs: list[str] | None = None, **parameters: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": [files(*data)], "parameters": parameters}
    return body | ({} if outputs is None else {"outputs": [{"name": name} for name in outputs]})


def outputs_of(response: httpx.Response) -> dict[str, Any]:
    """The data of a JSON answer by output."""
    assert response.status_code == 200, response.text
    InferResultAnswer.model_validate(response.json())
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    return ProtocolError.model_validate(response.json()).error


@pytest.fixture
async def versions(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1 and 2, which is current; 3 came later and is not loaded."""
    for label in "12":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "3")
    return served


# --- health and metadata --------------------------------------------------------------------------


async def test_health_is_told_by_the_status_without_a_token(serve: Serve) -> None:
    served = serve(inference_token="secret")
    assert (await served.client.get("/v2/health/live")).json() == {"live": True}
    assert (await served.client.get("/v2/health/ready")).status_code == 200
    served.runtime.draining = True
    assert (await served.client.get("/v2/health/live")).status_code == 200
    assert (await served.client.get("/v2/health/ready")).status_code == 503
    assert (
        served.metric("http_requests_total", method="GET", route="/v2/health/live", code="200")
        is None
    )


async def test_the_server_tells_its_name_and_extensions(serve: Serve) -> None:
    answer = (await serve().client.get("/v2")).json()
    assert answer["name"] == "detserve"
    assert answer["extensions"] == ["binary_tensor_data", "model_repository"]


@pytest.mark.parametrize("path", ["/v2/models/shapes", "/v2/models/shapes/versions/1"])
async def test_a_model_tells_its_tensors(serve: Serve, path: str) -> None:
    answer = ModelMetadataAnswer.model_validate((await serve().client.get(path)).json())
    assert (answer.name, answer.versions) == ("shapes", ["1"])
    assert [tensor.name for tensor in answer.inputs] == ["IMAGE", "PIXELS"]
    assert [tensor.name for tensor in answer.outputs] == [
        "pred_boxes", "scores", "pred_classes", "class_names", "image_index", "num_instances",
        "masks_rle",
    ]  # fmt: skip


async def test_a_model_is_ready_when_its_version_is_loaded(versions: Served) -> None:
    for path in ("", "/versions/2", "/versions/current"):
        response = await versions.client.get(f"/v2/models/shapes{path}/ready")
        assert (response.status_code, response.json()) == (200, {"name": "shapes", "ready": True})
    response = await versions.client.get("/v2/models/shapes/versions/3/ready")
    assert (response.status_code, response.json()) == (503, {"name": "shapes", "ready": False})
    error_of(await versions.client.get("/v2/models/shapes/versions/9/ready"), 404)
    error_of(await versions.client.get("/v2/models/car/ready"), 404)
    versions.runtime.draining = True
    assert (await versions.client.get("/v2/models/shapes/ready")).status_code == 503


async def test_the_index_lists_every_version_with_its_state(versions: Served) -> None:
    (versions.root / "cars").mkdir()
    entries = [
        IndexEntry.model_validate(entry)
        for entry in (await versions.client.post("/v2/repository/index")).json()
    ]
    assert [(entry.name, entry.version, entry.state) for entry in entries] == [
        ("shapes", "1", "UNAVAILABLE"), ("shapes", "2", "READY"), ("shapes", "3", "UNAVAILABLE"),
        ("cars", "", "UNAVAILABLE"),
    ]  # fmt: skip
    assert [entry.reason == "" for entry in entries] == [False, True, False, False]
    ready = await versions.client.post("/v2/repository/index", json={"ready": True})
    assert [entry["version"] for entry in ready.json()] == ["2"]


# --- inference ------------------------------------------------------------------------------------


async def test_all_outputs_come_unless_some_are_named(serve: Serve) -> None:
    served = serve()
    response = await served.client.post(URL, json=message(picture(1)) | {"id": "mine"})
    found = outputs_of(response)
    assert found["scores"] == pytest.approx([0.9, 0.6, 0.3])
    assert found["class_names"] == ["disc", "square", "star, red"]
    assert found["pred_classes"] == [0, 1, 2]
    assert found["pred_boxes"][:4] == [STEP, STEP, 32, 32]
    assert orjson.loads(found["masks_rle"][0])["size"] == [32, 32]
    answer = response.json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "shapes", "1")
    some = await served.client.post(URL, json=message(picture(1), outputs=["scores"]))
    assert list(outputs_of(some)) == ["scores"]


async def test_without_an_id_the_answer_has_that_of_the_http_request(serve: Serve) -> None:
    response = await serve().client.post(URL, json=message(picture(1)))
    assert response.json()["id"] == response.headers["x-request-id"]


async def test_masks_that_are_not_named_are_not_made(serve: Serve) -> None:
    served = serve()
    wanted: list[bool] = []
    served.detector.answers = lambda answers: answers
    infer = served.detector.infer

    def spy(batch: Any, pause: Any = None) -> Any:
        wanted.extend(image.wanted.masks for image in batch)
        return infer(batch, pause)

    served.detector.infer = spy  # type: ignore[method-assign]  # of the fake, to see what it is asked
    for outputs in (["scores"], ["masks_rle"], None):
        await served.client.post(URL, json=message(picture(1), outputs=outputs))
    assert "masks_rle" not in outputs_of(
        await served.client.post(URL, json=message(picture(1), masks="none"))
    )
    assert wanted == [False, True, True, False]


async def test_images_share_one_list_of_instances(serve: Serve) -> None:
    body = message(picture(1), picture(2), outputs=["image_index", "num_instances", "pred_boxes"])
    found = outputs_of(await serve().client.post(URL, json=body))
    assert found["num_instances"] == [3, 3]
    assert found["image_index"] == [0, 0, 0, 1, 1, 1]
    assert [y / STEP for y in found["pred_boxes"][1::4]] == [1, 1, 1, 2, 2, 2]


async def test_parameters_are_the_options_of_predict(serve: Serve) -> None:
    served = serve()
    body = message(picture(1), score_threshold=0.5, classes="square", binary_data_output=False)
    assert outputs_of(await served.client.post(URL, json=body))["class_names"] == ["square"]


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"score_threshold": 2}, "score_threshold"),
        ({"model": "other"}, "model"),
        ({"version": "2"}, "version"),
        ({"masks": "polygon"}, "masks"),
        ({"include": "none"}, "include"),
        ({"format": "csv"}, "format"),
        ({"priority": 1}, "priority"),
        ({"sequence_id": 1}, "sequence_id"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"timeout": True}, "timeout"),
    ],
)
async def test_a_bad_parameter_is_422_in_the_shape_of_the_protocol(
    serve: Serve, parameters: dict[str, Any], word: str
) -> None:
    response = await serve().client.post(URL, json=message(picture(1), **parameters))
    assert word in error_of(response, 422)


async def test_masks_cannot_be_named_and_declined(serve: Serve) -> None:
    body = message(picture(1), outputs=["masks_rle"], masks="none")
    assert "masks_rle" in error_of(await serve().client.post(URL, json=body), 422)


async def test_tensors_come_and_go_as_raw_bytes(serve: Serve) -> None:
    raw = join_elements([picture(5)])
    head = orjson.dumps(
        {
            "parameters": {"binary_data_output": True},
            "inputs": [files(b"") | {"parameters": {"binary_data_size": len(raw)}, "data": None}],
            "outputs": [
                {"name": "pred_boxes"},
                {"name": "scores", "parameters": {"binary_data": False}},
                {"name": "class_names"},
            ],
        }
    )
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = await serve().client.post(URL, content=head + raw, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    boxes, scores, names = orjson.loads(response.content[:length])["outputs"]
    size = boxes["parameters"]["binary_data_size"]
    raw = response.content[length:]
    found = np.frombuffer(raw[:size], dtype="<f4").reshape(boxes["shape"])
    assert found[:, 1].tolist() == [5 * STEP] * 3
    assert scores["data"] == pytest.approx([0.9, 0.6, 0.3])
    assert len(raw) == size + names["parameters"]["binary_data_size"]
    assert split_elements(raw[size:], 3) == [b"disc", b"square", b"star, red"]


@pytest.mark.parametrize("as_json", [True, False])
async def test_pixels_are_rgb(serve: Serve, as_json: bool) -> None:
    samples = pixels(7, (4, 6))
    samples[..., 2] = 9
    served = serve()
    given: dict[str, Any] = {"name": "PIXELS", "datatype": "UINT8", "shape": [4, 6, 3]}
    if as_json:
        response = await served.client.post(
            URL, json={"inputs": [given | {"data": samples.tolist()}]}
        )
    else:
        given["parameters"] = {"binary_data_size": samples.size}
        head = orjson.dumps({"inputs": [given]})
        headers = {"Inference-Header-Content-Length": str(len(head))}
        response = await served.client.post(URL, content=head + samples.tobytes(), headers=headers)
    assert outputs_of(response)["pred_boxes"][:4] == [STEP, 7 * STEP, 6, 4]


async def test_an_image_that_cannot_be_used_is_the_error_of_the_request(serve: Serve) -> None:
    served = serve()
    assert "JPEG" in error_of(await served.client.post(URL, json=message(b"no image")), 415)
    error = error_of(await served.client.post(URL, json=message(picture(1), b"no image")), 415)
    assert error.startswith("IMAGE[1]: ")


async def test_whoever_names_the_output_errors_gets_the_other_images(serve: Serve) -> None:
    body = message(picture(1), b"no image", outputs=["num_instances", "errors"])
    found = outputs_of(await serve().client.post(URL, json=body))
    assert found["num_instances"] == [3, 0]
    assert found["errors"][0] == ""
    assert orjson.loads(found["errors"][1])["code"] == "unsupported_image_format"


async def test_a_version_in_the_path_answers(versions: Served) -> None:
    url = "/v2/models/shapes/versions/{}/infer"
    response = await versions.client.post(url.format("2"), json=message(picture(1)))
    assert response.json()["model_version"] == "2"
    error = error_of(await versions.client.post(url.format("3"), json=message(picture(1))), 409)
    assert "not loaded" in error
    error_of(await versions.client.post(url.format("9"), json=message(picture(1))), 404)


# --- limits ---------------------------------------------------------------------------------------


async def test_the_limits_are_those_of_predict(serve: Serve) -> None:
    served = serve(max_images=1, max_body_bytes=20_000, max_side=100)
    error_of(await served.client.post(URL, json=message(picture(1), picture(2))), 413)
    error_of(await served.client.post(URL, content=b" " * 20_001), 413)
    error_of(await served.client.post(URL, json=message(picture(1, (16, 101)))), 413)
    assert served.runtime.scheduler.depth == 0


async def test_a_full_queue_is_429_with_the_time_to_come_back(serve: Serve) -> None:
    served = serve(max_queue=1)
    served.detector.go.clear()
    first = asyncio.ensure_future(served.client.post(URL, json=message(picture(1))))
    await asyncio.to_thread(served.detector.entered)
    refused = await served.client.post(URL, json=message(picture(2)))
    assert error_of(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    served.detector.go.set()
    assert (await first).status_code == 200


async def test_the_parameter_timeout_is_in_microseconds(serve: Serve) -> None:
    served = serve()
    served.detector.go.clear()
    error = error_of(await served.client.post(URL, json=message(picture(1), timeout=1000)), 504)
    assert "0.001 s" in error
    await until(lambda: served.runtime.scheduler.depth == 0)


async def test_the_inference_token_guards_everything_but_health(serve: Serve) -> None:
    served = serve(inference_token="secret")
    calls = [("GET", "/v2"), ("GET", "/v2/models/shapes"), ("GET", "/v2/models/shapes/ready")]
    calls += [("POST", URL), ("POST", "/v2/repository/index")]
    for method, path in calls:
        refused = await served.client.request(method, path)
        error_of(refused, 401)
        assert "Bearer" in refused.headers["www-authenticate"]
    headers = {"Authorization": "Bearer secret"}
    for method, path in calls[:3]:
        assert (await served.client.request(method, path, headers=headers)).status_code == 200
    response = await served.client.post(URL, json=message(picture(1)), headers=headers)
    assert response.status_code == 200


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/shapes/stats", 404),
        ("GET", URL, 405),
        ("PUT", "/v2", 405),
        ("DELETE", "/v2/models/shapes", 405),
        ("GET", "/v2/models/car", 404),
        ("GET", "/v2/models/shapes/versions/9", 404),
    ],
)
async def test_every_error_has_the_shape_of_the_protocol(
    serve: Serve, method: str, path: str, status: int
) -> None:
    response = await serve().client.request(method, path)
    error_of(response, status)
    assert ("allow" in response.headers) == (status == 405)


async def test_a_bug_of_ours_is_500_in_that_shape_and_in_the_log(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()

    def broken(*args: Any) -> Any:
        raise RuntimeError("the reason")

    monkeypatch.setattr("service.open_inference.infer.read_images", broken)
    error = error_of(await served.client.post(URL, json=message(picture(1))), 500)
    assert "the reason" not in error
    assert "the reason" in caplog.text


# --- the repository -------------------------------------------------------------------------------


async def test_a_load_makes_the_named_version_current(
    versions: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="service.audit")
    body = {"parameters": {"version": "3"}}
    response = await versions.client.post("/v2/repository/models/shapes/load", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["name"], answer["load"], answer["version"]) == ("shapes", True, "3")
    assert record_at(versions.root).current == "3"
    assert "action=reload model=shapes version=3" in caplog.text
    job = await versions.client.get(f"/reload/{answer['job']}")
    assert (job.status_code, job.json()["outcome"]) == (200, "swapped")


async def test_the_version_may_stand_in_the_query(versions: Served) -> None:
    url = "/v2/repository/models/shapes/load"
    response = await versions.client.post(f"{url}?version=3", json={})
    assert response.json()["version"] == "3"
    twice = await versions.client.post(f"{url}?version=1", json={"parameters": {"version": "2"}})
    error_of(twice, 400)


async def test_files_and_configs_are_not_taken_over_this_protocol(versions: Served) -> None:
    for parameters in ({"config": "{}"}, {"file:1/model.pth": "AAAA"}, {"weights": "a.pth"}):
        response = await versions.client.post(
            "/v2/repository/models/shapes/load", json={"parameters": parameters}
        )
        error_of(response, 422)
    assert record_at(versions.root).current == "2"


async def test_a_load_that_fails_leaves_the_old_version(versions: Served) -> None:
    make_version(versions.root, "4", files={"model_final.pth": "broken"})
    body = {"parameters": {"version": "4"}}
    response = await versions.client.post("/v2/repository/models/shapes/load", json=body)
    assert "no checkpoint" in error_of(response, 422)
    response = await versions.client.post(URL, json=message(picture(1)))
    assert response.json()["model_version"] == "2"


async def test_an_unload_lets_a_version_go_that_is_not_current(versions: Served) -> None:
    loaded = await versions.client.post("/models/shapes/versions/3/load", json={})
    assert loaded.status_code == 200
    url = "/v2/repository/models/shapes/unload"
    body = {"parameters": {"version": "3", "unload_dependents": False}}
    response = await versions.client.post(url, json=body)
    assert response.json() == {"name": "shapes", "unload": True, "version": "3"}
    assert detector_of(versions, 3).closed == 1
    error_of(await versions.client.post(f"{url}?version=2", json={}), 409)
    assert "version" in error_of(await versions.client.post(url, json={}), 422)
    assert (await versions.client.get("/v2/models/shapes/ready")).status_code == 200


@pytest.mark.parametrize("act", ["load", "unload"])
async def test_changes_have_the_guard_of_admin_routes(
    serve: Serve, act: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(FakeDetector(), inference_token="theirs", admin_token="ours")
    url = f"/v2/repository/models/shapes/{act}"
    for token in ("theirs", "wrong"):
        headers = {"Authorization": f"Bearer {token}"}
        error_of(await served.client.post(url, json={}, headers=headers), 401)
    page = {"Authorization": "Bearer ours", "Origin": "http://elsewhere.example"}
    error_of(await served.client.post(url, json={}, headers=page), 403)
    plain = {"Authorization": "Bearer ours", "Content-Type": "text/plain"}
    error_of(await served.client.post(url, content=b"{}", headers=plain), 403)
    assert caplog.text.count("auth=none") == 4
    assert len(served.loader.loaded) == 1
