"""One batch job: what it is to do, how far it is, and its results as lines in a file."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from service.batches.parts import BatchParts
from service.batches.sources import ImageSource
from service.batches.spool import SpoolFolder
from service.encoding.formats.native import native_line
from service.errors import ApiError
from service.inference.detector import ModelDescription
from service.inference.pipeline import ImageAnswer
from service.repository.version import ModelVersion

RESULTS = "results.ndjson"
_READ_BYTES = 256 * 1024

State = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]

_ENDED_EARLY = {
    "cancelled": "The batch was cancelled; the images that are missing here were not predicted.",
    "interrupted": "The server has stopped; send the images that are missing here again.",
}


class BatchJob:
    """A job; on the event loop alone.

    Args:
        source: its images.
        folder: where its results go.
        model: the name of the model.
        coco: whether the options were such that the results can be COCO's.

    Attributes:
        state: ``running``, then how it ended: ``succeeded``, whatever its images' own errors;
            ``failed``, with ``error``; ``cancelled``; ``interrupted`` by the server's end.
        done: images whose line is written.
        parts: how far the images are, tile by tile.
        errors: those of them that have an error in the place of an answer.
        versions: how many images each version of the model has answered.
        descriptions: of these versions.
        error: why it failed.
    """

    def __init__(
        self, source: ImageSource, folder: SpoolFolder, *, model: str, coco: bool = False
    ) -> None:
        self.id = uuid.uuid4().hex
        self.source = source
        self.folder = folder
        self.model = model
        self.coco = coco
        self.total = len(source.names)
        self.state: State = "running"
        self.done = 0
        self.parts = BatchParts(self.total)
        self.errors = 0
        self.versions: Counter[str] = Counter()
        self.descriptions: dict[str, ModelDescription] = {}
        self.error: ApiError | None = None
        self.created_at = time.time()
        self.finished_at: float | None = None
        self.expires_at: float | None = None
        self._started = time.monotonic()
        self._written = 0
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state != "running"

    @property
    def parts_done(self) -> int:
        """Parts that are predicted; once nothing more comes, those of the images with a line alone."""
        return self.parts.ended if self.ended else self.parts.done

    @property
    def eta_s(self) -> float | None:
        """Seconds that the rest will take, if it goes on as so far; None before the first part."""
        if self.ended:
            return 0.0
        if not self.parts.done:
            return None
        return (time.monotonic() - self._started) / self.parts.done * self.parts.left

    async def add(self, index: int, answer: ImageAnswer, version: ModelVersion | None) -> None:
        """Note what became of one image.

        Args:
            index: its place.
            answer: to it.
            version: that answered it; None if it did not come so far.

        Raises:
            ApiError, OSError: there is no room for it.
        """
        async with self._writing:
            self._written += await asyncio.to_thread(self._append, index, answer, version)
            self.done += 1
            self.parts.end(index)
            if answer.error is not None:
                self.errors += 1
            elif version is not None:
                self.versions[version.label] += 1
                self.descriptions[version.label] = version.detector.description
        self._tell()

    def _append(self, index: int, answer: ImageAnswer, version: ModelVersion | None) -> int:
        line = native_line(index, answer, request_id=self.id, version=version)
        self.folder.append(RESULTS, line)
        return len(line)

    def end(self, state: State, error: ApiError | None = None) -> None:
        """It is over; the first call counts."""
        if not self.ended:
            self.state, self.error, self.finished_at = state, error, time.time()
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def results(self) -> AsyncIterator[bytes]:
        """The lines so far, then those that come, until the job ends. One that does not succeed ends
        with a line that has an ``error`` and no image."""
        position = 0
        while True:
            changed = self._changed
            if position < self._written:
                chunk = await asyncio.to_thread(self._read, position)
                if not chunk:
                    break  # it was deleted
                position += len(chunk)
                yield chunk
            elif self.ended:
                break
            else:
                await changed.wait()
        problem = self._problem()
        if problem is None and position < self._written:
            problem = {"code": "batch_deleted", "message": "The batch was deleted meanwhile."}
        if problem is not None:
            yield orjson.dumps({"error": problem}, option=orjson.OPT_APPEND_NEWLINE)

    def _read(self, position: int) -> bytes:
        try:
            with (self.folder.path / RESULTS).open("rb") as file:
                file.seek(position)
                return file.read(min(_READ_BYTES, self._written - position))
        except FileNotFoundError:
            return b""

    def _problem(self) -> dict[str, Any] | None:
        if self.error is not None:
            return self.error.body()
        message = _ENDED_EARLY.get(self.state)
        return {"code": f"batch_{self.state}", "message": message} if message else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        path = f"/predict/batch/{self.id}"
        return {
            "id": self.id,
            "state": self.state,
            "model": self.model,
            "total": self.total,
            "done": self.done,
            "errors": self.errors,
            "parts_done": self.parts_done,
            "parts_total": self.parts.total,
            "versions": dict(self.versions),
            "eta_s": None if self.eta_s is None else round(self.eta_s, 3),
            "created_at": _time(self.created_at),
            "finished_at": _time(self.finished_at),
            "expires_at": _time(self.expires_at),
            "status": path,
            "result": f"{path}/result",
            "error": self._problem(),
        }


def _time(at: float | None) -> str | None:
    return (
        None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    )
