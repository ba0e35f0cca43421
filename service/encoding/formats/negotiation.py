"""Which form an answer takes: by the option ``format``, else by the ``Accept`` header (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from service.encoding.formats.pictures import PICTURES
from service.errors import NotAcceptable, Unprocessable
from service.inference.detector import ModelDescription
from service.schemas.options import FormatName, PredictOptions

MEDIA_TYPES: Mapping[FormatName, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "geojson": "application/geo+json",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "coco": "application/json",  # has no type of its own, so it is asked for by name alone
}
"""By format; the first that fits a range such as ``image/*`` is taken."""

OF_INSTANCES: frozenset[FormatName] = frozenset({"coco", "csv", "geojson"})
"""Formats that tell instances and nothing else."""

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


def choose_format(named: FormatName | None, accept: str | None) -> FormatName:
    """The format of an answer.

    Args:
        named: by the request's option, which comes first.
        accept: the ``Accept`` header; None, or nothing that can be read, takes native JSON.

    Raises:
        NotAcceptable: none of ours will do.
    """
    if named is not None:
        return named
    ranges = _ranges(accept or "")
    if not ranges:
        return "json"
    qualities: dict[FormatName, float] = {}
    for name, media_type in MEDIA_TYPES.items():
        if name != "coco":
            qualities[name] = _quality(media_type.partition(";")[0], ranges)
    # Of equal ones the first: what is not said is native JSON.
    best = max(qualities, key=lambda name: qualities[name])
    if qualities[best] == 0:
        offered = [kind.partition(";")[0] for name, kind in MEDIA_TYPES.items() if name != "coco"]
        raise NotAcceptable(
            "not_acceptable",
            f"The Accept header rules out every form of the answer; there are {', '.join(offered)}. "
            f"The option format names one too: {', '.join(MEDIA_TYPES)}.",
            offered=offered,
            formats=list(MEDIA_TYPES),
        )
    return best


def _ranges(accept: str) -> dict[str, float]:
    """Media ranges and how much each is wanted, 0 to 1; what is malformed is left out."""
    ranges: dict[str, float] = {}
    for part in accept[:4096].split(","):
        media_range, *parameters = [item.strip().lower() for item in part.split(";")]
        if media_range.count("/") != 1:
            continue
        quality = next((p[2:].strip() for p in parameters if p.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            ranges[media_range] = float(quality)
    return ranges


def _quality(media_type: str, ranges: Mapping[str, float]) -> float:
    """What the most specific of the ranges says."""
    kind = media_type.partition("/")[0]
    fitting = [ranges[r] for r in (media_type, f"{kind}/*", "*/*") if r in ranges]
    return fitting[0] if fitting else 0.0


def options_for(chosen: FormatName, options: PredictOptions) -> PredictOptions:
    """The options with which the outputs of a prediction are what the format is made of.

    What the format does not tell is not asked for, so that it is not computed either.
    """
    changes: dict[str, Any] = {"format": chosen}
    if chosen in OF_INSTANCES:
        form = {"coco": "rle", "geojson": "polygon", "csv": "none"}[chosen]
        changes |= {
            "boxes": "xyxy",
            "masks": "none" if options.masks == "none" else form,
            "segmentation": "none",
            "include": _keypoints(options) if chosen == "coco" else [],
        }
    return options.model_copy(update=changes)


def _keypoints(options: PredictOptions) -> list[str]:
    wanted = options.include is None or "keypoints" in options.include
    return ["keypoints"] if wanted else []


def check_format(chosen: FormatName, model: ModelDescription, images: int) -> None:
    """Refuse what the format cannot tell.

    Raises:
        Unprocessable: a picture is asked for and there are several images, or instances of a model that
            finds none.
    """
    if chosen in PICTURES and images != 1:
        raise Unprocessable(
            "one_image_only",
            f"format={chosen} is one picture, and the request has {images} images. Send one at a time.",
            format=chosen,
            images=images,
        )
    if chosen in OF_INSTANCES and "instances" not in model.outputs:
        raise Unprocessable(
            "format_not_supported",
            f"format={chosen} tells instances, and this model finds none; it gives "
            f"{', '.join(model.outputs)}. Use json, ndjson or a picture.",
            format=chosen,
        )
