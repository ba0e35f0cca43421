"""``GET /models``: what is served, with its class metadata."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.encoding.palette import class_color, hex_color
from service.repository.repository import ServedModel
from service.routes import answer_docs, error_docs, runtime_of
from service.schemas.answers import ModelAnswer, ModelsAnswer

router = APIRouter(tags=["models"])


@router.get("/models", responses=answer_docs((200, ModelsAnswer, "The models.")))
async def list_models(request: Request) -> Response:
    """All models with their classes, thresholds, input sizes and weights."""
    repository = runtime_of(request).repository
    default = repository.get().name
    return _json({"default": default, "models": [describe(model) for model in repository]})


@router.get(
    "/models/{name}",
    responses=answer_docs((200, ModelAnswer, "The model."))
    | error_docs((404, "unknown_model", "There is no model 'car'; there are: shapes.")),
)
async def get_model(request: Request, name: str) -> Response:
    """One model."""
    return _json(describe(runtime_of(request).repository.get(name)))


def describe(model: ServedModel) -> dict[str, Any]:
    """A model as JSON."""
    version = model.current
    description = version.detector.description
    return {
        "name": model.name,
        "version": version.label,
        "state": "reloading" if model.reloading.locked() else "ready",
        "task": description.task,
        "architecture": description.architecture,
        "backbone": description.backbone,
        "classes": [
            {"id": i, "name": name, "color": hex_color(class_color(i))}
            for i, name in enumerate(description.class_names)
        ],
        "class_names_source": description.class_names_source,
        "stuff_classes": [
            {"id": i, "name": name, "color": hex_color(class_color(i))}
            for i, name in enumerate(description.stuff_class_names)
        ],
        "keypoint_names": description.keypoint_names,
        "keypoint_skeleton": description.keypoint_skeleton,
        "outputs": description.outputs,
        "box_mode": description.box_mode,
        "takes_proposals": description.takes_proposals,
        "tta": asdict(description.tta) if description.tta is not None else None,
        "input": {
            "format": description.input_format,
            "min_size": description.min_size,
            "max_size": description.max_size,
        },
        "thresholds": {
            "score": description.score_threshold,
            "nms": description.nms_threshold,
            "max_detections": description.max_detections,
        },
        "device": description.device,
        "precision": description.precision,
        "execution": description.execution or None,
        "config": description.config_file,
        "weights": {"file": description.weights_file, "sha256": description.weights_sha256},
        "loaded_at": datetime.fromtimestamp(version.loaded_at, UTC).isoformat(timespec="seconds"),
        "load_report": description.load_report,
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
