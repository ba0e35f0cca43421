"""``POST /reload``: swap in another version without losing a request; ``GET /reload/{id}`` watches it."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.audit import admin_call
from service.errors import Unprocessable
from service.repository.orders import Order, files, going_back, promotion
from service.repository.served import ServedModel
from service.repository.shelf import FileShelf
from service.repository.source import ModelSource
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.routes.jobs import as_wanted, job_answer, read_wanted, run_job
from service.runtime import Runtime
from service.schemas.reload import ReloadAnswer, ReloadRequest, RollbackRequest
from service.security import resolve_under

router = APIRouter(tags=["admin"])

REFUSALS = (
    (400, "malformed_json", "The JSON body is not an object."),
    (401, "admin_token_required", "This route needs the admin token."),
    (403, "admin_forbidden", "Admin routes are open to local requests only."),
    (404, "unknown_model", "There is no model 'car'; there are: shapes."),
    (404, "unknown_version", "'shapes' has no version '7'; there are: 1, 2."),
    (409, "reload_running", "A reload of 'shapes' is running."),
    (409, "current_changed", "The current version of 'shapes' is 3, no longer 2."),
    (422, "invalid_option", "dry_run: Input should be a valid boolean."),
    (422, "version_incomplete", "It has no manifest.json: it is still being copied."),
    (422, "model_refused", "The checkpoint has 3 classes but MODEL.ROI_HEADS.NUM_CLASSES is 4."),
    (422, "classes_changed", "Class ids would change their meaning: 0 was 'disc' and is 'star'."),
    (422, "gate_failed", "The new version did not pass the gate: segm AP is 41.20; at least 60."),
    (422, "not_enough_memory", "There is no memory for this version beside the current one."),
    (503, "draining", "The server is shutting down. Try another replica."),
    (503, "drain_timeout", "Version 1 still had requests after 120 s; nothing was changed."),
    (503, "model_unavailable", "Version 2 was refused, and version 1 could not be loaded again."),
    (
        507,
        "state_not_written",
        "The record of 'shapes' cannot be written: No space left on device.",
    ),
)
DONE = answer_docs((200, ReloadAnswer, "Done."), (202, ReloadAnswer, "Begun; watch /reload/{id}."))


@router.post(
    "/reload",
    responses=DONE
    | error_docs(
        *REFUSALS, (403, "path_outside_root", "The path does not lie under the model root.")
    ),
    openapi_extra=body_docs(
        ReloadRequest,
        {
            "again": {"summary": "What the record says, or the same files", "value": {}},
            "version": {
                "summary": "A version of the repository, if it is good enough",
                "value": {
                    "model": "shapes",
                    "version": "2",
                    "gate": {"dataset": "shapes/val.json", "max_drop": 1.0},
                },
            },
            "files": {
                "summary": "Without a repository: other weights",
                "value": {"weights": "v2/model_final.pth"},
            },
        },
    ),
)
async def reload(request: Request) -> Response:
    """Load a version, let it prove itself, and swap atomically.

    Requests that run or wait go on. On any failure the old version goes on serving.
    """
    async with admin_call(request, "reload") as call:
        runtime = runtime_of(request)
        body = await read_wanted(request, ReloadRequest)
        call.facts(model=body.model, version=body.version, weights=body.weights)
        model = runtime.repository.to_change(body.model)
        return await run_job(
            call, runtime, model, "reload", lambda: reload_order(runtime, model, body), body
        )


@router.post(
    "/models/{name}/rollback",
    responses=DONE
    | error_docs(
        *REFUSALS, (409, "no_previous_version", "There is no previous version to go back to.")
    ),
    openapi_extra=body_docs(
        RollbackRequest,
        {
            "rollback": {"value": {}},
            "only": {"summary": "Only from this version", "value": {"current": "3"}},
        },
    ),
)
async def rollback(request: Request, name: str) -> Response:
    """Make the previous version current again. It proves itself as ever, but passes no gate.

    Say which version is to be left (`current`), and two who do this at once go back one version, not two.
    """
    async with admin_call(request, "rollback", model=name) as call:
        runtime = runtime_of(request)
        body = await read_wanted(request, RollbackRequest)
        model = runtime.repository.get(name)
        wanted = as_wanted(runtime, body)
        return await run_job(
            call, runtime, model, "rollback", lambda: going_back(model, wanted), body
        )


@router.get(
    "/reload/{job_id}",
    responses=answer_docs((200, ReloadAnswer, "The job."))
    | error_docs(
        *(entry for entry in REFUSALS if entry[0] in (401, 403)),
        (404, "unknown_reload", "There is no such reload."),
    ),
)
async def get_reload(request: Request, job_id: str) -> Response:
    """How a reload, rollback or load is going, or went."""
    runtime = runtime_of(request)
    runtime.admin.check(request)
    return job_answer(runtime.repository.jobs.get(job_id))


def reload_order(runtime: Runtime, model: ServedModel, body: ReloadRequest) -> Order:
    """What is asked for; on a thread that may wait for the disk."""
    wanted = as_wanted(runtime, body)
    named = [key for key in ("weights", "config", "labels") if getattr(body, key) is not None]
    if body.version is not None and named:
        raise Unprocessable(
            "invalid_option",
            f"version and {named[0]} exclude each other: a version brings its own files.",
            option="version",
        )
    if body.version is not None or (not named and not isinstance(model.shelf, FileShelf)):
        return promotion(model, body.version, wanted)
    return files(model, _source(runtime.model_root, model, body), wanted)


def _source(root: Path, model: ServedModel, wanted: ReloadRequest) -> ModelSource:
    """The files to load: those of the request, under the model root, else the model's own."""
    if not isinstance(model.shelf, FileShelf):
        return ModelSource(None, root)  # refused by files()
    current = model.shelf.candidate(model.current.label).source
    if wanted.weights is None and wanted.config is None and wanted.labels is None:
        return current

    def path(given: str | None) -> Path | None:
        if given is not None and "://" in given:
            raise Unprocessable(
                "url_not_allowed",
                "No URL is ever fetched here: copy the file under the model root and name its path.",
            )
        return resolve_under(root, given) if given is not None else None

    config, weights = path(wanted.config), path(wanted.weights)
    return ModelSource(
        config=config or current.config,
        weights=weights or current.weights,
        # Names belong to the config; another config brings its own, or needs them named.
        labels=path(wanted.labels) or (current.labels if config is None else None),
        root=root if config is not None or weights is not None else current.root,
    )
