"""The messages of ``inference.GRPCInferenceService``, made at run time: nothing has to be generated.

Names and numbers are the facts of the public specification (open_inference_grpc.proto of
kserve/open-inference-protocol) and of Triton's model repository extension. They live in a pool of
descriptors of their own: a client in the same process brings the same names.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# Fields as "number type"; "*" is repeated, "map" is from string to the type.
_TENSOR_CONTENTS = {
    "bool_contents": "1 *bool",
    "int_contents": "2 *int32",
    "int64_contents": "3 *int64",
    "uint_contents": "4 *uint32",
    "uint64_contents": "5 *uint64",
    "fp32_contents": "6 *float",
    "fp64_contents": "7 *double",
    "bytes_contents": "8 *bytes",
}
_TENSOR = {
    "name": "1 string",
    "datatype": "2 string",
    "shape": "3 *int64",
    "parameters": "4 map InferParameter",
    "contents": "5 InferTensorContents",
}
_NAMED_VERSION = {"name": "1 string", "version": "2 string"}
_REPOSITORY_CHANGE = {
    "repository_name": "1 string",
    "model_name": "2 string",
    "parameters": "3 map ModelRepositoryParameter",
}
_MESSAGES: dict[str, dict[str, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": "1 bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": "1 bool"},
    "ModelReadyRequest": _NAMED_VERSION,
    "ModelReadyResponse": {"ready": "1 bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": "1 string",
        "version": "2 string",
        "extensions": "3 *string",
    },
    "ModelMetadataRequest": _NAMED_VERSION,
    "ModelMetadataResponse": {
        "name": "1 string",
        "versions": "2 *string",
        "platform": "3 string",
        "inputs": "4 *ModelMetadataResponse.TensorMetadata",
        "outputs": "5 *ModelMetadataResponse.TensorMetadata",
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": "1 string",
        "datatype": "2 string",
        "shape": "3 *int64",
    },
    "InferParameter": {
        "bool_param": "1 bool",
        "int64_param": "2 int64",
        "string_param": "3 string",
        "double_param": "4 double",
        "uint64_param": "5 uint64",
    },
    "InferTensorContents": _TENSOR_CONTENTS,
    "ModelInferRequest": {
        "model_name": "1 string",
        "model_version": "2 string",
        "id": "3 string",
        "parameters": "4 map InferParameter",
        "inputs": "5 *ModelInferRequest.InferInputTensor",
        "outputs": "6 *ModelInferRequest.InferRequestedOutputTensor",
        "raw_input_contents": "7 *bytes",
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": "1 string",
        "parameters": "2 map InferParameter",
    },
    "ModelInferResponse": {
        "model_name": "1 string",
        "model_version": "2 string",
        "id": "3 string",
        "parameters": "4 map InferParameter",
        "outputs": "5 *ModelInferResponse.InferOutputTensor",
        "raw_output_contents": "6 *bytes",
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelRepositoryParameter": {
        "bool_param": "1 bool",
        "int64_param": "2 int64",
        "string_param": "3 string",
        "bytes_param": "4 bytes",
    },
    "RepositoryIndexRequest": {"repository_name": "1 string", "ready": "2 bool"},
    "RepositoryIndexResponse": {"models": "1 *RepositoryIndexResponse.ModelIndex"},
    "RepositoryIndexResponse.ModelIndex": {
        "name": "1 string",
        "version": "2 string",
        "state": "3 string",
        "reason": "4 string",
    },
    "RepositoryModelLoadRequest": _REPOSITORY_CHANGE,
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": _REPOSITORY_CHANGE,
    "RepositoryModelUnloadResponse": {},
}
_CHOICES = {"InferParameter", "ModelRepositoryParameter"}
"""Messages of which one field alone is set."""

METHODS = {
    name: (f"{name}Request", f"{name}Response")
    for name in (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelInfer",
        "RepositoryIndex",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    )
}
"""Method -> its messages."""

_Field = descriptor_pb2.FieldDescriptorProto


def _define(file: Any) -> None:
    """Add all messages to a FileDescriptorProto."""
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[name] = (
            made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        )
        if name in _CHOICES:
            message.oneof_decl.add(name="parameter_choice")
        for field_name, told in fields.items():
            number, kind = told.split(" ", 1)
            field = _add_field(message, field_name, int(number), kind, within=name)
            if name in _CHOICES:
                field.oneof_index = 0


def _add_field(message: Any, name: str, number: int, kind: str, *, within: str) -> Any:
    if kind.startswith("map "):
        entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string", within=within)
        _add_field(entry, "value", 2, kind.removeprefix("map "), within=within)
        kind = f"*{within}.{entry_name}"
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind.islower() or kind[-1].isdigit():
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    return field


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="detserve/open_inference.proto", package=PACKAGE, syntax="proto3"
    )
    _define(file)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }


MESSAGES: dict[str, Any] = _message_classes()
"""Message classes by name, such as ``MESSAGES["ModelInferRequest"]``."""
