"""The Open Inference Protocol over gRPC."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from fake_detector import STEP, FakeDetector, picture, pixels
from fake_repository import FolderLoader, make_version
from fake_server import Serve, Served
from http_checks import detector_of, record_at, until

from service.grpc_server.messages import MESSAGES, SERVICE
from service.open_inference.bytes_tensors import join_elements, split_elements

pytestmark = pytest.mark.anyio
Connected = Callable[[Served], Any]


def infer_request(*data: bytes, **fields: Any) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="shapes", **fields)
    message.inputs.add(name="IMAGE", datatype="BYTES", shape=[len(data)])
    message.raw_input_contents.append(join_elements(data))
    return message


def raws(answer: Any) -> dict[str, bytes]:
    names = [output.name for output in answer.outputs]
    return dict(zip(names, answer.raw_output_contents, strict=True))


def trailing(error: Any) -> dict[str, str]:
    return dict(error.trailing_metadata())


@pytest.fixture
def versions(serve: Serve, tmp_path: Path) -> Served:
    """Versions 1 and 2, which is current; 3 came later and is not loaded."""
    for label in "12":
        make_version(tmp_path, label)
    served = serve(loader=FolderLoader(), repository=tmp_path)
    make_version(tmp_path, "3")
    return served


async def test_health_needs_no_token_and_metadata_do(serve: Serve, connected: Connected) -> None:
    served = serve(inference_token="secret")
    async with connected(served) as (_, client):
        assert (await client.call("ServerLive")).live
        assert (await client.call("ServerReady")).ready
        for method in (
            "ServerMetadata", "ModelMetadata", "ModelReady", "ModelInfer", "RepositoryIndex"
        ):  # fmt: skip
            refused = await client.refused(method)
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
            assert trailing(refused)["x-error-code"] == "token_required"
        answer = await client.call("ServerMetadata", authorization="Bearer secret")
        assert answer.name == "detserve"


async def test_a_model_tells_its_tensors_and_versions(
    versions: Served, connected: Connected
) -> None:
    async with connected(versions) as (_, client):
        asked = MESSAGES["ModelMetadataRequest"](name="shapes")
        answer = await client.call("ModelMetadata", asked)
        assert list(answer.versions) == ["2"]
        assert [tensor.name for tensor in answer.inputs] == ["IMAGE", "PIXELS"]
        assert list(answer.outputs[0].shape) == [-1, 4]
        index = await client.call("RepositoryIndex")
        assert [(one.version, one.state) for one in index.models] == [
            ("1", "UNAVAILABLE"), ("2", "READY"), ("3", "UNAVAILABLE"),
        ]  # fmt: skip
        for version, ready in (("", True), ("2", True), ("3", False)):
            asked = MESSAGES["ModelReadyRequest"](name="shapes", version=version)
            assert (await client.call("ModelReady", asked)).ready is ready


async def test_files_are_answered_raw(serve: Serve, connected: Connected) -> None:
    async with connected(serve()) as (_, client):
        answer = await client.call("ModelInfer", infer_request(picture(5), picture(6), id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("shapes", "1", "mine")
    found = raws(answer)
    boxes = np.frombuffer(found["pred_boxes"], dtype="<f4").reshape(-1, 4)
    assert boxes[:, 1].tolist() == [5 * STEP] * 3 + [6 * STEP] * 3
    assert np.frombuffer(found["num_instances"], dtype="<i8").tolist() == [3, 3]
    assert split_elements(found["class_names"], 6)[:3] == [b"disc", b"square", b"star, red"]


async def test_pixels_and_options_and_named_outputs(serve: Serve, connected: Connected) -> None:
    samples = pixels(7, (4, 6))
    message = MESSAGES["ModelInferRequest"](model_name="shapes")
    tensor = message.inputs.add(name="PIXELS", datatype="UINT8", shape=samples.shape)
    tensor.contents.uint_contents.extend(samples.reshape(-1).tolist())
    message.parameters["score_threshold"].double_param = 0.5
    message.outputs.add(name="scores")
    async with connected(serve()) as (_, client):
        answer = await client.call("ModelInfer", message)
    assert [output.name for output in answer.outputs] == ["scores"]
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx([0.9, 0.6])


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"model_name": "car"}, grpc.StatusCode.NOT_FOUND, "unknown_model"),
        ({"model_version": "9"}, grpc.StatusCode.NOT_FOUND, "unknown_version"),
        ({"model_version": "3"}, grpc.StatusCode.FAILED_PRECONDITION, "version_not_loaded"),
        ({"id": "x" * 300}, grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        ({"image": b"no"}, grpc.StatusCode.INVALID_ARGUMENT, "unsupported_image_format"),
    ],
)
async def test_a_refusal_is_a_status_with_the_sentence_and_the_code(
    versions: Served, connected: Connected, change: dict[str, Any], code: Any, word: str
) -> None:
    message = infer_request(change.pop("image", picture(1)))
    message.MergeFrom(MESSAGES["ModelInferRequest"](**change))
    async with connected(versions) as (_, client):
        refused = await client.refused("ModelInfer", message)
    assert refused.code() is code
    assert trailing(refused)["x-error-code"] == word
    assert len(trailing(refused)["x-request-id"]) == 32
    assert refused.details()


@pytest.mark.parametrize("method", ["ModelInfer", "ServerLive", "RepositoryModelLoad"])
async def test_bytes_that_are_no_message_are_refused_in_the_call(
    serve: Serve, connected: Connected, method: str
) -> None:
    async with connected(serve()) as (_, client):
        send = client._channel.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await send(b"\xff\xff\xff", timeout=20)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert trailing(refusal.value)["x-error-code"] == "malformed_message"


async def test_a_message_over_the_limit_is_refused(serve: Serve, connected: Connected) -> None:
    async with connected(serve(max_body_bytes=1024)) as (_, client):
        refused = await client.refused("ModelInfer", infer_request(b"x" * 100_000))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_bug_of_ours_is_internal_and_in_the_log(
    serve: Serve,
    connected: Connected,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("the reason")

    monkeypatch.setattr("service.open_inference.infer.read_images", broken)
    async with connected(serve()) as (_, client):
        refused = await client.refused("ModelInfer", infer_request(picture(1)))
    assert refused.code() is grpc.StatusCode.INTERNAL
    assert "the reason" not in refused.details()
    assert "the reason" in caplog.text


async def test_the_work_of_a_client_that_leaves_is_dropped(
    serve: Serve, connected: Connected
) -> None:
    served = serve(max_batch_size=1)
    served.detector.go.clear()
    async with connected(served) as (_, client):
        first = client.call("ModelInfer", infer_request(picture(1)))
        await asyncio.to_thread(served.detector.entered)
        second = client.call("ModelInfer", infer_request(picture(2)))
        await until(lambda: served.runtime.scheduler.waiting == 1)
        assert second.cancel()
        await until(lambda: served.runtime.scheduler.depth == 1)
        served.detector.go.set()
        assert (await first).model_name == "shapes"
    assert served.detector.batches == [[1]]


async def test_the_deadline_of_the_call_ends_its_work(serve: Serve, connected: Connected) -> None:
    served = serve(max_batch_size=1)
    served.detector.go.clear()
    async with connected(served) as (_, client):
        first = client.call("ModelInfer", infer_request(picture(1)))
        await asyncio.to_thread(served.detector.entered)
        refused = await client.refused("ModelInfer", infer_request(picture(2)), timeout=0.05)
        assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: served.runtime.scheduler.depth == 1)
        served.detector.go.set()
        await first
    assert served.detector.batches == [[1]]


async def test_calls_are_counted_by_their_method_and_probes_are_not(
    serve: Serve, connected: Connected
) -> None:
    served = serve()
    async with connected(served) as (_, client):
        await client.call("ServerLive")
        await client.call("ModelInfer", infer_request(picture(1)))
        await client.refused("ModelInfer", infer_request(b"no image"))
    route = "/inference.GRPCInferenceService/ModelInfer"
    for code in ("200", "415"):
        labels = {"method": "POST", "route": route, "code": code}
        assert served.metric("http_requests_total", **labels) == 1
    assert served.metric("http_requests_in_progress", route=route) == 0
    probe = {"method": "POST", "route": route.replace("ModelInfer", "ServerLive"), "code": "200"}
    assert served.metric("http_requests_total", **probe) is None


# --- the repository -------------------------------------------------------------------------------


async def test_load_and_unload_are_the_admin_acts(
    versions: Served, connected: Connected, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="service.audit")
    load = MESSAGES["RepositoryModelLoadRequest"](model_name="shapes")
    load.parameters["version"].string_param = "3"
    unload = MESSAGES["RepositoryModelUnloadRequest"](model_name="shapes")
    unload.parameters["version"].string_param = "1"
    async with connected(versions) as (_, client):
        await client.call("RepositoryModelLoad", load)
        assert record_at(versions.root).current == "3"
        assert "action=reload model=shapes version=3" in caplog.text
        assert "auth=loopback" in caplog.text
        assert (await versions.client.post("/models/shapes/versions/1/load", json={})).is_success
        await client.call("RepositoryModelUnload", unload)
        assert detector_of(versions, 1).closed == 1
        refused = await client.refused("RepositoryModelUnload", unload)
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
async def test_changes_need_the_admin_token(
    serve: Serve, connected: Connected, method: str
) -> None:
    served = serve(FakeDetector(), inference_token="theirs", admin_token="ours")
    async with connected(served) as (_, client):
        for metadata in ({}, {"authorization": "Bearer theirs"}):
            refused = await client.refused(method, **metadata)
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len(served.loader.loaded) == 1


async def test_a_proxy_is_not_taken_for_this_machine(serve: Serve, connected: Connected) -> None:
    async with connected(serve()) as (_, client):
        for metadata in ({"x_forwarded_for": "1.2.3.4"}, {"origin": "http://elsewhere.example"}):
            refused = await client.refused("RepositoryModelLoad", **metadata)
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED


# --- the drain ------------------------------------------------------------------------------------


async def test_in_the_drain_what_runs_ends_and_nothing_new_begins(
    serve: Serve, connected: Connected
) -> None:
    served = serve(drain_delay_s=0)
    served.detector.go.clear()
    async with connected(served) as (server, client):
        running = client.call("ModelInfer", infer_request(picture(1)))
        await asyncio.to_thread(served.detector.entered)
        served.runtime.draining = True
        stopped = asyncio.create_task(server.stop())

        async def refused() -> bool:
            try:
                await client.call("ServerLive")
            except grpc.aio.AioRpcError:
                return True
            return False

        async with asyncio.timeout(20):
            while not await refused():
                await asyncio.sleep(0.01)
        assert not stopped.done()
        served.detector.go.set()
        assert (await running).model_name == "shapes"
        await stopped


async def test_readiness_ends_with_the_drain_before_the_server_does(
    serve: Serve, connected: Connected
) -> None:
    served = serve(drain_delay_s=30)
    async with connected(served) as (_, client):
        served.runtime.draining = True
        assert not (await client.call("ServerReady")).ready
        assert (await client.call("ServerLive")).live


async def test_what_does_not_end_in_time_is_cancelled(serve: Serve, connected: Connected) -> None:
    served = serve(drain_delay_s=0, drain_timeout_s=0.05)
    served.detector.go.clear()
    async with connected(served) as (server, client):
        running = client.call("ModelInfer", infer_request(picture(1)))
        await asyncio.to_thread(served.detector.entered)
        served.runtime.draining = True
        await server.stop()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await running
        served.detector.go.set()
