"""The methods of the inference service, each over the same acts as its route under ``/v2``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from service.audit import admin_call
from service.grpc_server.call import CONTENT_TYPE, Calls
from service.grpc_server.convert import read_change, read_request, write_answer
from service.grpc_server.messages import MESSAGES
from service.open_inference import metadata
from service.open_inference.changes import load_model, unload_model
from service.open_inference.infer import infer
from service.routes import runtime_of
from service.routes.asking import counting_refusals
from service.schemas.open_inference import LoadParameters, UnloadParameters


def methods(calls: Calls) -> dict[str, Callable[[Any, Any], Any]]:
    """Handlers by method, as gRPC calls them."""
    return {
        "ServerLive": calls.handling("ServerLive", _server_live, probe=True),
        "ServerReady": calls.handling("ServerReady", _server_ready, probe=True),
        "ModelReady": calls.handling("ModelReady", _model_ready),
        "ServerMetadata": calls.handling("ServerMetadata", _server_metadata),
        "ModelMetadata": calls.handling("ModelMetadata", _model_metadata),
        "ModelInfer": calls.handling("ModelInfer", _model_infer),
        "RepositoryIndex": calls.handling("RepositoryIndex", _repository_index),
        "RepositoryModelLoad": calls.handling("RepositoryModelLoad", _load),
        "RepositoryModelUnload": calls.handling("RepositoryModelUnload", _unload),
    }


async def _server_live(request: Request, message: Any, context: Any) -> Any:
    live = runtime_of(request).failure_reason() is None
    return MESSAGES["ServerLiveResponse"](live=live)


async def _server_ready(request: Request, message: Any, context: Any) -> Any:
    ready = runtime_of(request).unready_reason() is None
    return MESSAGES["ServerReadyResponse"](ready=ready)


async def _model_ready(request: Request, message: Any, context: Any) -> Any:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    ready = await _off_loop(
        functools.partial(metadata.is_ready, runtime, message.name, message.version or None)
    )
    return MESSAGES["ModelReadyResponse"](ready=ready)


async def _server_metadata(request: Request, message: Any, context: Any) -> Any:
    runtime_of(request).inference.check(request)
    return MESSAGES["ServerMetadataResponse"](**metadata.server_metadata())


async def _model_metadata(request: Request, message: Any, context: Any) -> Any:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    model = runtime.repository.get(message.name)
    told = await _off_loop(
        functools.partial(metadata.model_metadata, model, message.version or None)
    )
    return MESSAGES["ModelMetadataResponse"](**told)


async def _model_infer(request: Request, message: Any, context: Any) -> Any:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    runtime.require_ready()
    with counting_refusals(runtime, message.model_name):
        runtime.scheduler.require_room()
    asked = read_request(message)
    inferred = await infer(
        runtime,
        asked,
        model=message.model_name,
        version=message.model_version or None,
        request_id=request.state.request_id,
        timeout_s=context.time_remaining(),
    )
    request.state.log.update(inferred.facts)
    return await runtime.workers.finish(write_answer, inferred.answer, asked)


async def _repository_index(request: Request, message: Any, context: Any) -> Any:
    runtime = runtime_of(request)
    runtime.inference.check(request)
    entries = await _off_loop(functools.partial(metadata.index, runtime, ready=message.ready))
    return MESSAGES["RepositoryIndexResponse"](models=entries)


async def _load(request: Request, message: Any, context: Any) -> Any:
    name = message.model_name
    async with admin_call(request, "reload", content_type=CONTENT_TYPE, model=name) as call:
        parameters = read_change(message.parameters, LoadParameters)
        await load_model(call, runtime_of(request), name, parameters)
        return MESSAGES["RepositoryModelLoadResponse"]()


async def _unload(request: Request, message: Any, context: Any) -> Any:
    name = message.model_name
    async with admin_call(request, "unload", content_type=CONTENT_TYPE, model=name) as call:
        parameters = read_change(message.parameters, UnloadParameters)
        await unload_model(call, runtime_of(request), name, parameters)
        return MESSAGES["RepositoryModelUnloadResponse"]()


async def _off_loop(function: Callable[[], Any]) -> Any:
    """Call ``function``, which may wait for the disk, beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function)
