"""What a protocol does around :meth:`Pipeline.predict`: check, reserve, bind the version, let go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from service.encoding.instances import Selection
from service.inference.pipeline import ImageAnswer
from service.repository.served import CURRENT
from service.repository.version import ModelVersion, RequestLease
from service.routes.predict import check_proposals, check_views, counting_refusals
from service.runtime import Runtime
from service.schemas.options import PredictOptions
from service.uploads import Upload

Answers = list[ImageAnswer]


@dataclass(frozen=True)
class Asked:
    """What became of a request's images, and the version that all of them are from."""

    version: ModelVersion
    answers: Answers


async def as_it_comes(work: Awaitable[Answers]) -> Answers:
    """The result of ``work``, of a request that is cancelled itself when its client leaves."""
    return await work


async def ask(
    runtime: Runtime,
    uploads: Sequence[Upload],
    options: PredictOptions,
    *,
    request_id: str,
    timeout_s: float | None = None,
    wait: Callable[[Awaitable[Answers]], Awaitable[Answers]] = as_it_comes,
) -> Asked:
    """Predict the images of one request. Tokens and readiness are checked before.

    Args:
        runtime: the server.
        uploads: the images.
        options: of the request; they name model and version.
        request_id: its id.
        timeout_s: how long it may take; None, and at most, what the settings say.
        wait: ends the work when the client leaves.

    Raises:
        ApiError: the request as a whole is refused; an image that alone cannot be used has its error
            in its answer.
    """
    model = runtime.repository.get(options.model)
    # Refuse before any work.
    named = model.resolve(options.version)
    selection = Selection.resolve(options, named.detector.description)
    check_views(selection.tta, runtime.settings)
    check_proposals(options, len(uploads))
    most = runtime.settings.request_timeout_s
    with counting_refusals(runtime, model.name, len(uploads)):
        runtime.scheduler.reserve(len(uploads))
    lease = RequestLease()
    try:
        if options.version not in (None, CURRENT) and not lease.bind(named):
            raise model.not_loaded(named.label)  # it was unloaded since
        answers = await wait(
            runtime.pipeline.predict(
                uploads,
                model,
                options,
                lease,
                timeout_s=most if timeout_s is None else min(timeout_s, most),
                request_id=request_id,
            )
        )
    finally:
        lease.end()
        runtime.scheduler.unreserve(len(uploads))
    return Asked(lease.version or model.current, answers)
