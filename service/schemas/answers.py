"""The answers, for OpenAPI and for the tests that hold every answer against them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Box = Annotated[
    list[float], Field(min_length=4, max_length=4, examples=[[92.9, 117.6, 136.7, 158.5]])
]


class Answer(BaseModel):
    """Base: an answer has exactly the keys that are documented."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Answer):
    """What went wrong."""

    code: str = Field(description="Stable, for programs.", examples=["unknown_class"])
    message: str = Field(description="For people: what was wrong and what to do.")
    request_id: str | None = Field(None, description="The id under which the server's log has it.")
    details: dict[str, Any] | None = Field(None, description="Facts as data.")


class ErrorAnswer(Answer):
    """Any error."""

    error: ErrorDetail


class Rle(Answer):
    """A mask in COCO's compressed run-length encoding, as pycocotools reads it."""

    size: Annotated[list[int], Field(min_length=2, max_length=2, description="[height, width]")]
    counts: str


class InstancesAnswer(Answer):
    """R instances, best first; all lists have length R."""

    pred_boxes: list[Box] = Field(description="XYXY in pixels of the image as a viewer shows it.")
    pred_classes: list[int] = Field(description="Class ids.")
    class_names: list[str]
    scores: list[float]
    masks: list[Rle] | None = Field(
        None, description="Absent with masks=none or without a mask head."
    )


class ImageInfo(Answer):
    """The image that was sent."""

    name: str = Field(description="File name as sent, else image, image-2, ...")
    width: int | None = Field(None, description="Pixels, EXIF orientation applied.")
    height: int | None = None


class Prediction(Answer):
    """One image: ``instances``, or ``error`` if this image could not be used."""

    image: ImageInfo
    instances: InstancesAnswer | None = None
    batch_size: int | None = Field(
        None, description="Images that ran together with this one, itself included."
    )
    error: ErrorDetail | None = None


class ModelRef(Answer):
    """The version that answered; one for all images of a request."""

    name: str
    version: str
    architecture: str
    weights_sha256: str


class Timing(Answer):
    """Milliseconds; of several images the longest of each stage, ``total`` is the whole request."""

    decode: float
    queue: float
    inference: float
    encode: float
    total: float


class PredictAnswer(Answer):
    """Answer of ``POST /predict``."""

    model: ModelRef
    request_id: str
    predictions: list[Prediction]
    timing_ms: Timing


class ClassInfo(Answer):
    """One class."""

    id: int
    name: str
    color: str = Field(examples=["#e6194b"])


class InputInfo(Answer):
    """What the model takes; the server resizes."""

    format: str = Field(description="Channel order that it was trained on; clients send any image.")
    min_size: int = Field(description="Shorter side after the resize.")
    max_size: int = Field(description="Longer side at most.")


class Thresholds(Answer):
    """The model's own."""

    score: float
    nms: float
    max_detections: int


class WeightsInfo(Answer):
    """The checkpoint."""

    file: str
    sha256: str


class ModelAnswer(Answer):
    """One model and its current version."""

    name: str
    version: str
    state: Literal["ready", "reloading"]
    task: str
    architecture: str
    backbone: str
    classes: list[ClassInfo]
    class_names_source: str = Field(
        description="File of the names, or 'placeholder' if there is none."
    )
    input: InputInfo
    thresholds: Thresholds
    device: str
    precision: str
    config: str
    weights: WeightsInfo
    loaded_at: str = Field(description="RFC 3339, UTC.")
    load_report: dict[str, Any]


class ModelsAnswer(Answer):
    """All models; ``default`` answers requests that name none."""

    default: str
    models: list[ModelAnswer]


class ReloadRequest(BaseModel):
    """Body of ``POST /reload``; empty reloads the first model from the files that it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, max_length=64, description="Name; default: the first model.")
    weights: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Checkpoint under the model root.",
        examples=["v2/model_final.pth"],
    )
    config: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Config under the model root; default: the current one.",
    )
    labels: str | None = Field(
        None, min_length=1, max_length=4096, description="Class names under the model root."
    )
    wait: bool = Field(
        True, description="Answer when it is done (200, or 422), or at once with 202."
    )


class ReloadAnswer(Answer):
    """A reload."""

    id: str
    model: str
    state: Literal["running", "succeeded", "failed"]
    phase: str = Field(description="load, validate, drain, done")
    phases_s: dict[str, float] = Field(description="Seconds that each phase took.")
    previous_version: str
    version: str | None = Field(None, description="The new version, once it answers.")
    load_report: dict[str, Any] | None = None
    freed_bytes: int | None = Field(None, description="Memory of the previous version.")
    warning: str | None = None
    error: ErrorDetail | None = None
    created_at: float = Field(description="Unix time.")


class HealthAnswer(Answer):
    """A probe."""

    status: str = Field(examples=["ok"])
    reason: str | None = None
