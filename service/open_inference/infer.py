"""An inference, from the request as the protocol means it to the outputs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from service.errors import ApiError, Unprocessable
from service.inference.pipeline import ImageAnswer
from service.open_inference.inputs import read_images
from service.open_inference.messages import InferAnswer, InferRequest, invalid_request
from service.open_inference.outputs import ERRORS, MASKS, check_outputs, encode_outputs
from service.routes.asking import Answers, as_it_comes, ask
from service.runtime import Runtime
from service.schemas.options import PredictOptions
from service.uploads import Upload

_OURS = frozenset({"binary_data_output", "timeout"})
# Of extensions that are not served. Who sends them counts on what they do.
_UNSUPPORTED = ("sequence_id", "sequence_start", "sequence_end", "priority")
_SAID_ELSEWHERE = {
    "model": "the request itself names the model",
    "version": "the request itself names the version",
    "include": "the outputs of the request say it",
    "boxes": "pred_boxes are x1, y1, x2, y2, or of rotated boxes centre, sides and angle, in pixels",
    "format": "answers have the form of the protocol",
}


@dataclass(frozen=True)
class Inferred:
    """An answer, and what the log tells of it."""

    answer: InferAnswer
    facts: dict[str, Any]


async def infer(
    runtime: Runtime,
    request: InferRequest,
    *,
    model: str,
    version: str | None,
    request_id: str,
    timeout_s: float | None = None,
    wait: Callable[[Awaitable[Answers]], Awaitable[Answers]] = as_it_comes,
) -> Inferred:
    """Answer an inference request.

    Args:
        runtime: the server. Tokens and readiness are checked before.
        request: what is asked.
        model: its name.
        version: a loaded version or alias; None is the current one.
        request_id: the id of the call.
        timeout_s: how long it may take, if the call says so.
        wait: ends the work when the client leaves.

    Raises:
        ApiError: the request is refused, or one of its images cannot be used and the output ``errors``
            is not among those that it names.
    """
    named = runtime.repository.get(model).resolve(version)
    wanted = None if request.outputs is None else [output.name for output in request.outputs]
    if wanted is not None:
        check_outputs(wanted, named.detector.description)
    options = _options(request.parameters, wanted, model, version)
    limits = runtime.upload_limits
    uploads = await runtime.workers.run(lambda: read_images(request.inputs, limits))
    asked = await ask(
        runtime,
        uploads,
        options,
        request_id=request_id,
        timeout_s=_timeout_s(request.parameters, timeout_s),
        wait=wait,
    )
    if wanted is None or ERRORS not in wanted:
        _require_all(asked.answers, uploads)
    description = asked.version.detector.description
    outputs = await runtime.workers.finish(
        lambda: encode_outputs(asked.answers, wanted, description, masks=options.masks == "rle")
    )
    facts = {
        "model": f"{asked.version.model}:{asked.version.label}",
        "images": len(uploads),
        "batch": max(answer.batch_size or 0 for answer in asked.answers),
    }
    answer = InferAnswer(
        asked.version.model, asked.version.label, request.id or request_id, outputs
    )
    return Inferred(answer, facts)


def _options(
    parameters: dict[str, Any], wanted: list[str] | None, model: str, version: str | None
) -> PredictOptions:
    """The options of the prediction: the parameters that are none of the protocol's own.

    Masks are made only if they are asked for: they cost most of what an answer does.
    """
    for name in _UNSUPPORTED:
        if name in parameters:
            raise Unprocessable("unsupported_parameter", f"The parameter {name} is not supported.")
    for name, reason in _SAID_ELSEWHERE.items():
        if name in parameters:
            raise Unprocessable("invalid_option", f"Leave the parameter {name} out: {reason}.")
    given = {name: value for name, value in parameters.items() if name not in _OURS}
    masks = given.get("masks", "rle")
    if masks not in ("rle", "none") or (masks == "none" and MASKS in (wanted or ())):
        raise Unprocessable(
            "invalid_option",
            f"The parameter masks is rle, for the output {MASKS}, or none, without that output.",
            option="masks",
        )
    if wanted is not None and MASKS not in wanted:
        masks = "none"
    given["masks"] = masks
    return PredictOptions.parse(given | {"model": model, "version": version})


def _timeout_s(parameters: dict[str, Any], timeout_s: float | None) -> float | None:
    """The shorter one of the call's deadline and the parameter ``timeout``, in microseconds."""
    given = parameters.get("timeout")
    if given is None:
        return timeout_s
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise invalid_request("The parameter timeout is a whole number of microseconds.")
    # 0 is Triton's word for none.
    seconds = given / 1e6 if given else None
    return min((s for s in (seconds, timeout_s) if s is not None), default=None)


def _require_all(answers: list[ImageAnswer], uploads: list[Upload]) -> None:
    """The protocol has no place for the error of one image, so it is the request's."""
    for upload, answer in zip(uploads, answers, strict=True):
        error = answer.error
        if error is None:
            continue
        if len(uploads) > 1:
            error = _about(upload.name, error)
        raise error


def _about(name: str, error: ApiError) -> ApiError:
    told = ApiError(
        error.code,
        f"{name}: {error.message} (Name the output {ERRORS} to have the other images answered.)",
        **error.details,
    )
    told.status = error.status
    told.headers.update(error.headers)
    return told
