"""The REST form of requests and answers: JSON, or a JSON head with raw bytes behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from service.errors import BadRequest
from service.open_inference.messages import (
    InferAnswer,
    InferRequest,
    InputTensor,
    OutputTensor,
    RequestedOutput,
    check_shape,
    invalid_request,
)
from service.schemas.open_inference import InferBody, RequestInput, RequestOutput
from service.uploads import UploadLimits, parse_json

HEAD_LENGTH = "inference-header-content-length"
_NO_SHARED_MEMORY = (
    "Shared memory is not supported: send the data in the body, as JSON or as raw bytes."
)
B = TypeVar("B", bound=BaseModel)


def parse_message(body: bytes, schema: type[B], limits: UploadLimits) -> B:
    """A JSON body; none at all is an empty one.

    Raises:
        BadRequest, TooLarge: it is no JSON object, or has too many values.
        Unprocessable: ``invalid_request``.
    """
    try:
        return schema.model_validate(parse_json(body, limits) if body.strip() else {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"][:8]) or "body"
        reason = first["msg"].removeprefix("Value error, ")
        raise invalid_request(f"{where}: {reason}.", field=where) from None


def parse_infer_request(body: bytes, head_length: str | None, limits: UploadLimits) -> InferRequest:
    """An inference request.

    Args:
        body: of the HTTP request.
        head_length: the header ``Inference-Header-Content-Length``; None if it is all JSON.
        limits: on the JSON.

    Raises:
        BadRequest: ``malformed_json``, ``malformed_request``: the raw bytes are not those that the head
            tells of.
        Unprocessable: ``invalid_request``.
        TooLarge: ``json_too_complex``.
    """
    length = len(body)
    if head_length is not None:
        if not (head_length.isascii() and head_length.isdigit() and len(head_length) < 16):
            raise _malformed("Inference-Header-Content-Length is the number of bytes of the JSON.")
        length = int(head_length)
        if length > len(body):
            raise _malformed(f"The JSON should have {length} bytes; the body has {len(body)}.")
    message = parse_message(body[:length] if length < len(body) else body, InferBody, limits)
    raw = memoryview(body)[length:]
    inputs: list[InputTensor] = []
    position = 0
    for given in message.inputs:
        tensor = _input(given, raw, position)
        position += tensor.size or 0
        inputs.append(tensor)
    if position != len(raw):
        raise _malformed(
            f"Behind the JSON are {len(raw)} bytes; the inputs tell of {position} (binary_data_size)."
        )
    outputs = message.outputs
    return InferRequest(
        id=message.id,
        parameters=message.parameters,
        inputs=inputs,
        outputs=None if not outputs else [_output(output) for output in outputs],
        binary=_flag(message.parameters, "binary_data_output") or False,
    )


def _input(given: RequestInput, raw: memoryview, position: int) -> InputTensor:
    name, shape = given.name, check_shape(given.name, given.shape)
    if any(key.startswith("shared_memory") for key in given.parameters):
        raise invalid_request(_NO_SHARED_MEMORY)
    size = given.parameters.get("binary_data_size")
    if size is None:
        if given.data is None:
            raise invalid_request(f"The input {name[:64]} has neither data nor binary_data_size.")
        return InputTensor(name, given.datatype, shape, values=given.data)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise invalid_request(f"binary_data_size of {name[:64]} is a number of bytes.")
    if given.data is not None:
        raise invalid_request(f"The input {name[:64]} has both data and binary_data_size.")
    if position + size > len(raw):
        raise _malformed(
            f"Behind the JSON are {len(raw)} bytes; the inputs up to {name[:64]} tell of "
            f"{position + size} (binary_data_size)."
        )
    return InputTensor(name, given.datatype, shape, raw=raw[position : position + size], size=size)


def _output(given: RequestOutput) -> RequestedOutput:
    if given.parameters.get("classification"):
        raise invalid_request("The classification of outputs is not supported.")
    if any(key.startswith("shared_memory") for key in given.parameters):
        raise invalid_request(_NO_SHARED_MEMORY)
    return RequestedOutput(given.name, _flag(given.parameters, "binary_data"))


def _flag(parameters: dict[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid_request(f"The parameter {name} is true or false.")
    return value


def _malformed(message: str) -> BadRequest:
    return BadRequest("malformed_request", message)


@dataclass(frozen=True)
class Encoded:
    """The body of an answer; ``head_length`` is that of its JSON, None if it is all JSON."""

    body: bytes
    head_length: int | None


def encode_answer(answer: InferAnswer, request: InferRequest) -> Encoded:
    """An answer, each output as the request wants it."""
    raws: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for tensor in answer.outputs:
        if request.is_binary(tensor.name):
            raws.append(tensor.raw())
            outputs.append(_head(tensor) | {"parameters": {"binary_data_size": len(raws[-1])}})
        else:
            outputs.append(_head(tensor) | {"data": tensor.plain()})
    head = orjson.dumps(
        {
            "model_name": answer.model,
            "model_version": answer.version,
            "id": answer.id,
            "outputs": outputs,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    return Encoded(b"".join([head, *raws]), len(head)) if raws else Encoded(head, None)


def _head(tensor: OutputTensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
