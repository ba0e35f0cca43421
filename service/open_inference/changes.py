"""Load and unload of the model repository extension: the native acts under the protocol's names."""

from __future__ import annotations

import asyncio

from service.audit import AdminCall
from service.errors import Unprocessable
from service.repository.jobs import ReloadJob
from service.routes.jobs import change
from service.routes.reload import reload_order
from service.runtime import Runtime
from service.schemas.open_inference import LoadParameters, UnloadParameters
from service.schemas.reload import ReloadRequest


async def load_model(
    call: AdminCall, runtime: Runtime, name: str, parameters: LoadParameters
) -> ReloadJob:
    """Make a version current, as ``POST /reload``: the named one, else what is recorded as current.

    Raises:
        ApiError: what refused it.
    """
    call.facts(model=name, version=parameters.version)
    body = ReloadRequest(model=name, **parameters.model_dump())
    model = runtime.repository.to_change(name)
    return await change(
        call, runtime, model, "reload", lambda: reload_order(runtime, model, body), body
    )


async def unload_model(
    call: AdminCall, runtime: Runtime, name: str, parameters: UnloadParameters
) -> str:
    """Let a version go that is neither current nor has an alias; its label.

    Raises:
        Unprocessable: ``version_required``: a model as a whole is not unloaded.
        ApiError: what else refused it.
    """
    call.facts(model=name, version=parameters.version)
    model = runtime.repository.get(name)
    if parameters.version is None:
        raise Unprocessable(
            "version_required",
            f"{name!r} stays loaded, since its current version answers requests. Name another version "
            "to unload: as the parameter version, or over HTTP as ?version=...",
            model=name,
        )
    word = parameters.version
    loop = asyncio.get_running_loop()
    label = await loop.run_in_executor(None, model.label_of, word)
    freed = await loop.run_in_executor(None, runtime.repository.unload, model, label)
    call.facts(version=label, freed_bytes=freed)
    return label
