"""What the protocol tells of the server, its models and their versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service import __version__
from service.errors import Conflict, Unavailable
from service.inference.detector import ModelDescription
from service.open_inference.inputs import IMAGE, PIXELS
from service.open_inference.messages import BYTES, UINT8
from service.open_inference.outputs import Output, outputs_of
from service.repository.disk.names import natural_key
from service.repository.served import ServedModel
from service.repository.version import VersionState
from service.routes.models import describe_version
from service.runtime import Runtime

SERVER = "detserve"
EXTENSIONS = ("binary_tensor_data", "model_repository")
PLATFORM = "detserve_pytorch"
INPUTS = (Output(IMAGE, BYTES, (-1,)), Output(PIXELS, UINT8, (-1, -1, -1, 3)))
"""A request has one of them."""

_STATES = {
    VersionState.READY: "READY",
    VersionState.LOADING: "LOADING",
    VersionState.CHECKING: "LOADING",
    VersionState.WARMING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
}


def server_metadata() -> dict[str, Any]:
    """Name and version of the server, and the extensions that it serves."""
    return {"name": SERVER, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(model: ServedModel, version: str | None) -> dict[str, Any]:
    """What a model takes and gives, and which versions of it are loaded. May read the disk.

    Raises:
        NotFound, Conflict: there is no such version, or it is not loaded.
    """
    description: ModelDescription = model.resolve(version).detector.description
    return {
        "name": model.name,
        "versions": sorted(model.versions, key=natural_key),
        "platform": PLATFORM,
        "inputs": [vars(tensor) for tensor in INPUTS],
        "outputs": [vars(output) for output in outputs_of(description)],
    }


def is_ready(runtime: Runtime, name: str, version: str | None) -> bool:
    """Whether a model, or a version of it, answers. May read the disk.

    Raises:
        NotFound: there is no such model or version.
    """
    if runtime.unready_reason() is not None:
        return False
    try:
        model = runtime.repository.get(name)
        model.resolve(version)
    except (Conflict, Unavailable):
        return False
    return not model.lost


def index(runtime: Runtime, *, ready: bool) -> list[dict[str, Any]]:
    """All versions of all models, loaded or not; only those that answer if ``ready``. Reads the disk."""
    entries = list(_entries(runtime))
    return [entry for entry in entries if not ready or entry["state"] == "READY"]


def _entries(runtime: Runtime) -> Iterator[dict[str, Any]]:
    served = {model.name: model for model in runtime.repository}
    for name, model in served.items():
        for label in sorted({*model.shelf.labels(), *model.versions}, key=natural_key):
            version = describe_version(model, label)
            state = _STATES.get(VersionState(version["state"]), "UNAVAILABLE")
            reason = version["reason"] or ("not loaded" if state == "UNAVAILABLE" else "")
            yield {"name": name, "version": label, "state": state, "reason": reason}
    folder = runtime.repository.folder
    for name in folder.models() if folder is not None else ():
        if name not in served:
            reason = "no version of it is loaded"
            yield {"name": name, "version": "", "state": "UNAVAILABLE", "reason": reason}
