"""The answers, for OpenAPI and for the tests that hold every answer against them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.repository.version import VersionState

Box = Annotated[
    list[float], Field(min_length=4, max_length=5, examples=[[92.9, 117.6, 136.7, 158.5]])
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


Point = tuple[float, float]


class PolygonAnswer(Answer):
    """One part of a mask in pixels: the pixel in column x and row y covers x to x + 1 and y to y + 1, and
    belongs to the mask if its centre lies inside of the exterior and of no hole."""

    exterior: list[Point] = Field(description="x, y; the last point joins the first.")
    holes: list[list[Point]]


class MaskPngAnswer(Answer):
    """A mask as a picture of the smallest crop that holds it; an empty one is one black pixel."""

    offset: tuple[int, int] = Field(description="x, y of the crop's corner.")
    png: str = Field(description="Base64 of a grey PNG of one bit a pixel, white is the mask.")


class MaskBitmapAnswer(Answer):
    """A mask as the bits of the smallest crop that holds it; an empty one has the size [0, 0]."""

    offset: tuple[int, int] = Field(description="x, y of the crop's corner.")
    size: tuple[int, int] = Field(description="height, width of the crop.")
    bits: str = Field(
        description="Base64 of its rows, a bit a pixel, the leftmost pixel in the highest bit, each row "
        "filled up to whole bytes."
    )


BoxMode = Literal["XYXY_ABS", "XYWH_ABS", "XYXY_REL", "XYWHA_ABS"]


class InstancesAnswer(Answer):
    """R instances, best first; all lists have length R."""

    box_mode: BoxMode = Field(
        description="Corners in pixels; left, top, width and height; corners in shares of the picture; "
        "or centre, sides and angle in degrees (counter-clockwise)."
    )
    pred_boxes: list[Box] = Field(
        description="Of the image as a viewer shows it, as box_mode says; pixels unless boxes=normalized."
    )
    pred_classes: list[int] = Field(description="Class ids.")
    class_names: list[str]
    scores: list[float]
    polygons: list[list[tuple[float, float]]] | None = Field(
        None, description="Corners of rotated boxes."
    )
    pred_keypoints: list[list[tuple[float, float, float]]] | None = Field(
        None, description="Per instance x, y and score of each keypoint."
    )
    masks: (
        list[Rle] | list[list[PolygonAnswer]] | list[MaskPngAnswer] | list[MaskBitmapAnswer] | None
    ) = Field(
        None,
        description="In the form that the option masks says; of polygons a list for each instance, empty "
        "for an empty mask. Absent with masks=none or without a mask head.",
    )


class ProposalsAnswer(Answer):
    """P class-agnostic proposals, best first."""

    box_mode: BoxMode
    proposal_boxes: list[Box]
    objectness_logits: list[float]


class Segment(Answer):
    """One class of a semantic map, or one segment of a panoptic one."""

    category_id: int
    category_name: str
    area: int = Field(description="Pixels.")
    segmentation: Rle | None = Field(None, description="With segmentation=rle.")


class PanopticSegment(Segment):
    """A thing or a region of stuff."""

    id: int = Field(description="Its value in the picture.")
    isthing: bool
    score: float | None = None
    instance_id: int | None = Field(None, description="Of a thing: its place among all instances.")


class SemSegAnswer(Answer):
    """A class for every pixel."""

    format: Literal["png", "rle"]
    segments: list[Segment] = Field(description="The classes that occur.")
    png: str | None = Field(None, description="Base64 of a grey PNG of class ids.")


class PanopticSegAnswer(Answer):
    """A segment for every pixel, 0 is none; not filtered by the request's options."""

    format: Literal["png", "rle"]
    segments_info: list[PanopticSegment]
    png: str | None = Field(None, description="Base64 of a grey PNG of segment ids.")


class ImageInfo(Answer):
    """The image that was sent."""

    name: str = Field(description="File name as sent, else image, image-2, ...")
    width: int | None = Field(None, description="Pixels, EXIF orientation applied.")
    height: int | None = None


class Prediction(Answer):
    """One image: what the model gives, or ``error`` if this image could not be used."""

    image: ImageInfo
    instances: InstancesAnswer | None = None
    proposals: ProposalsAnswer | None = None
    sem_seg: SemSegAnswer | None = None
    panoptic_seg: PanopticSegAnswer | None = None
    batch_size: int | None = Field(
        None, description="Images that ran together with this one, itself included."
    )
    tiles: int | None = Field(
        None, description="With tiles: how many it was cut into; they ran as images of their own."
    )
    error: ErrorDetail | None = None


class ModelRef(Answer):
    """The version that answered; one for all images of a request."""

    name: str
    version: str
    architecture: str
    weights_sha256: str
    keypoint_names: list[str] | None = None
    keypoint_skeleton: list[tuple[int, int]] | None = Field(
        None, description="Pairs of keypoints to join by a line."
    )


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


class TtaInfo(Answer):
    """Views of test-time augmentation."""

    sizes: list[int]
    max_size: int
    flip: bool


class Thresholds(Answer):
    """The model's own, and what holds for a request that names none."""

    score: float
    nms: float
    max_detections: int = Field(description="Negative is without a bound.")
    default_score: float = Field(
        description="The score threshold of model.yaml, else the model's own."
    )
    default_max_detections: int = Field(description="Likewise.")
    largest_max_detections: int = Field(
        description="What a request may ask for; negative is without a bound."
    )


class WeightsInfo(Answer):
    """The checkpoint."""

    file: str
    sha256: str


class DeviationInfo(Answer):
    """Worst differences of the mode from ``reference``, measured on probe pictures at load."""

    instances: int = Field(description="That the reference found.")
    matched: float = Field(description="Share with a counterpart of their class, IoU at least 0.9.")
    exact: float = Field(description="Share within 1e-4 in score and 0.01 pixels in the box.")
    score: float = Field(description="Largest difference of a score, among the matched.")
    box_px: float = Field(description="Largest difference of a box coordinate, in pixels.")
    pixels: float = Field(description="Share of pixels of a semantic map of another class.")


class ExecutionInfo(Answer):
    """How the model runs, and how far that changes its answers."""

    mode: Literal["reference", "exact", "fast"]
    requested: Literal["reference", "exact", "fast"]
    reason: str = Field(description="Why it is another mode than requested.")
    device: str
    dtype: str
    memory_format: str
    folded_norms: int
    winograd: int = Field(description="Convolutions that take fewer products.")
    resize: Literal["pil", "fast"]
    cuda_graphs: int = Field(description="Parts, each for one shape, recorded at warm-up.")
    deviation: DeviationInfo | None


class VersionSummary(Answer):
    """A version, in short."""

    version: str
    state: VersionState
    reason: str | None = Field(description="Why it failed, or is incomplete.")
    current: bool
    aliases: list[str]


class VersionAnswer(VersionSummary):
    """One version."""

    model: str
    sha256: str | None = Field(description="Of its weights.")
    manifest: str | None = Field(description="Identifies all of its files, in a repository.")
    size_bytes: int | None = Field(description="Of its files, in a repository.")
    memory_bytes: int | None = Field(description="Of its weights where it runs; null: not loaded.")
    loaded_at: str | None = Field(description="RFC 3339, UTC.")
    requests_in_progress: int | None
    statistics: dict[str, Any] | None = Field(
        description="Requests and images served; latency by batch size. null: not loaded."
    )


class ModelAnswer(Answer):
    """One model and its current version."""

    name: str
    version: str
    state: Literal["ready", "reloading", "unavailable"] = Field(
        description="unavailable: a swap in place has failed, and so has the way back."
    )
    versions: list[VersionSummary] = Field(description="Those on disk, and those that are loaded.")
    aliases: dict[str, str] = Field(description="Other names of versions.")
    previous: str | None = Field(description="What a rollback goes back to.")
    recorded: str | None = Field(
        description="What the record on disk has as current: not `version` after a start that had to "
        "fall back, or when another process has changed it."
    )
    description: str = Field(description="What the model's owner says of it, in model.yaml.")
    task: str
    architecture: str
    backbone: str
    classes: list[ClassInfo]
    class_names_source: str = Field(
        description="File of the names, or 'placeholder' if there is none."
    )
    stuff_classes: list[ClassInfo] = Field(description="Of a semantic head.")
    keypoint_names: list[str]
    keypoint_skeleton: list[tuple[int, int]]
    outputs: list[str] = Field(
        description="Out of instances, masks, keypoints, sem_seg, panoptic_seg, proposals."
    )
    box_mode: Literal["XYXY_ABS", "XYWHA_ABS"]
    takes_proposals: bool = Field(description="Whether proposals must come with each image.")
    takes_overrides: bool = Field(
        description="Whether a request may set nms_threshold, and max_detections above the model's own."
    )
    tta: TtaInfo | None = Field(description="What tta=full does; null is without.")
    input: InputInfo
    thresholds: Thresholds
    device: str
    precision: str = Field(description="Number format of backbone and heads.")
    execution: ExecutionInfo | None = Field(description="null if the detector does not say.")
    config: str
    weights: WeightsInfo
    loaded_at: str = Field(description="RFC 3339, UTC.")
    load_report: dict[str, Any]


class ModelsAnswer(Answer):
    """All models; ``default`` answers requests that name none."""

    default: str
    models: list[ModelAnswer]


class HealthAnswer(Answer):
    """A probe."""

    status: str = Field(examples=["ok"])
    reason: str | None = None
