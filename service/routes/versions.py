"""``/models/{m}/versions/{v}`` and ``/models/{m}/aliases/{a}``: versions beside the current one."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.audit import admin_call
from service.repository.disk.names import check_name
from service.repository.orders import loading
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.routes.jobs import as_wanted, read_wanted, run_job
from service.routes.models import describe_version
from service.routes.reload import DONE, REFUSALS
from service.schemas.answers import VersionAnswer
from service.schemas.reload import AliasRequest, LoadRequest

router = APIRouter(tags=["admin"])

_BAD_NAME = (422, "invalid_name", "'../x' is no name of a version.")
_NOT_WRITTEN = REFUSALS[-1]
_IN_USE = (409, "version_in_use", "Version 1 is the current one; make another one current first.")


@router.post(
    "/models/{name}/versions/{version}/load",
    operation_id="load_version",
    responses=DONE | error_docs(*REFUSALS, _BAD_NAME),
    openapi_extra=body_docs(LoadRequest, {"load": {"value": {}}}),
)
async def load(request: Request, name: str, version: str) -> Response:
    """Load a version beside the current one: for requests that name it, and for a shadow.

    Until the server ends; a version with an alias is loaded again at its start.
    """
    async with admin_call(request, "load", model=name, version=version) as call:
        runtime = runtime_of(request)
        body = await read_wanted(request, LoadRequest)
        model = runtime.repository.get(name)
        wanted = as_wanted(runtime, body)
        return await run_job(
            call, runtime, model, "load", lambda: loading(model, version, wanted), body
        )


@router.post(
    "/models/{name}/versions/{version}/unload",
    operation_id="unload_version",
    # Nothing is read of it, but its type is asked for; the page at /docs sends it if it stands here.
    openapi_extra={
        "requestBody": {
            "content": {"application/json": {"schema": {"type": "object"}, "example": {}}}
        }
    },
    responses=answer_docs((200, VersionAnswer, "It is on disk alone."))
    | error_docs(
        *REFUSALS[1:6], _BAD_NAME, _IN_USE, (409, "version_not_loaded", "It is not loaded.")
    ),
)
async def unload(request: Request, name: str, version: str) -> Response:
    """Let a version go that is neither current nor has an alias. Its requests end first."""
    async with admin_call(request, "unload", model=name, version=version) as call:
        runtime = runtime_of(request)
        model = runtime.repository.get(name)
        loop = asyncio.get_running_loop()
        label = await loop.run_in_executor(None, model.label_of, version)
        freed = await loop.run_in_executor(None, runtime.repository.unload, model, label)
        call.facts(version=label, freed_bytes=freed)
        return _json(await loop.run_in_executor(None, describe_version, model, label))


@router.delete(
    "/models/{name}/versions/{version}",
    operation_id="remove_version",
    status_code=204,
    response_class=Response,
    responses=error_docs(
        *REFUSALS[1:6],
        _BAD_NAME,
        _IN_USE,
        (422, "no_repository", "'shapes' was loaded from files that were named alone."),
        _NOT_WRITTEN,
    ),
)
async def remove(request: Request, name: str, version: str) -> Response:
    """Take a version out of the repository and delete its files; one that is loaded is unloaded first."""
    async with admin_call(request, "remove", model=name, version=version) as call:
        runtime = runtime_of(request)
        model = runtime.repository.to_change(name)
        check_name("version", version)
        await asyncio.get_running_loop().run_in_executor(
            None, runtime.repository.remove, model, version
        )
        call.status = 204
        return Response(status_code=204)


@router.put(
    "/models/{name}/aliases/{alias}",
    responses=DONE
    | error_docs(
        *REFUSALS, _BAD_NAME, (409, "alias_is_a_version", "'2' is a version of 'shapes'.")
    ),
    openapi_extra=body_docs(
        AliasRequest, {"candidate": {"value": {"version": "3"}}}, required=True
    ),
)
async def put_alias(request: Request, name: str, alias: str) -> Response:
    """Let a version be called by another name, such as `candidate`; it is loaded if it is not."""
    async with admin_call(request, "alias", model=name, alias=alias) as call:
        runtime = runtime_of(request)
        body = await read_wanted(request, AliasRequest)
        call.facts(version=body.version)
        check_name("alias", alias)
        model = runtime.repository.get(name)
        wanted = as_wanted(runtime, body)
        return await run_job(
            call, runtime, model, "load",
            lambda: loading(model, body.version, wanted, alias=alias), body,
        )  # fmt: skip


@router.delete(
    "/models/{name}/aliases/{alias}",
    status_code=204,
    response_class=Response,
    responses=error_docs(
        *REFUSALS[1:4], (404, "unknown_alias", "There is no alias 'canary'."), _NOT_WRITTEN
    ),
)
async def delete_alias(request: Request, name: str, alias: str) -> Response:
    """Remove an alias; its version stays loaded until it is unloaded, or the server ends."""
    async with admin_call(request, "alias_remove", model=name, alias=alias) as call:
        model = runtime_of(request).repository.get(name)
        await asyncio.get_running_loop().run_in_executor(
            None, model.shelf.change, lambda record: record.without_alias(alias)
        )
        call.status = 204
        return Response(status_code=204)


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
