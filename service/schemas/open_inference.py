"""What crosses the wire under ``/v2``, the REST form of the Open Inference Protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from service.schemas.options import VersionName

Parameters = Annotated[
    dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)
]
"""Some clients write null for none."""

MAX_ID = 256
MAX_TENSORS = 64


class _Message(BaseModel):
    # What an extension of the protocol adds is not ours to refuse.
    model_config = ConfigDict(extra="ignore", frozen=True)


class RequestInput(_Message):
    """An input tensor: with ``data``, or with ``binary_data_size`` among its parameters."""

    name: StrictStr = Field(examples=["IMAGE"])
    datatype: StrictStr = Field(examples=["BYTES"])
    shape: list[StrictInt] = Field(examples=[[1]])
    parameters: Parameters = Field(default_factory=dict)
    data: Any = Field(
        None, description="IMAGE: texts of base64. PIXELS: numbers from 0 to 255, nested or flat."
    )


class RequestOutput(_Message):
    """An output that is wanted; with ``binary_data`` among its parameters it comes as raw bytes."""

    name: StrictStr = Field(examples=["scores"])
    parameters: Parameters = Field(default_factory=dict)


class InferBody(_Message):
    """The JSON of an inference request."""

    id: StrictStr = Field("", max_length=MAX_ID, description="Comes back in the answer.")
    parameters: Parameters = Field(
        default_factory=dict, description="The options of POST /predict, and binary_data_output."
    )
    inputs: list[RequestInput] = Field(max_length=MAX_TENSORS)
    outputs: list[RequestOutput] | None = Field(
        None, max_length=MAX_TENSORS, description="Default: all that the model has."
    )


class IndexBody(_Message):
    """What to list; empty is everything."""

    ready: StrictBool = Field(False, description="Only versions that answer.")
    repository_name: StrictStr = Field("", description="There is one repository; it has no name.")


class LoadParameters(BaseModel):
    """How a version shall be taken up; see POST /reload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: VersionName | None = Field(None, max_length=64)
    dry_run: StrictBool = False
    strategy: Literal["side_by_side", "in_place"] = "side_by_side"
    allow_class_changes: StrictBool = False
    current: VersionName | None = Field(None, max_length=64)


class LoadBody(_Message):
    """Body of a load; may be empty."""

    parameters: LoadParameters = Field(default=LoadParameters.model_validate({}))


class UnloadParameters(BaseModel):
    """Which version is to go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: VersionName | None = Field(None, max_length=64)
    unload_dependents: StrictBool = Field(False, description="Models here have no dependents.")


class UnloadBody(_Message):
    """Body of an unload."""

    parameters: UnloadParameters = Field(default=UnloadParameters.model_validate({}))


class ProtocolError(BaseModel):
    """Every error under ``/v2``."""

    error: str


class LiveAnswer(BaseModel):
    """Whether the process works."""

    live: bool


class ReadyAnswer(BaseModel):
    """Whether predictions can be made; ``live`` is the word of the specification's text."""

    ready: bool
    live: bool


class ServerAnswer(BaseModel):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorAnswer(BaseModel):
    """A tensor that a model takes or gives; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataAnswer(BaseModel):
    """What a model takes and gives. Of its inputs a request has one."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]


class ModelReadyAnswer(BaseModel):
    """Whether a model, or a version of it, answers."""

    name: str
    ready: bool


class OutputAnswer(BaseModel):
    """An output: with ``data``, or with ``binary_data_size`` among its parameters."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResultAnswer(BaseModel):
    """An answer, or the head of one with raw bytes behind it."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputAnswer]


class IndexEntry(BaseModel):
    """A version of a model."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str


class LoadAnswer(BaseModel):
    """A version answers."""

    name: str
    load: Literal[True]
    version: str | None
    job: str = Field(description="See GET /reload/{job_id}.")


class UnloadAnswer(BaseModel):
    """A version was let go."""

    name: str
    unload: Literal[True]
    version: str
