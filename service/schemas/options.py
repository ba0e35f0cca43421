"""The options of a prediction, the same as query parameters, form fields or JSON keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.errors import Unprocessable

MAX_CLASSES = 10_000


def _as_list(value: Any) -> Any:
    """One name or id, or several; how a string with commas is split is the model's to say."""
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _class_text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a class is a name or an id")
    return str(value)


ClassRef = Annotated[str, BeforeValidator(_class_text), Field(max_length=1000)]


class PredictOptions(BaseModel):
    """Options of ``POST /predict``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None,
        max_length=64,
        description="Name of the model; default: the first one served.",
        examples=["shapes"],
    )
    score_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Least score of an instance. Default: the model's own; below that nothing is computed.",
        examples=[0.5],
    )
    max_detections: int | None = Field(
        None, ge=1, description="Instances per image at most, the best ones.", examples=[100]
    )
    classes: Annotated[list[ClassRef], BeforeValidator(_as_list)] | None = Field(
        None,
        max_length=MAX_CLASSES,
        description="Names or ids of the classes that are wanted: repeated, or one string with commas.",
        examples=[["disc", "star"]],
    )
    masks: Literal["rle", "none"] = Field(
        "rle",
        description="Masks in COCO's compressed run-length encoding, or none.",
        examples=["rle"],
    )

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
