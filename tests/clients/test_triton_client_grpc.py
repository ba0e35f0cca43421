"""tritonclient[grpc] against a running server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import PYTHON, SAMPLES
from open_inference import OUTPUTS, Addresses, check_instances, files, pixels, serving
from tritonclient.utils import InferenceServerException

ONE, TWO = SAMPLES / "shapes-1.jpg", SAMPLES / "shapes-2.jpg"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("server"), PYTHON) as found:
        yield found


@pytest.fixture
def client(addresses: Addresses) -> Iterator[Any]:
    with triton.InferenceServerClient(addresses.grpc) as made:
        yield made


def image_input(*samples: Path) -> Any:
    tensor = triton.InferInput("IMAGE", [len(samples)], "BYTES")
    return tensor.set_data_from_numpy(files(*samples))


def pixel_input(array: Any) -> Any:
    return triton.InferInput("PIXELS", list(array.shape), "UINT8").set_data_from_numpy(array)


def ready_version(client: Any) -> str:
    [version] = [
        one.version for one in client.get_model_repository_index().models if one.state == "READY"
    ]
    return str(version)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("shapes")
    assert client.get_server_metadata().name == "detserve"
    metadata = client.get_model_metadata("shapes")
    assert [tensor.name for tensor in metadata.inputs] == ["IMAGE", "PIXELS"]
    assert [tensor.name for tensor in metadata.outputs] == OUTPUTS


def test_a_file_has_the_answer_of_the_native_route(
    client: Any, addresses: Addresses, sample: Path
) -> None:
    result = client.infer("shapes", [image_input(sample)], request_id="mine")
    check_instances(result, addresses.predict(sample))
    assert result.get_response().id == "mine"


def test_pixels_outputs_and_parameters(client: Any) -> None:
    array = pixels(ONE)
    everything = client.infer("shapes", [pixel_input(array)]).as_numpy("scores")
    some = client.infer(
        "shapes",
        [pixel_input(np.stack([array, array]))],
        outputs=[triton.InferRequestedOutput("scores")],
        parameters={"max_detections": 2, "score_threshold": 0.1, "tta": "none"},
    )
    assert [output.name for output in some.get_response().outputs] == ["scores"]
    assert np.allclose(some.as_numpy("scores"), np.tile(everything[:2], 2), atol=1e-4)


def test_nothing_found_gives_empty_arrays(client: Any) -> None:
    blank = np.zeros((64, 64, 3), dtype=np.uint8)
    result = client.infer("shapes", [pixel_input(blank)], parameters={"score_threshold": 0.99})
    assert result.as_numpy("pred_boxes").shape == (0, 4)
    assert result.as_numpy("masks_rle").shape == (0,)


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        ({"model_name": "cars"}, "NOT_FOUND", "cars"),
        ({"model_version": "9"}, "NOT_FOUND", "9"),
        ({"outputs": [triton.InferRequestedOutput("boxes")]}, "INVALID_ARGUMENT", "boxes"),
        ({"parameters": {"colour": "red"}}, "INVALID_ARGUMENT", "colour"),
        ({"client_timeout": 0.001}, "DEADLINE_EXCEEDED", ""),
        ({"timeout": 1}, "DEADLINE_EXCEEDED", "answer was not ready"),
    ],
)
def test_refusals_are_the_exception_of_the_client(
    client: Any, options: dict[str, Any], status: str, word: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer(**({"model_name": "shapes", "inputs": [image_input(ONE)]} | options))
    assert refused.value.status() == f"StatusCode.{status}"
    assert word in refused.value.message()


def test_a_large_message_arrives_and_one_over_the_limit_does_not(client: Any) -> None:
    large = np.zeros((2000, 3000, 3), dtype=np.uint8)
    assert client.infer("shapes", [pixel_input(large)]).as_numpy("num_instances").shape == (1,)
    with pytest.raises(InferenceServerException) as refused:
        client.infer("shapes", [pixel_input(np.zeros((4, 2500, 2500, 3), dtype=np.uint8))])
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_a_load_swaps_the_version_and_the_current_one_is_not_unloaded(client: Any) -> None:
    before = ready_version(client)
    client.load_model("shapes")
    after = ready_version(client)
    assert int(after) == int(before) + 1
    result = client.infer("shapes", [image_input(ONE)], model_version=after)
    assert result.get_response().model_version == after
    with pytest.raises(InferenceServerException):
        client.unload_model("shapes")
    assert client.is_model_ready("shapes")


def test_tokens_go_as_headers(tmp_path: Path) -> None:
    options = ("--inference-token", "theirs", "--admin-token", "ours")
    with (
        serving(tmp_path, PYTHON, *options) as found,
        triton.InferenceServerClient(found.grpc) as client,
    ):
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException) as refused:
            client.infer("shapes", [image_input(ONE)])
        assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
        theirs, ours = ({"authorization": f"Bearer {token}"} for token in ("theirs", "ours"))
        assert len(client.infer("shapes", [image_input(ONE)], headers=theirs).as_numpy("scores"))
        with pytest.raises(InferenceServerException):
            client.load_model("shapes", headers=theirs)
        client.load_model("shapes", headers=ours)
