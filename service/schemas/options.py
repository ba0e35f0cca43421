"""The options of a prediction, the same as query parameters, form fields or JSON keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
)

from service.errors import Unprocessable
from service.inference.detector import Views
from service.schemas.threshold_options import ClassThresholds, Threshold
from service.schemas.window_options import RegionText, TilesText

MAX_CLASSES = 10_000
MIN_TTA_SIZE, MAX_TTA_SIZE = 32, 10_000
MAX_PROPOSALS = 10_000


def _as_list(value: Any) -> Any:
    """One name or id, or several; how a string with commas is split is the model's to say."""
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _as_json(value: Any) -> Any:
    """A list, or its JSON text where options are text."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ValueError("it is not a JSON list of lists of boxes") from None


def _checked_box(box: list[float]) -> list[float]:
    if not (all(math.isfinite(v) for v in box) and box[0] < box[2] and box[1] < box[3]):
        raise ValueError("a box is [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    return box


def _tta_text(value: Any) -> str:
    """``none``, ``flip``, ``full``, or at most 16 sizes with commas between them."""
    text = str(value).replace(" ", "").lower().strip(",")
    sizes = text.split(",")
    if text not in {"none", "flip", "full"} and not (
        len(sizes) <= 16
        and all(size.isascii() and size.isdigit() and len(size) < 6 for size in sizes)
    ):
        raise ValueError("it is none, flip, full, or up to 16 short sides such as 400,600,800")
    return text


def _as_names(value: Any) -> Any:
    """A list, or its names with commas between them; ``none`` is none of them."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",")]
    return [] if names in (["none"], [""]) else names


Extra = Literal["keypoints", "sem_seg", "panoptic", "proposals"]
FormatName = Literal["json", "ndjson", "coco", "csv", "geojson", "png", "jpeg", "webp"]
Box = Annotated[list[float], Field(min_length=4, max_length=4), AfterValidator(_checked_box)]
ClassRef = StrictInt | Annotated[str, Field(max_length=65_536)]
"""A number is an id; a text is a name, or the id if no class has that name."""


def _as_name(value: Any) -> Any:
    """JSON's 2 is the version "2"."""
    return str(value) if type(value) is int else value


VersionName = Annotated[str, BeforeValidator(_as_name)]


class PredictOptions(BaseModel):
    """Options of ``POST /predict``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None,
        max_length=64,
        description="Name of the model; default: the first one served.",
        examples=["shapes"],
    )
    version: VersionName | None = Field(
        None,
        max_length=64,
        description="A version of the model by its name or an alias, if it is loaded; default: the "
        "current one.",
        examples=["2"],
    )
    score_threshold: Threshold | None = Field(
        None,
        description="Least score of an instance. Default: what GET /models tells as its default_score; "
        "below its score nothing is computed.",
        examples=[0.5],
    )
    class_thresholds: ClassThresholds | None = Field(
        None,
        description="Least scores of single classes, by name or id, in the place of score_threshold: a "
        "JSON object, or text such as disc:0.7,star:0.4. None is below the model's own.",
        examples=[{"disc": 0.7, "star": 0.4}],
    )
    nms_threshold: Threshold | None = Field(
        None,
        description="IoU above which a box of the same class is suppressed, in the place of the model's "
        "own: as if its config had this value.",
        examples=[0.5],
    )
    max_detections: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Instances per image at most, the best ones; with more than the model's own it keeps "
        "more, up to the server's max_detections_limit. Default: what GET /models tells as its "
        "default_max_detections.",
        examples=[100],
    )
    classes: Annotated[list[ClassRef], BeforeValidator(_as_list)] | None = Field(
        None,
        max_length=MAX_CLASSES,
        description="Names or ids of the classes that are wanted: repeated, or one string with commas. A "
        "JSON number is an id.",
        examples=[["disc", "star"]],
    )
    masks: Literal["rle", "polygon", "png", "bitmap", "none"] = Field(
        "rle",
        description="Masks of instances: COCO's compressed run-length encoding, polygons with holes, or "
        "the smallest crop that holds the mask as a PNG or as packed bits; or none.",
        examples=["rle"],
    )
    boxes: Literal["xyxy", "xywh", "normalized"] = Field(
        "xyxy",
        description="Boxes as corners in pixels, as corner, width and height in pixels, or as corners in "
        "shares of the picture from 0 to 1; box_mode tells. Rotated boxes keep their form.",
        examples=["xyxy"],
    )
    include: Annotated[list[Extra], BeforeValidator(_as_names)] | None = Field(
        None,
        description="Which outputs beside boxes and masks: keypoints, sem_seg, panoptic, proposals; "
        "repeated, or one string with commas, or none. Default: all that the model gives.",
        examples=[["keypoints"]],
    )
    format: FormatName | None = Field(
        None,
        description="Form of the answer. Default: as the Accept header says, else json. coco, csv and "
        "geojson tell instances alone, in their own forms of boxes and masks; png, jpeg and webp are the "
        "one picture with what was found drawn on it.",
        examples=["json"],
    )

    segmentation: Literal["png", "rle", "none"] = Field(
        "png",
        description="Semantic and panoptic maps as one PNG of ids, as a mask per segment, or none.",
        examples=["png"],
    )
    tta: Annotated[str, BeforeValidator(_tta_text)] = Field(
        "none",
        description="Test-time augmentation: none, flip (mirrored too), full (the sizes of the model's "
        "config), or short sides such as 400,600,800.",
        examples=["none"],
    )
    tta_flip: bool | None = Field(
        None,
        description="With sizes: whether each comes mirrored too. Default: as the config says.",
    )
    region: RegionText | None = Field(
        None,
        description="The part of the image that the model sees, x1,y1,x2,y2 in pixels of the image as a "
        "viewer shows it; answers stay in pixels of the whole image.",
        examples=["100,50,900,650"],
    )
    tiles: TilesText = Field(
        "none",
        description="Large images in overlapping tiles, merged: none, auto (as large as the model sees "
        "them), or WxH or WxH,overlap in pixels, such as 1024x1024,200.",
        examples=["none"],
    )
    proposals: Annotated[list[list[Box]], BeforeValidator(_as_json)] | None = Field(
        None,
        max_length=10_000,
        description="For a model without a proposal generator: per image its boxes, XYXY in pixels.",
        examples=[[[[10.0, 20.0, 110.0, 220.0]]]],
    )

    def views(self, own: Views | None, *, min_size: int, max_size: int) -> Views | None:
        """The views that ``tta`` asks for; None is without.

        Args:
            own: what the model's config says; None if there is no test-time augmentation for it.
            min_size, max_size: the model's own resize.

        Raises:
            Unprocessable: the model has none, or a size is out of bounds.
        """
        by_size = self.tta[0].isdigit()
        if self.tta_flip is not None and not by_size:
            raise Unprocessable(
                "invalid_option",
                "Option tta_flip goes with sizes, as in tta=400,600; flip and full have their own.",
                option="tta_flip",
            )
        if self.tta == "none":
            return None
        if own is None:
            raise Unprocessable(
                "tta_not_supported",
                "There is no test-time augmentation for this kind of model; leave tta out.",
            )
        if self.tta == "flip":
            return Views((min_size,), max_size, flip=True)
        if self.tta == "full":
            return own
        sizes = tuple(int(size) for size in self.tta.split(","))
        wrong = [size for size in sizes if not MIN_TTA_SIZE <= size <= MAX_TTA_SIZE]
        if wrong:
            raise Unprocessable(
                "invalid_option",
                f"Option tta has the size {wrong[0]}; a short side is {MIN_TTA_SIZE} to "
                f"{MAX_TTA_SIZE} pixels.",
                option="tta",
            )
        flip = own.flip if self.tta_flip is None else self.tta_flip
        return Views(sizes, own.max_size, flip)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> PredictOptions:
        """Validate options.

        Raises:
            Unprocessable: with a sentence that names the option and what it takes.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _refusal(error, known=list(cls.model_fields)) from None


def _refusal(error: ValidationError, known: list[str]) -> Unprocessable:
    first = error.errors(include_url=False)[0]
    option = str(first["loc"][0]) if first["loc"] else "options"
    if first["type"] == "extra_forbidden":
        return Unprocessable(
            "unknown_option",
            f"There is no option {option[:64]!r}; there are: {', '.join(known)}.",
            option=option[:64],
            known=known,
        )
    reason = first["msg"].removeprefix("Value error, ")
    given = repr(first["input"])[:100]
    return Unprocessable(
        "invalid_option", f"Option {option} cannot be {given}: {reason}.", option=option
    )
