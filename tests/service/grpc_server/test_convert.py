"""Messages of gRPC <-> requests and answers."""

from typing import Any

import numpy as np
import pytest

from service.errors import ApiError
from service.grpc_server.convert import read_change, read_parameters, read_request, write_answer
from service.grpc_server.messages import MESSAGES
from service.open_inference.messages import InferAnswer, InferRequest, OutputTensor
from service.schemas.open_inference import LoadParameters


def request(*raw: bytes, **fields: Any) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="m", **fields)
    for number in range(max(len(raw), 1)):
        message.inputs.add(name=f"in{number}", datatype="BYTES", shape=[1])
    message.raw_input_contents.extend(raw)
    return message


def refused(message: Any) -> str:
    with pytest.raises(ApiError) as refusal:
        read_request(message)
    return refusal.value.code


def test_raw_contents_belong_to_the_inputs_in_their_order() -> None:
    read = read_request(request(b"a", b"b"))
    assert [tensor.raw for tensor in read.inputs] == [b"a", b"b"]
    assert read.binary
    assert read.outputs is None


def test_contents_come_by_their_datatype_and_are_answered_so() -> None:
    message = request()
    message.inputs[0].contents.bytes_contents.extend([b"a", b"b"])
    message.inputs.add(name="p", datatype="UINT8", shape=[1]).contents.uint_contents.append(7)
    read = read_request(message)
    assert [tensor.values for tensor in read.inputs] == [[b"a", b"b"], [7]]
    assert not read.binary
    message.parameters["binary_data_output"].bool_param = True
    assert read_request(message).binary


def test_parameters_of_every_kind_are_plain_values() -> None:
    parameters = MESSAGES["ModelInferRequest"]().parameters
    parameters["a"].bool_param = False
    parameters["b"].int64_param = -1
    parameters["c"].string_param = "x"
    parameters["d"].double_param = 0.5
    parameters["e"].uint64_param = 2**63
    assert read_parameters(parameters) == {"a": False, "b": -1, "c": "x", "d": 0.5, "e": 2**63}


def test_raw_contents_that_do_not_go_with_the_inputs_are_refused() -> None:
    message = request(b"a")
    message.raw_input_contents.append(b"b")
    assert refused(message) == "malformed_request"


@pytest.mark.parametrize(
    "what", ["both", "datatype", "shared", "class", "none", "shape", "id", "flag"]
)
def test_what_is_no_request_of_the_protocol_is_refused(what: str) -> None:
    message = request(b"a")
    tensor = message.inputs[0]
    if what == "both":
        tensor.contents.bytes_contents.append(b"a")
    elif what == "datatype":
        message = request()
        message.inputs[0].datatype = "FP16"
    elif what == "shared":
        tensor.parameters["shared_memory_region"].string_param = "r"
    elif what == "class":
        message.outputs.add(name="o").parameters["classification"].int64_param = 3
    elif what == "none":
        message.parameters["k"].SetInParent()
    elif what == "shape":
        tensor.shape.append(-1)
    elif what == "id":
        message.id = "x" * 257
    else:
        message.parameters["binary_data_output"].string_param = "yes"
    assert refused(message) == "invalid_request"


def test_a_change_takes_no_other_parameters() -> None:
    message = MESSAGES["RepositoryModelLoadRequest"]()
    message.parameters["version"].string_param = "2"
    assert read_change(message.parameters, LoadParameters).version == "2"
    message.parameters["config"].string_param = "{}"
    with pytest.raises(ApiError) as refusal:
        read_change(message.parameters, LoadParameters)
    assert "config" in refusal.value.message


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_are_raw_or_in_the_contents_of_their_datatype(binary: bool) -> None:
    tensors = [
        OutputTensor.numbers("f", np.array([[0.5]], dtype=np.float32)),
        OutputTensor.numbers("i", np.array([7], dtype=np.int64)),
        OutputTensor.elements("b", [b"x"]),
    ]
    answer = InferAnswer("m", "1", "id", tensors)
    message = write_answer(answer, InferRequest("", {}, [], binary=binary))
    assert [(one.name, one.datatype, list(one.shape)) for one in message.outputs] == [
        ("f", "FP32", [1, 1]), ("i", "INT64", [1]), ("b", "BYTES", [1]),
    ]  # fmt: skip
    if binary:
        assert list(message.raw_output_contents) == [tensor.raw() for tensor in tensors]
        assert not any(one.HasField("contents") for one in message.outputs)
    else:
        assert not message.raw_output_contents
        assert list(message.outputs[0].contents.fp32_contents) == [0.5]
        assert list(message.outputs[1].contents.int64_contents) == [7]
        assert list(message.outputs[2].contents.bytes_contents) == [b"x"]
