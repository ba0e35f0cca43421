"""``GET /models``: what is served, with its class metadata."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.encoding.palette import class_color, hex_color
from service.errors import ApiError
from service.repository.disk.folder import VersionFolder
from service.repository.disk.names import natural_key
from service.repository.parking import weights_bytes
from service.repository.served import ServedModel
from service.repository.shelf import FolderShelf
from service.repository.version import VersionState
from service.routes import answer_docs, error_docs, runtime_of
from service.schemas.answers import ModelAnswer, ModelsAnswer, VersionAnswer

router = APIRouter(tags=["models"])

_REFUSED = (
    (401, "token_required", "This route needs a token: send Authorization: Bearer <token>."),
    (503, "not_ready", "No model is loaded yet. Try again soon."),
)
_UNKNOWN = (404, "unknown_model", "There is no model 'car'; there are: shapes.")


@router.get(
    "/models",
    responses=answer_docs((200, ModelsAnswer, "The models.")) | error_docs(*_REFUSED),
)
async def list_models(request: Request) -> Response:
    """All models with their versions, classes, thresholds, input sizes and weights."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    default, models = runtime.repository.get().name, list(runtime.repository)
    # What versions there are is read from disk.
    described = await asyncio.get_running_loop().run_in_executor(
        None, lambda: [describe(model) for model in models]
    )
    return _json({"default": default, "models": described})


@router.get(
    "/models/{name}",
    responses=answer_docs((200, ModelAnswer, "The model.")) | error_docs(*_REFUSED, _UNKNOWN),
)
async def get_model(request: Request, name: str) -> Response:
    """One model."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    model = runtime.repository.get(name)
    return _json(await asyncio.get_running_loop().run_in_executor(None, describe, model))


@router.get(
    "/models/{name}/versions/{version}",
    responses=answer_docs((200, VersionAnswer, "The version."))
    | error_docs(
        *_REFUSED,
        _UNKNOWN,
        (404, "unknown_version", "'shapes' has no version '7'; there are: 1, 2."),
        (422, "invalid_name", "'../x' is no name of a version."),
    ),
)
async def get_version(request: Request, name: str, version: str) -> Response:
    """One version, loaded or not: its state, memory, hash and what it has served."""
    runtime = runtime_of(request)
    runtime.inference.check(request)
    model = runtime.repository.get(name)
    loop = asyncio.get_running_loop()
    label = await loop.run_in_executor(None, model.label_of, version)
    return _json(await loop.run_in_executor(None, describe_version, model, label))


def describe(model: ServedModel) -> dict[str, Any]:
    """A model as JSON."""
    version = model.current
    description = version.detector.description
    return {
        "name": model.name,
        "version": version.label,
        "state": _state(model),
        "versions": [_summary(model, label) for label in _labels(model)],
        "aliases": dict(model.shelf.record().aliases),
        "previous": model.shelf.record().previous,
        "recorded": model.shelf.record().current,
        "description": description.about,
        "task": description.task,
        "architecture": description.architecture,
        "backbone": description.backbone,
        "classes": [
            {"id": i, "name": name, "color": hex_color(class_color(i, description.class_colors))}
            for i, name in enumerate(description.class_names)
        ],
        "class_names_source": description.class_names_source,
        "stuff_classes": [
            {
                "id": i,
                "name": name,
                "color": hex_color(class_color(i, description.stuff_class_colors)),
            }
            for i, name in enumerate(description.stuff_class_names)
        ],
        "keypoint_names": description.keypoint_names,
        "keypoint_skeleton": description.keypoint_skeleton,
        "outputs": description.outputs,
        "box_mode": description.box_mode,
        "takes_proposals": description.takes_proposals,
        "takes_overrides": description.takes_overrides,
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
            "default_score": description.default_score,
            "default_max_detections": description.default_most,
            "largest_max_detections": description.largest_max_detections,
        },
        "device": description.device,
        "precision": description.precision,
        "execution": description.execution or None,
        "config": description.config_file,
        "weights": {"file": description.weights_file, "sha256": description.weights_sha256},
        "loaded_at": _time(version.loaded_at),
        "load_report": description.load_report,
    }


def _state(model: ServedModel) -> str:
    if model.changing.locked():
        return "reloading"
    return "unavailable" if model.lost else "ready"


def _labels(model: ServedModel) -> list[str]:
    """Of all versions that there are, on disk or in memory."""
    on_disk: list[str] = []
    with contextlib.suppress(ApiError):  # a mount that is lost: what is loaded is told all the same
        on_disk = model.shelf.labels()
    return sorted({*on_disk, *model.versions, *model.statuses}, key=natural_key)


def describe_version(model: ServedModel, label: str) -> dict[str, Any]:
    """A version as JSON, loaded or not; reads the disk."""
    version = model.versions.get(label)
    manifest: str | None = None
    size: int | None = None
    sha256: str | None = None
    folder = _folder_of(model, label)
    if folder is not None:
        size = folder.size_bytes
        with contextlib.suppress(ApiError):  # the state tells that it is incomplete
            listed = folder.manifest()
            manifest, sha256 = listed.digest, listed.files[folder.weights.name].sha256
    if version is not None:
        sha256 = version.detector.description.weights_sha256
    return _summary(model, label) | {
        "model": model.name,
        "sha256": sha256,
        "manifest": manifest,
        "size_bytes": size,
        "memory_bytes": weights_bytes(version.detector) if version is not None else None,
        "loaded_at": _time(version.loaded_at) if version is not None else None,
        "requests_in_progress": version.leases if version is not None else None,
        "statistics": version.statistics.to_dict() if version is not None else None,
    }


def _summary(model: ServedModel, label: str) -> dict[str, Any]:
    """Where a version stands: as this process knows it, else as its files are."""
    status = model.statuses.get(label)
    state, reason = VersionState.AVAILABLE, None
    folder = _folder_of(model, label)
    if folder is not None and folder.problem is not None:
        state, reason = VersionState.INCOMPLETE, folder.problem.message
    # What was let go is no more than its files again.
    if status is not None and (reason is None or status.state is not VersionState.AVAILABLE):
        state, reason = status.state, status.reason
    aliases = model.shelf.record().aliases
    return {
        "version": label,
        "state": state,
        "reason": reason,
        "current": model.current.label == label,
        "aliases": sorted(alias for alias, aliased in aliases.items() if aliased == label),
    }


def _folder_of(model: ServedModel, label: str) -> VersionFolder | None:
    """Its files in the repository; None without one, or when they were deleted under a loaded version."""
    with contextlib.suppress(ApiError):  # neither there nor, without its mount, to be read
        if isinstance(model.shelf, FolderShelf):
            return model.shelf.folder.version(label)
    return None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
