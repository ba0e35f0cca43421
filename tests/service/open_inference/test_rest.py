"""Requests and answers as JSON, and as JSON with raw bytes behind it."""

from typing import Any

import numpy as np
import orjson
import pytest

from service.errors import ApiError
from service.open_inference.messages import InferAnswer, InferRequest, OutputTensor
from service.open_inference.rest import encode_answer, parse_infer_request
from service.uploads import UploadLimits

LIMITS = UploadLimits()


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": ["b25l"]} | changes


def raw_tensor(size: Any, **changes: Any) -> dict[str, Any]:
    return tensor(parameters={"binary_data_size": size}, **changes) | {"data": None}


def parse(message: Any, raw: bytes = b"", head: str | None = None) -> InferRequest:
    body = orjson.dumps(message)
    if raw and head is None:
        head = str(len(body))
    return parse_infer_request(body + raw, head, LIMITS)


def code_of(message: Any, raw: bytes = b"", head: str | None = None) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        parse(message, raw, head)
    return refused.value.status, refused.value.code


def test_a_json_request_is_read() -> None:
    request = parse(
        {
            "id": "a",
            "parameters": {"score_threshold": 0.5},
            "inputs": [tensor()],
            "outputs": [{"name": "scores"}],
        }
    )
    assert (request.id, request.parameters) == ("a", {"score_threshold": 0.5})
    assert (request.inputs[0].shape, request.inputs[0].values) == ((1,), ["b25l"])
    assert [output.name for output in request.outputs or ()] == ["scores"]
    assert not request.is_binary("scores")


def test_raw_bytes_are_dealt_out_in_the_order_of_the_inputs() -> None:
    request = parse({"inputs": [raw_tensor(2), tensor(), raw_tensor(3)]}, b"aabbb")
    assert [None if one.raw is None else bytes(one.raw) for one in request.inputs] == [
        b"aa",
        None,
        b"bbb",
    ]


def test_each_output_may_say_how_it_comes() -> None:
    request = parse(
        {
            "parameters": {"binary_data_output": True},
            "inputs": [tensor()],
            "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
        }
    )
    assert [request.is_binary(name) for name in "ab"] == [True, False]


def test_null_and_an_empty_list_of_outputs_mean_all() -> None:
    for outputs in (None, []):
        message = {"inputs": [tensor(parameters=None)], "outputs": outputs, "parameters": None}
        assert parse(message).outputs is None


@pytest.mark.parametrize("head", ["", "x", "-1", "1.5", "9" * 30, "1000", "²"])
def test_a_head_length_that_is_none_is_refused(head: str) -> None:
    assert code_of({"inputs": [tensor()]}, head=head) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("inputs", "raw"),
    [
        ([raw_tensor(3)], b"aa"),
        ([raw_tensor(1)], b"aa"),
        ([tensor()], b"a"),
        ([raw_tensor(1)], b""),
    ],
)
def test_raw_bytes_that_do_not_fit_the_head_are_refused(inputs: list[Any], raw: bytes) -> None:
    assert code_of({"inputs": inputs}, raw) == (400, "malformed_request")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"inputs": {}},
        {"inputs": [{"name": "IMAGE"}]},
        {"inputs": [tensor(shape=["1"])]},
        {"inputs": [tensor(shape=[-1])]},
        {"inputs": [tensor(shape=[2**31])]},
        {"inputs": [tensor(shape=[1] * 9)]},
        {"inputs": [tensor(shape=[True])]},
        {"inputs": [tensor(data=None)]},
        {"inputs": [raw_tensor(-1)]},
        {"inputs": [raw_tensor(True)]},
        {"inputs": [raw_tensor("1")]},
        {"inputs": [tensor(parameters={"binary_data_size": 0})]},
        {"inputs": [tensor(parameters={"shared_memory_region": "a"})]},
        {"inputs": [tensor()] * 65},
        {"inputs": [tensor()], "outputs": [{"name": "a", "parameters": {"binary_data": 1}}]},
        {"inputs": [tensor()], "outputs": [{"name": "a", "parameters": {"classification": 3}}]},
        {"inputs": [tensor()], "outputs": [{"name": "a", "parameters": {"shared_memory_size": 3}}]},
        {"inputs": [tensor()], "parameters": {"binary_data_output": "yes"}},
        {"inputs": [tensor()], "parameters": [1]},
        {"inputs": [tensor()], "id": 7},
        {"inputs": [tensor()], "id": "x" * 257},
    ],
)
def test_what_is_no_request_of_the_protocol_is_refused(message: Any) -> None:
    assert code_of(message) == (422, "invalid_request")


def test_json_that_is_none_or_no_object_is_refused() -> None:
    for body in (b"{", b"[]", b"\xff"):
        with pytest.raises(ApiError) as refused:
            parse_infer_request(body, None, LIMITS)
        assert refused.value.code == "malformed_json"


def test_an_answer_is_json_with_flat_data() -> None:
    answer = InferAnswer(
        "m", "1", "id", [boxes(), OutputTensor.elements("names", [b"a", b"\xc3\xa9"])]
    )
    encoded = encode_answer(answer, InferRequest("", {}, []))
    assert encoded.head_length is None
    assert orjson.loads(encoded.body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "id",
        "outputs": [
            {"name": "boxes", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2.0]},
            {"name": "names", "datatype": "BYTES", "shape": [2], "data": ["a", "é"]},
        ],
    }


def test_a_binary_answer_has_the_bytes_behind_the_head() -> None:
    answer = InferAnswer("m", "1", "", [boxes(), OutputTensor.elements("names", [b"a"])])
    encoded = encode_answer(answer, InferRequest("", {}, [], binary=True))
    assert encoded.head_length is not None
    head = orjson.loads(encoded.body[: encoded.head_length])
    assert [output["parameters"] for output in head["outputs"]] == [
        {"binary_data_size": 8},
        {"binary_data_size": 5},
    ]
    assert not any("data" in output for output in head["outputs"])
    raw = encoded.body[encoded.head_length :]
    assert np.frombuffer(raw[:8], dtype="<f4").tolist() == [0.5, 2.0]
    assert raw[8:] == b"\x01\0\0\0a"


def boxes() -> OutputTensor:
    return OutputTensor.numbers("boxes", np.array([[0.5, 2.0]], dtype=np.float32))
