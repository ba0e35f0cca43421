"""The body of a batch: a form of many files, or one zip, written to disk as it arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.batches.archive import MAGIC, Archive, ArchiveLimits
from service.batches.sources import ImageSource
from service.batches.spool import SpoolFolder
from service.errors import ApiError, Unprocessable, UnsupportedMediaType
from service.uploads.body import iter_body
from service.uploads.multipart import Form, feed_form, no_images
from service.uploads.upload import Upload, UploadLimits

ARCHIVE = "batch.zip"
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
ACCEPTED = ("multipart/form-data", ZIP_TYPES[0])
_WRITE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ReceivedBatch:
    """The images of a batch, and the options that came beside them."""

    source: ImageSource
    options: dict[str, Any]


async def read_batch(
    request: Request, folder: SpoolFolder, limits: UploadLimits, archive: ArchiveLimits
) -> ReceivedBatch:
    """The images of the request, on disk in ``folder``.

    A form holds images in the fields of ``/predict``, or one zip, and options. A zip may be the whole
    body too: then it is never in memory as a whole.

    Args:
        request: its body is read.
        folder: where it goes.
        limits: on the body, and ``max_images``.
        archive: on what is in a zip; its ``max_image_bytes`` bounds a file of a form too.

    Raises:
        UnsupportedMediaType: ``unsupported_content_type``, ``unsupported_content_encoding``.
        BadRequest: ``malformed_multipart``.
        Unprocessable: ``no_images``, ``mixed_batch``, ``invalid_archive``, ``unknown_field``.
        TooLarge, QueueFull, RequestTimeout, ClientDisconnected: as it comes.
        OSError: the disk takes no more.
    """
    kind = parse_options_header(request.headers.get("content-type"))[0].decode("latin-1").strip()
    if kind in ZIP_TYPES:
        await _write_body(request, folder, limits)
        return ReceivedBatch(await _open(folder.path / ARCHIVE, archive), {})
    if kind == "multipart/form-data":
        return await _read_form(request, folder, limits, archive)
    raise UnsupportedMediaType(
        "unsupported_content_type",
        f"The Content-Type is not accepted; send a batch as one of {', '.join(ACCEPTED)}.",
        accepted=list(ACCEPTED),
    )


async def _write_body(request: Request, folder: SpoolFolder, limits: UploadLimits) -> None:
    pending = bytearray()
    async for chunk in iter_body(request, limits):
        pending += chunk
        if len(pending) >= _WRITE_BYTES:
            await asyncio.to_thread(folder.append, ARCHIVE, bytes(pending))
            pending.clear()
    await asyncio.to_thread(folder.append, ARCHIVE, bytes(pending))


async def _read_form(
    request: Request, folder: SpoolFolder, limits: UploadLimits, archive: ArchiveLimits
) -> ReceivedBatch:
    form = Form(limits, max_image_bytes=archive.max_image_bytes)
    files = _Files(folder)
    async for _ in feed_form(request, form, limits):
        if form.uploads:
            uploads, form.uploads = form.uploads, []
            await asyncio.to_thread(files.write, uploads)
    if files.zips and len(files.names) > 1:
        raise Unprocessable(
            "mixed_batch", "A batch is one zip or several images; this form has a zip and more."
        )
    if files.zips:
        return ReceivedBatch(await _open(files.path(0), archive), form.options)
    if not files.names:
        raise no_images()
    return ReceivedBatch(files, form.options)


async def _open(path: Path, limits: ArchiveLimits) -> Archive:
    return await asyncio.to_thread(Archive, path, limits)


class _Files:
    """The files of a form, some of which are errors; an :class:`ImageSource`."""

    def __init__(self, folder: SpoolFolder) -> None:
        self.names: list[str] = []
        self.zips = 0
        self._folder = folder
        self._errors: dict[int, ApiError] = {}

    def path(self, index: int) -> Path:
        """Where a file lies."""
        return self._folder.path / f"{index:06}"

    def write(self, uploads: list[Upload]) -> None:
        """Add files; on a thread that may wait for the disk."""
        for upload in uploads:
            index = len(self.names)
            if upload.data is not None:
                self.zips += upload.data.startswith(MAGIC)
                self._folder.append(self.path(index).name, upload.data)
            elif upload.error is not None:
                self._errors[index] = upload.error
            self.names.append(upload.name)

    def read(self, index: int) -> bytes:
        """See :class:`ImageSource`."""
        if index in self._errors:
            raise self._errors[index]
        return self.path(index).read_bytes()

    def close(self) -> None:
        """See :class:`ImageSource`."""
