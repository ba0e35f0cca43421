"""``model.yaml``: what the owner of a version wants of it, apart from what the model computes.

It lies in the version's folder beside the config, and everything in it is optional. What a request
or a command says itself comes before it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from models import zoo
from models.config.safe_yaml import parse_plain
from models.errors import ConfigError, ModelError
from models.execution import Mode
from models.zoo import ZooModel

FILE_NAME = "model.yaml"
MAX_BYTES = 64 << 10
Color: TypeAlias = tuple[int, int, int]
"""sRGB, 0 to 255 each."""

_LINE_ENDS = {"Zl", "Zp"}
_CONTROLS = {"Cc", "Cs"}
_QUOTE = "put quotes around it, or YAML reads it as something else than text"


def _single_line(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("it is empty")
    if any(unicodedata.category(c) in _CONTROLS | _LINE_ENDS for c in text):
        raise ValueError("it is one line of printable text")
    return text


def _free_text(text: str) -> str:
    if any(unicodedata.category(c) in _CONTROLS and c not in "\n\t" for c in text):
        raise ValueError("it is printable text")
    return text.strip()


def _as_text(value: Any) -> Any:
    """YAML has its own mind about ``no``, ``1`` and nothing at all."""
    if not isinstance(value, str):
        raise ValueError(_QUOTE)
    return value


def _as_color(value: Any) -> Color:
    digits = value[1:] if isinstance(value, str) and value.startswith("#") else ""
    # bytes.fromhex alone would take spaces.
    if len(digits) != 6 or not all(c in "0123456789abcdef" for c in digits.lower()):
        raise ValueError('a colour is "#rrggbb", in quotes since # begins a comment')
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _as_list(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("it is a list with a name for each class, in the order of the ids")
    return tuple(value)


def _as_class(value: Any) -> Any:
    """A name alone, or a name and a colour."""
    return value if isinstance(value, Mapping | ClassEntry) else {"name": value}


def _of_the_zoo(name: str) -> str:
    try:
        return zoo.get(name).name
    except ConfigError as error:
        raise ValueError(error.message.rstrip(".")) from None


# Numbers as JSON and YAML have them: no texts, and true is none.
_Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
_Percent = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
_Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
_Path = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_single_line), Field(max_length=1024)
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassEntry(_Part):
    """One class: its name, and a colour instead of the palette's."""

    name: Annotated[str, BeforeValidator(_as_text), AfterValidator(_single_line)]
    color: Annotated[Color | None, BeforeValidator(_as_color)] = None


_Class = Annotated[ClassEntry, BeforeValidator(_as_class)]


class Batching(_Part):
    """Bounds on this model's batches; None is the server's own.

    Attributes:
        max_batch_size: images per batch; the server's bound holds as well.
        max_batch_pixels: padded pixels per batch, a single image may exceed it; likewise.
        max_wait_ms: how long an image waits for company, instead of the server's.
    """

    max_batch_size: _Count | None = None
    max_batch_pixels: Annotated[int, Field(strict=True, ge=1, le=2**53)] | None = None
    max_wait_ms: (
        Annotated[float, Field(strict=True, ge=0, le=10_000, allow_inf_nan=False)] | None
    ) = None


class Gate(_Part):
    """A validation set that a new version has to pass; without a bound its figures are only told.

    Attributes:
        dataset: path of a COCO-format annotation file.
        images: folder of its pictures; None: see :meth:`models.evaluation.CocoDataset.load`.
        min_ap: least AP in percent, 0 to 100, as COCO's table has it.
        max_drop: AP points, 0 to 100, that it may lose against the current version.
        iou_type: what is compared; None: the finest that the model has, keypoints, else masks,
            else boxes.
        max_images: the first so many pictures of the set; None: all.
    """

    dataset: _Path
    images: _Path | None = None
    min_ap: _Percent | None = None
    max_drop: _Percent | None = None
    iou_type: Literal["bbox", "segm", "keypoints"] | None = None
    max_images: _Count | None = None


class ModelSettings(_Part):
    """The content of a ``model.yaml``.

    Attributes:
        score_threshold: of requests that name none; not below the model's own.
        max_detections: of requests that name none; not above the model's own.
        classes: K of them in the order of the ids, each a name or a name with a colour.
        mode: how it runs, see :mod:`models.execution`; None is the server's.
        resize: likewise.
        batching: bounds on its batches.
        zoo: full name of the zoo's model whose config it is, instead of a ``config.yaml``.
        description: for people.
        gate: what every swap to this version is held to.
    """

    score_threshold: _Share | None = None
    max_detections: _Count | None = None
    classes: Annotated[tuple[_Class, ...], BeforeValidator(_as_list)] | None = None
    mode: Mode | None = None
    resize: Literal["auto", "pil", "fast"] | None = None
    batching: Batching = Batching()
    zoo: Annotated[str, Field(max_length=200), AfterValidator(_of_the_zoo)] | None = None
    description: Annotated[str, Field(max_length=1000), AfterValidator(_free_text)] = ""
    gate: Gate | None = None

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[ClassEntry, ...] | None) -> tuple[ClassEntry, ...] | None:
        seen: set[str] = set()
        for entry in classes or ():
            if entry.name in seen:
                raise ValueError(f"it has the name {entry.name[:64]!r} twice")
            seen.add(entry.name)
        return classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """K names; None where it leaves them to others."""
        return tuple(entry.name for entry in self.classes) if self.classes is not None else None

    @property
    def class_colors(self) -> tuple[Color | None, ...]:
        """K colours, None for the palette's; empty where there are no classes."""
        return tuple(entry.color for entry in self.classes or ())

    @property
    def zoo_model(self) -> ZooModel | None:
        """The model of the zoo whose config it is."""
        return zoo.get(self.zoo) if self.zoo is not None else None

    @classmethod
    def read(cls, path: Path) -> ModelSettings:
        """Read a ``model.yaml``; an empty one sets nothing.

        Raises:
            ModelError: it cannot be read, is over 64 KiB, is no plain YAML (tags, aliases that expand
                without end), or has a key or a value that is none.
        """
        values = parse_plain(_content(path), path.name)
        if values is None:
            return cls()
        if not isinstance(values, dict):
            raise ModelError(
                f"{path.name} holds no keys; it has {', '.join(cls.model_fields)}, one a line."
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _refusal(error, path.name) from None


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            reason = "it is no regular file" if path.exists() else "there is no such file"
            raise ModelError(f"{path.name} cannot be read: {reason}.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise ModelError(
            f"{path.name} is over {MAX_BYTES >> 10} KiB. Class names in great number belong in "
            "labels.txt.",
            limit=MAX_BYTES,
        )
    return data


_PARTS: dict[str, type[_Part]] = {"batching": Batching, "gate": Gate, "classes": ClassEntry}


def _refusal(error: ValidationError, name: str) -> ModelError:
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    key = key.removeprefix(".")[:100]
    if first["type"] == "extra_forbidden":
        owner = _PARTS[str(location[0])] if len(location) > 1 else ModelSettings
        known = list(owner.model_fields)
        return ModelError(
            f"{name} has the unknown key {key}; there are: {', '.join(known)}.",
            key=key,
            known=known,
        )
    if first["type"] == "missing":
        return ModelError(f"{name} needs {key} too.", key=key)
    if first["type"] == "model_type":
        known = list(_PARTS[str(location[0])].model_fields)
        return ModelError(f"{name}: {key} takes keys: {', '.join(known)}.", key=key, known=known)
    reason = first["msg"].removeprefix("Value error, ")
    value = first["input"]
    if isinstance(value, dict | list):
        return ModelError(f"{name}: {key}: {reason}.", key=key)
    return ModelError(f"{name}: {key} cannot be {_shown(value)}: {reason}.", key=key)


def _shown(value: Any) -> str:
    """A value as a sentence may hold it."""
    if value is None:
        return "empty"
    if isinstance(value, int) and value.bit_length() > 64:
        return "that large"  # Python writes no number of thousands of digits
    return ascii(value)[:100] if isinstance(value, str) else repr(value)
