"""What a protocol does around :meth:`Pipeline.predict`: check, reserve, bind the version, let go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.encoding.instances import Selection
from service.errors import QueueFull, Unprocessable
from service.inference.detector import Views
from service.inference.pipeline import ImageAnswer
from service.inference.windows.progress import Tell
from service.repository.served import CURRENT, ServedModel
from service.repository.version import ModelVersion, RequestLease
from service.runtime import Runtime
from service.schemas.options import MAX_PROPOSALS, PredictOptions
from service.settings import Settings
from service.uploads import Upload

Answers = list[ImageAnswer]
Told = Callable[[int, ImageAnswer], None]


@dataclass(frozen=True)
class Asked:
    """What became of a request's images, and the version that all of them are from."""

    version: ModelVersion
    answers: Answers


@dataclass(frozen=True)
class Asking:
    """One request for predictions, checked, on its way to the model.

    Attributes:
        runtime: the server.
        options: of the request.
        model: that it names, or the default one.
        named: the version that it names, or the current one at its begin.
        number: of its images.
        lease: binds all of them to one version.
    """

    runtime: Runtime
    options: PredictOptions
    model: ServedModel
    named: ModelVersion
    number: int
    lease: RequestLease = field(default_factory=RequestLease)

    @classmethod
    def begin(cls, runtime: Runtime, options: PredictOptions, number: int) -> Asking:
        """Refuse before any work what can be.

        Raises:
            ApiError: the request as a whole is refused.
        """
        model = runtime.repository.get(options.model)
        named = model.resolve(options.version)
        selection = Selection.resolve(options, named.detector.description)
        check_views(selection.tta, runtime.settings)
        _check_proposals(options, number)
        return cls(runtime, options, model, named, number)

    @property
    def version(self) -> ModelVersion:
        """What answers: the version that the request is bound to, once it is."""
        return self.lease.version or self.model.current

    async def answers(
        self,
        uploads: Sequence[Upload],
        *,
        timeout_s: float,
        limit_s: float | None = None,
        request_id: str,
        told: Told | None = None,
        progress: Tell | None = None,
    ) -> Answers:
        """Reserve places, predict, and let go; once.

        Args:
            uploads: the images.
            timeout_s: how long it may take from now on.
            limit_s: the limit that a missed deadline names; None: ``timeout_s``.
            request_id: its id.
            told: is told each answer as it comes, with its place.
            progress: is told the parts that are done, and those known so far, as they change.

        Raises:
            ApiError: the request as a whole is refused; an image that alone cannot be used has its
                error in its answer.
        """
        runtime, model = self.runtime, self.model
        with counting_refusals(runtime, model.name, self.number):
            runtime.scheduler.reserve(self.number)
        try:
            pinned = self.options.version not in (None, CURRENT)
            if pinned and not self.lease.bind(self.named):
                raise model.not_loaded(self.named.label)  # it was unloaded since
            return await runtime.pipeline.predict(
                uploads,
                model,
                self.options,
                self.lease,
                timeout_s=timeout_s,
                limit_s=limit_s,
                request_id=request_id,
                progress=progress,
                answered=told,
            )
        finally:
            self.lease.end()
            runtime.scheduler.unreserve(self.number)


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
    progress: Tell | None = None,
    wait: Callable[[Awaitable[Answers]], Awaitable[Answers]] = as_it_comes,
) -> Asked:
    """Predict the images of one request. Tokens and readiness are checked before.

    Args:
        runtime: the server.
        uploads: the images.
        options: of the request; they name model and version.
        request_id: its id.
        timeout_s: how long it may take; None, and at most, what the settings say.
        progress: is told how far the images are; see :meth:`Asking.answers`.
        wait: ends the work when the client leaves.

    Raises:
        ApiError: the request as a whole is refused; an image that alone cannot be used has its error
            in its answer.
    """
    asking = Asking.begin(runtime, options, len(uploads))
    most = runtime.settings.request_timeout_s
    answers = await wait(
        asking.answers(
            uploads,
            timeout_s=most if timeout_s is None else min(timeout_s, most),
            request_id=request_id,
            progress=progress,
        )
    )
    return Asked(asking.version, answers)


@contextmanager
def counting_refusals(runtime: Runtime, name: str | None, images: int = 1) -> Iterator[None]:
    """Images that find the queue full are counted for their model."""
    try:
        yield
    except QueueFull:
        model = runtime.repository.get(name)
        labels = (model.name, model.current.label, "queue_full")
        runtime.metrics.predictions.labels(*labels).inc(images)
        raise


def _check_proposals(options: PredictOptions, images: int) -> None:
    given = options.proposals
    if given is not None and len(given) != images:
        raise Unprocessable(
            "invalid_option",
            f"proposals has {len(given)} lists of boxes for {images} images; give one for each.",
            option="proposals",
        )
    if given is not None and any(len(boxes) > MAX_PROPOSALS for boxes in given):
        raise Unprocessable(
            "invalid_option",
            f"An image has more than {MAX_PROPOSALS} proposals.",
            option="proposals",
        )


def check_views(views: Views | None, settings: Settings) -> None:
    """The server's bounds on test-time augmentation, which costs a forward pass for each view."""
    if views is None:
        return
    if views.count > settings.max_tta_views:
        raise Unprocessable(
            "too_many_views",
            f"tta asks for {views.count} views of each image; this server allows "
            f"{settings.max_tta_views}. Name fewer sizes.",
            limit=settings.max_tta_views,
            value=views.count,
        )
    largest = max(views.sizes)
    if largest > settings.max_tta_size:
        raise Unprocessable(
            "view_too_large",
            f"tta asks for a short side of {largest} pixels; this server allows "
            f"{settings.max_tta_size}.",
            limit=settings.max_tta_size,
            value=largest,
        )
