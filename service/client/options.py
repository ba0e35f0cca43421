"""The options of a prediction, typed, and how they travel."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of ``predict``; ``None`` is as if left out.

    The server's ``boxes``, ``format`` and further forms of ``masks`` say how an answer is written, and are
    not here: a client has arrays, :meth:`Prediction.to_coco` and :meth:`Prediction.draw`.

    Attributes:
        model: name; default: the first one served.
        version: by its name or an alias; default: the current one.
        score_threshold: least score, not below the model's own.
        class_thresholds: least scores of single classes, by name or id, in its place.
        nms_threshold: IoU above which a box of the same class is suppressed, for the model's own.
        max_detections: instances per image at most, the best ones; may be above the model's own number.
        classes: the wanted ones; a number is an id, a text a name (or an id if no class has that name).
        masks: "none" leaves them out.
        segmentation: semantic and panoptic maps; both forms become the same array.
        include: which outputs beside boxes and masks; default: all that the model gives.
        tta: test-time augmentation: "none", "flip", "full" or short sides, as in (400, 600).
        tta_flip: with sizes: whether each comes mirrored too.
        region: the part of the image that the model sees, XYXY in pixels; answers stay those of the whole.
        tiles: large images in overlapping tiles: "none", "auto", "1024x1024" or "1024x1024,200".
        proposals: per image its boxes, XYXY in pixels, for a model that makes none itself.
    """

    model: str | None
    version: str | int | None
    score_threshold: float | None
    class_thresholds: Mapping[str | int, float] | None
    nms_threshold: float | None
    max_detections: int | None
    classes: str | int | Sequence[str | int] | None
    masks: Literal["rle", "none"] | None
    segmentation: Literal["png", "rle", "none"] | None
    include: Sequence[Literal["keypoints", "sem_seg", "panoptic", "proposals"]] | None
    tta: str | Sequence[int] | None
    tta_flip: bool | None
    region: str | Sequence[float] | None
    tiles: str | None
    proposals: Sequence[Sequence[Sequence[float]] | NDArray[np.floating]] | None


def split_options(options: Mapping[str, Any]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """What goes into the query, and what only JSON can say.

    Plain values go into the query, so that the images can be sent as they are. Numbers of classes,
    which as text could be names, and whatever is nested need a JSON body.

    Raises:
        TypeError: there is no such option.
        ValueError: a form of masks that this client does not read.
    """
    unknown = options.keys() - PredictOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(PredictOptions.__annotations__)
        raise TypeError(f"There is no option {min(unknown)!r}; there are: {known}.")
    if options.get("masks") not in (None, "rle", "none"):
        raise ValueError(
            f"masks is 'rle' or 'none', not {options['masks']!r}: the answer's masks are arrays, in "
            "whatever form they travel."
        )
    query: list[tuple[str, str]] = []
    nested: dict[str, Any] = {}
    for name, given in options.items():
        if given is None:
            continue
        value = given.tolist() if isinstance(given, np.ndarray | np.generic) else given
        several = isinstance(value, Sequence) and not isinstance(value, str)
        values = list(value) if several else [value]
        if isinstance(value, bool):
            query.append((name, "true" if value else "false"))
        elif name == "classes" and not (values and all(isinstance(one, str) for one in values)):
            nested[name] = values
        elif name == "classes":
            query += [(name, str(one)) for one in values]
        elif all(isinstance(one, str | int | float) for one in values):
            query.append((name, ",".join(str(one) for one in values)))
        else:
            nested[name] = value
    return query, nested


def json_body(files: Sequence[tuple[str, bytes, str]], nested: Mapping[str, Any]) -> bytes:
    """The images, (name, bytes, content type) each, in base64 beside options."""
    images = [{"name": name, "data": base64.b64encode(data).decode()} for name, data, _ in files]
    return json.dumps({"images": images, **nested}, default=_plain).encode()


def _plain(value: object) -> Any:
    """NumPy's arrays and numbers, as they come where boxes come from another model."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"An option cannot hold a {type(value).__name__}.")
