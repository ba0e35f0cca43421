"""tritonclient[http] against a running server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import PYTHON, SAMPLES
from open_inference import OUTPUTS, Addresses, check_instances, files, pixels, serving
from tritonclient.utils import InferenceServerException

ONE, TWO = SAMPLES / "shapes-1.jpg", SAMPLES / "shapes-2.jpg"
JSON = {"Content-Type": "application/json"}
"""What admin routes want of a request, so that no web page can make it."""


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("server"), PYTHON) as found:
        yield found


@pytest.fixture
def client(addresses: Addresses) -> Iterator[Any]:
    with triton.InferenceServerClient(addresses.http) as made:
        yield made


def image_input(*samples: Path) -> Any:
    tensor = triton.InferInput("IMAGE", [len(samples)], "BYTES")
    return tensor.set_data_from_numpy(files(*samples))


def pixel_input(array: Any, *, binary: bool = True) -> Any:
    tensor = triton.InferInput("PIXELS", list(array.shape), "UINT8")
    return tensor.set_data_from_numpy(array, binary_data=binary)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("shapes")
    assert not client.is_model_ready("cars")
    assert client.get_server_metadata()["name"] == "detserve"
    metadata = client.get_model_metadata("shapes")
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["IMAGE", "PIXELS"]
    assert [tensor["name"] for tensor in metadata["outputs"]] == OUTPUTS


def test_a_file_has_the_answer_of_the_native_route(
    client: Any, addresses: Addresses, sample: Path
) -> None:
    result = client.infer("shapes", [image_input(sample)], request_id="mine")
    check_instances(result, addresses.predict(sample))
    assert result.get_response()["id"] == "mine"


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_come_raw_or_as_json(client: Any, addresses: Addresses, binary: bool) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    result = client.infer("shapes", [image_input(ONE)], outputs=outputs)
    assert ("data" in result.get_output("scores")) is not binary
    native = addresses.predict(ONE)
    if binary:
        check_instances(result, native)
    else:
        assert np.array_equal(result.as_numpy("pred_boxes"), np.float32(native["pred_boxes"]))
        assert result.as_numpy("class_names").tolist() == native["class_names"]


def test_pixels_have_the_answer_of_their_lossless_file(client: Any) -> None:
    array = pixels(ONE)
    one = client.infer("shapes", [pixel_input(array)])
    batch = client.infer("shapes", [pixel_input(np.stack([array, array]))])
    count = len(one.as_numpy("scores"))
    assert count > 0
    assert batch.as_numpy("num_instances").tolist() == [count, count]
    second = batch.as_numpy("pred_boxes")[count:]
    assert np.allclose(second, one.as_numpy("pred_boxes"), atol=1e-2)


def test_small_pixels_come_as_json_too(client: Any) -> None:
    array = pixels(ONE)[:64, :64]
    raw = client.infer("shapes", [pixel_input(array)])
    json = client.infer("shapes", [pixel_input(array, binary=False)])
    assert np.array_equal(json.as_numpy("pred_boxes"), raw.as_numpy("pred_boxes"))


def test_images_of_a_request_are_told_apart(client: Any, addresses: Addresses) -> None:
    result = client.infer("shapes", [image_input(ONE, TWO)])
    counts = [len(addresses.predict(sample)["scores"]) for sample in (ONE, TWO)]
    assert result.as_numpy("num_instances").tolist() == counts
    index = result.as_numpy("image_index")
    assert [(index == i).sum() for i in range(2)] == counts


def test_parameters_are_options(client: Any) -> None:
    everything = client.infer("shapes", [image_input(ONE)]).as_numpy("scores")
    best = client.infer("shapes", [image_input(ONE)], parameters={"max_detections": 2})
    assert np.array_equal(best.as_numpy("scores"), everything[:2])


def test_nothing_found_gives_empty_arrays(client: Any) -> None:
    blank = np.zeros((64, 64, 3), dtype=np.uint8)
    result = client.infer("shapes", [pixel_input(blank)], parameters={"score_threshold": 0.99})
    assert result.as_numpy("pred_boxes").shape == (0, 4)
    assert result.as_numpy("masks_rle").shape == (0,)
    assert result.as_numpy("num_instances").tolist() == [0]


def test_requests_may_overlap(client: Any, addresses: Addresses) -> None:
    with triton.InferenceServerClient(addresses.http, concurrency=4) as wide:
        running = [wide.async_infer("shapes", [image_input(ONE)]) for _ in range(4)]
        scores = [one.get_result().as_numpy("scores") for one in running]
    # Which of them shared a batch is not known, and so not the last bit of a sum.
    assert all(np.allclose(scores[0], one, atol=1e-4) for one in scores)


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        ({"model_name": "cars"}, "404", "cars"),
        ({"model_version": "9"}, "404", "9"),
        ({"outputs": [triton.InferRequestedOutput("boxes")]}, "422", "boxes"),
        ({"parameters": {"colour": "red"}}, "422", "colour"),
        ({"timeout": 1}, "504", "answer was not ready"),
    ],
)
def test_refusals_are_the_exception_of_the_client(
    client: Any, options: dict[str, Any], status: str, word: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(**({"model_name": "shapes", "inputs": [image_input(ONE)]} | options))
    assert refused.value.status() == status
    assert word in refused.value.message()


def test_a_load_swaps_the_version_and_needs_what_no_page_can_send(client: Any) -> None:
    [before] = [one for one in client.get_model_repository_index() if one["state"] == "READY"]
    with pytest.raises(InferenceServerException) as refused:
        client.load_model("shapes")
    assert refused.value.status() == "403"
    client.load_model("shapes", headers=JSON)
    [after] = [one for one in client.get_model_repository_index() if one["state"] == "READY"]
    assert int(after["version"]) == int(before["version"]) + 1
    result = client.infer("shapes", [image_input(ONE)], model_version=after["version"])
    assert result.get_response()["model_version"] == after["version"]


def test_the_current_version_is_not_unloaded(client: Any) -> None:
    [current] = [one for one in client.get_model_repository_index() if one["state"] == "READY"]
    for query in (None, {"version": current["version"]}):
        with pytest.raises(InferenceServerException):
            client.unload_model("shapes", headers=JSON, query_params=query)
    assert client.is_model_ready("shapes")


def test_tokens_go_as_headers(tmp_path: Path) -> None:
    options = ("--inference-token", "theirs", "--admin-token", "ours")
    with (
        serving(tmp_path, PYTHON, *options) as found,
        triton.InferenceServerClient(found.http) as client,
    ):
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException) as refused:
            client.infer("shapes", [image_input(ONE)])
        assert refused.value.status() == "401"
        theirs, ours = ({"Authorization": f"Bearer {token}"} for token in ("theirs", "ours"))
        assert len(client.infer("shapes", [image_input(ONE)], headers=theirs).as_numpy("scores"))
        with pytest.raises(InferenceServerException):
            client.load_model("shapes", headers=JSON | theirs)
        client.load_model("shapes", headers=JSON | ours)
