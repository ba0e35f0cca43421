"""The native JSON answer, and a line of it for one image alone."""

from __future__ import annotations

from typing import Any

import orjson

from service.encoding.formats.answered import Answered
from service.inference.detector import ModelDescription
from service.inference.pipeline import ImageAnswer
from service.repository.version import ModelVersion


def native_json(answered: Answered) -> bytes:
    """The answer to all images of a request."""
    content = {
        "model": _model(answered.version),
        "request_id": answered.request_id,
        "predictions": [_prediction(answer) for answer in answered.answers],
        "timing_ms": _milliseconds(answered.stages),
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def native_line(
    index: int, answer: ImageAnswer, *, request_id: str, version: ModelVersion | None
) -> bytes:
    """The answer to one image, which stands for itself: a line of NDJSON with its end.

    Args:
        index: the image's place in the request, from 0.
        answer: to it.
        request_id: of the request.
        version: that answered it; None if it did not come so far.
    """
    content: dict[str, Any] = {"index": index, "request_id": request_id}
    if version is not None:
        content["model"] = _model(version)
    content |= _prediction(answer)
    if answer.error is None:
        stages = {
            "decode": answer.decode_s,
            "queue": answer.queue_s,
            "inference": answer.inference_s,
            "encode": answer.encode_s,
        }
        content["timing_ms"] = _milliseconds(stages)
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _milliseconds(stages: dict[str, float]) -> dict[str, float]:
    return {stage: round(seconds * 1000, 3) for stage, seconds in stages.items()}


def _model(version: ModelVersion) -> dict[str, Any]:
    description = version.detector.description
    return {
        "name": version.model,
        "version": version.label,
        "architecture": description.architecture,
        "weights_sha256": description.weights_sha256,
    } | _keypoints(description)


def _keypoints(model: ModelDescription) -> dict[str, Any]:
    """What the numbers of ``pred_keypoints`` mean, for a model that has them."""
    if not model.keypoint_names:
        return {}
    return {"keypoint_names": model.keypoint_names, "keypoint_skeleton": model.keypoint_skeleton}


def _prediction(answer: ImageAnswer) -> dict[str, Any]:
    if answer.error is not None:
        return {"image": {"name": answer.name}, "error": answer.error.body()}
    image = {"name": answer.name, "width": answer.width, "height": answer.height}
    tiles = {} if answer.tiles is None else {"tiles": answer.tiles}
    return {"image": image, **(answer.outputs or {}), "batch_size": answer.batch_size} | tiles
