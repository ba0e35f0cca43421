"""What a request's thresholds, NMS and caps mean for one model, and whether it can have them."""

from __future__ import annotations

from typing import Any

from service.encoding.class_references import ids_of_names
from service.errors import Unprocessable
from service.inference.detector import ModelDescription
from service.schemas.options import PredictOptions


def resolve_thresholds(options: PredictOptions, model: ModelDescription) -> dict[str, Any]:
    """Keywords of :class:`models.wanted.Wanted`.

    Raises:
        Unprocessable: ``score_threshold_too_low``, ``max_detections_too_high``, ``unknown_class``,
            ``invalid_option``, or ``override_not_supported``.
    """
    threshold, nms_threshold = options.score_threshold, options.nms_threshold
    _check_score(threshold, "score_threshold", model)
    if nms_threshold is not None and not model.takes_overrides:
        raise Unprocessable(
            "override_not_supported",
            f"This model, a {model.architecture}, has no NMS whose threshold a request can set; leave "
            "nms_threshold out.",
            option="nms_threshold",
        )
    most, kept = _resolve_cap(options, model)
    return {
        "score_threshold": model.default_score if threshold is None else threshold,
        "class_thresholds": _by_class(options, model),
        "max_detections": most,
        "nms_threshold": nms_threshold,
        "detections_per_image": kept,
    }


def _check_score(threshold: float | None, what: str, model: ModelDescription) -> None:
    if threshold is not None and threshold < model.score_threshold:
        raise Unprocessable(
            "score_threshold_too_low",
            f"{what} {threshold:g} is below the model's own, {model.score_threshold:g}, "
            f"and the model computes nothing there. Lower {model.score_threshold_key} in its "
            "config and reload.",
            value=threshold,
            minimum=model.score_threshold,
        )


def _by_class(options: PredictOptions, model: ModelDescription) -> tuple[tuple[int, float], ...]:
    given = options.class_thresholds or {}
    thresholds = []
    for name, class_id in ids_of_names(given, model, option="class_thresholds"):
        _check_score(given[name], f"The threshold of {name[:64]!r},", model)
        thresholds.append((class_id, given[name]))
    return tuple(sorted(thresholds))


def _resolve_cap(options: PredictOptions, model: ModelDescription) -> tuple[int, int | None]:
    """How many instances are wanted at most, and how many the model is to keep, if not its own number."""
    cap, own = options.max_detections, model.max_detections
    if options.tiles != "none":
        # The model's own number is one of each tile; on all together there is only the request's.
        return (-1 if cap is None else cap), None
    if cap is None or not 0 <= own < cap:
        return (model.default_most if cap is None else cap), None
    if not model.takes_overrides:
        raise Unprocessable(
            "max_detections_too_high",
            f"max_detections {cap} is above the model's own, {own}, and the model keeps no more. Raise "
            f"{model.max_detections_key} in its config and reload.",
            value=cap,
            maximum=own,
        )
    maximum = model.largest_max_detections
    if cap > maximum:
        raise Unprocessable(
            "max_detections_too_high",
            f"max_detections {cap} is above {maximum}, the most that this server lets a model keep. Ask "
            "for fewer, or raise max_detections_limit.",
            value=cap,
            maximum=maximum,
        )
    return cap, cap
