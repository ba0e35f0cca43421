"""The messages have the numbers and kinds of the public specification, so their bytes are its bytes."""

from google.protobuf import descriptor_pool

from service.grpc_server.messages import MESSAGES


def test_a_request_has_the_bytes_that_the_specification_means() -> None:
    message = MESSAGES["ModelInferRequest"](model_name="m", model_version="1", id="i")
    message.parameters["k"].int64_param = 5
    message.inputs.add(name="a", datatype="BYTES", shape=[1, 2])
    message.outputs.add(name="b")
    message.raw_input_contents.append(b"xy")
    assert message.SerializeToString(deterministic=True) == (
        b"\x0a\x01m\x12\x011\x1a\x01i"
        b"\x22\x07\x0a\x01k\x12\x02\x10\x05"
        b"\x2a\x0e\x0a\x01a\x12\x05BYTES\x1a\x02\x01\x02"
        b"\x32\x03\x0a\x01b"
        b"\x3a\x02xy"
    )


def test_an_answer_has_the_bytes_that_the_specification_means() -> None:
    message = MESSAGES["ModelInferResponse"](model_name="m", model_version="1", id="i")
    output = message.outputs.add(name="a", datatype="FP32", shape=[1])
    output.contents.fp32_contents.append(1.0)
    message.raw_output_contents.append(b"xy")
    assert message.SerializeToString() == (
        b"\x0a\x01m\x12\x011\x1a\x01i"
        b"\x2a\x14\x0a\x01a\x12\x04FP32\x1a\x01\x01\x2a\x06\x32\x04\x00\x00\x80\x3f"
        b"\x32\x02xy"
    )


def test_a_parameter_is_one_of_its_kinds() -> None:
    parameter = MESSAGES["InferParameter"](bool_param=True)
    parameter.string_param = "a"
    assert parameter.WhichOneof("parameter_choice") == "string_param"


def test_the_names_are_left_to_a_client_in_the_same_process() -> None:
    pool = descriptor_pool.Default()
    for name in MESSAGES:
        try:
            found = pool.FindMessageTypeByName(f"inference.{name}")
        except KeyError:
            continue
        assert found is not MESSAGES[name].DESCRIPTOR
