"""Messages of gRPC <-> requests and answers as the protocol means them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import BadRequest
from service.grpc_server.messages import MESSAGES
from service.open_inference.messages import (
    BYTES,
    FLOAT32,
    INT64,
    InferAnswer,
    InferRequest,
    InputTensor,
    RequestedOutput,
    check_shape,
    invalid_request,
)
from service.schemas.open_inference import MAX_ID, MAX_TENSORS

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    INT64: "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    FLOAT32: "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
P = TypeVar("P", bound=BaseModel)


def read_request(message: Any) -> InferRequest:
    """A ``ModelInferRequest``.

    Raises:
        BadRequest: ``malformed_request``: raw contents that do not go with the inputs.
        Unprocessable: ``invalid_request``.
    """
    if len(message.id) > MAX_ID:
        raise invalid_request(f"The id has up to {MAX_ID} characters.")
    if max(len(message.inputs), len(message.outputs)) > MAX_TENSORS:
        raise invalid_request(f"A request has up to {MAX_TENSORS} inputs, and as many outputs.")
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise BadRequest(
            "malformed_request",
            f"The request has {len(message.inputs)} inputs and {len(raws)} raw_input_contents.",
        )
    parameters = read_parameters(message.parameters)
    binary = parameters.get("binary_data_output", bool(raws))
    if not isinstance(binary, bool):
        raise invalid_request("The parameter binary_data_output is true or false.")
    return InferRequest(
        id=message.id,
        parameters=parameters,
        inputs=[
            _input(tensor, raws[index] if raws else None)
            for index, tensor in enumerate(message.inputs)
        ],
        outputs=[_output(output) for output in message.outputs] or None,
        binary=binary,
    )


def _input(tensor: Any, raw: bytes | None) -> InputTensor:
    name, datatype = tensor.name, tensor.datatype
    shape = check_shape(name, tensor.shape)
    if "shared_memory_region" in tensor.parameters:
        raise invalid_request("Shared memory is not supported: send the data in the message.")
    if raw is not None:
        if tensor.HasField("contents"):
            raise invalid_request(f"The input {name[:64]} has contents beside raw_input_contents.")
        return InputTensor(name, datatype, shape, raw=raw)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise invalid_request(f"The input {name[:64]} is {datatype[:16]}, which comes raw only.")
    return InputTensor(name, datatype, shape, values=list(getattr(tensor.contents, field)))


def _output(output: Any) -> RequestedOutput:
    for name in output.parameters:
        if name == "classification" or name.startswith("shared_memory"):
            raise invalid_request(f"The parameter {name[:64]} of outputs is not supported.")
    return RequestedOutput(output.name)


def read_parameters(parameters: Any) -> dict[str, Any]:
    """A map of parameters as plain values."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise invalid_request(f"The parameter {name[:64]} has no value.")
        found[name] = getattr(parameter, choice)
    return found


def read_change(parameters: Any, schema: type[P]) -> P:
    """The parameters of a load or an unload.

    Raises:
        Unprocessable: ``invalid_request``.
    """
    try:
        return schema.model_validate(read_parameters(parameters))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"][:8])
        raise invalid_request(f"The parameter {where}: {first['msg']}.", field=where) from None


def write_answer(answer: InferAnswer, request: InferRequest) -> Any:
    """A ``ModelInferResponse``: raw contents for all outputs, or for none."""
    message = MESSAGES["ModelInferResponse"](
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    for tensor in answer.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if request.binary:
            message.raw_output_contents.append(tensor.raw())
        else:
            content = tensor.content
            flat = content if isinstance(content, list) else content.reshape(-1).tolist()
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(flat)
    return message
