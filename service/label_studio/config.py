"""A label config of Label Studio: which regions an annotator can draw on which picture of a task.

It is XML from outside, so it is read as a stream of tags by expat, with a bound on its size and no
document type: without one there are no entities, and nothing can grow or be fetched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal
from xml.parsers import expat

from service.errors import ApiError, TooLarge, Unprocessable

MAX_CONFIG_BYTES = 1_000_000
MAX_TAGS = 50_000

Kind = Literal["rectanglelabels", "polygonlabels", "brushlabels", "keypointlabels"]
KINDS: dict[str, Kind] = {
    "RectangleLabels": "rectanglelabels",
    "PolygonLabels": "polygonlabels",
    "BrushLabels": "brushlabels",
    "KeyPointLabels": "keypointlabels",
}


@dataclass(frozen=True)
class Label:
    """A label of a control.

    Attributes:
        name: as regions carry it.
        predicted: names of the model's that it stands for (``predicted_values``); () is none said.
    """

    name: str
    predicted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """A tag with which regions are drawn and labelled.

    Attributes:
        kind: of the regions.
        name, to_name: its own, and of the picture's tag.
        image_key: where in a task's data the picture is.
        labels: in their order.
        score_threshold: ``model_score_threshold``; None: as the model has it.
        point_threshold: ``model_point_threshold``, the least score of a keypoint.
    """

    kind: Kind
    name: str
    to_name: str
    image_key: str
    labels: tuple[Label, ...]
    score_threshold: float | None = None
    point_threshold: float = 0.0


def parse_label_config(text: str) -> tuple[Control, ...]:
    """The controls that we can fill, those with ``model_skip="true"`` left out.

    Others, and those on something else than one picture per task, are passed over: a project may
    have them for its annotators.

    Raises:
        TooLarge: ``label_config_too_large``.
        Unprocessable: ``invalid_label_config``: no XML, or with a document type; a threshold that is no
            number from 0 to 1.
    """
    # Never more bytes than four a character; what encodes to more is refused a line below.
    if len(text) > MAX_CONFIG_BYTES or len(data := text.encode("utf-8", "replace")) > (
        MAX_CONFIG_BYTES
    ):
        raise TooLarge(
            "label_config_too_large",
            f"The label config is larger than {MAX_CONFIG_BYTES} bytes.",
            limit=MAX_CONFIG_BYTES,
        )
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _invalid(f"it is not XML: {error}") from None
    return tuple(
        control for draft in reader.drafts if (control := draft.control(reader.images)) is not None
    )


@dataclass
class _Draft:
    """A control before the tags of the pictures are known."""

    tag: str
    attributes: dict[str, str]
    labels: list[Label] = field(default_factory=list)

    def control(self, images: dict[str, str]) -> Control | None:
        given = self.attributes
        name, to_name = given.get("name", ""), given.get("toName", "")
        if not name or to_name not in images or given.get("model_skip", "").lower() == "true":
            return None
        return Control(
            kind=KINDS[self.tag],
            name=name,
            to_name=to_name,
            image_key=images[to_name],
            labels=tuple(self.labels),
            score_threshold=_threshold(given, "model_score_threshold"),
            point_threshold=_threshold(given, "model_point_threshold") or 0.0,
        )


class _Reader:
    """Collects controls with their labels, and the pictures, as the tags pass."""

    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.images: dict[str, str] = {}
        self._open: _Draft | None = None
        self._tags = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._tags += 1
        if self._tags > MAX_TAGS:
            raise TooLarge(
                "label_config_too_large",
                f"The label config has more than {MAX_TAGS} tags.",
                limit=MAX_TAGS,
            )
        if tag in KINDS:
            self._open = _Draft(tag, attributes)
            self.drafts.append(self._open)
        elif tag == "Label" and self._open is not None:
            # The result of a label with an alias carries that, as in Label Studio itself.
            name = attributes.get("alias") or attributes.get("value", "")
            predicted = attributes.get("predicted_values", "").split(",")
            names = tuple(filter(None, (part.strip() for part in predicted)))
            if name:
                self._open.labels.append(Label(name, names or (attributes.get("value", name),)))
        elif tag == "Image" and attributes.get("value", "").startswith("$"):
            self.images[attributes.get("name", "")] = attributes["value"][1:]

    def end(self, tag: str) -> None:
        if self._open is not None and tag == self._open.tag:
            self._open = None


def _refuse_doctype(*_: object) -> None:
    raise _invalid("it has a document type (<!DOCTYPE ...>), which no label config needs")


def _threshold(attributes: dict[str, str], name: str) -> float | None:
    if name not in attributes:
        return None
    try:
        value = float(attributes[name])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _invalid(f"{name}={attributes[name][:32]!r} is not a number from 0 to 1")
    return value


def _invalid(reason: str) -> ApiError:
    return Unprocessable("invalid_label_config", f"The label config cannot be used: {reason}.")
