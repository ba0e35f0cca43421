"""Uploading a version: one request for each file, then one that checks them and makes the version.

Off unless the operator allows it, and for admins alone. No file is kept in memory: it goes to disk
piece by piece, beside the versions, where nothing loads it before it was checked.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.audit import admin_call
from service.errors import BadRequest, Forbidden, TooLarge, Unprocessable
from service.repository.disk.folder import RepositoryFolder
from service.repository.disk.manifest import FileEntry
from service.repository.disk.names import check_name
from service.repository.disk.staging import StagingFolder, check_file_name, remove_stale_uploads
from service.routes import answer_docs, body_docs, error_docs, runtime_of
from service.schemas.uploads import CompleteRequest, UploadedFile, UploadedVersion
from service.uploads import UploadLimits, parse_json, read_body
from service.uploads.body import iter_body

P = ParamSpec("P")
T = TypeVar("T")

COMPLETE_LIMITS = UploadLimits(max_body_bytes=2**20)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_REFUSALS = (
    (401, "admin_token_required", "This route needs the admin token."),
    (403, "admin_forbidden", "Admin routes are open to local requests only."),
    (403, "upload_disabled", "This server takes no uploads; start it with --allow-upload."),
    (409, "upload_running", "Another upload to version '2' of 'shapes' is running."),
    (409, "version_exists", "'shapes' has a version '2', and versions are immutable."),
    (422, "invalid_name", "'../x' is no name of a version."),
)

router = APIRouter(tags=["admin"])


@router.put(
    "/models/{name}/versions/{version}/files/{file:path}",
    status_code=201,
    responses=answer_docs((201, UploadedFile, "The file has arrived."))
    | error_docs(
        *_REFUSALS,
        (400, "incomplete_body", "The request body ended early."),
        (408, "request_timeout", "The request body arrived too slowly."),
        (413, "upload_too_large", "This version would have 5000000000 bytes."),
        (422, "invalid_file_name", "A version has no file of this name."),
        (422, "hash_differs", "What arrived has another SHA-256 than announced."),
        (507, "disk_full", "The disk of the model repository does not hold it."),
    ),
    openapi_extra={
        "parameters": [
            {
                "name": "X-Content-SHA256",
                "in": "header",
                "required": False,
                "description": "SHA-256 that the file has to have, in hexadecimal.",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        },
    },
)
async def upload_file(request: Request, name: str, version: str, file: str) -> Response:
    """Upload one file of a new version; an earlier one of that name is replaced.

    The files are config.yaml, labels.txt, stuff_labels.txt, keypoints.json, model.yaml, golden.json,
    pictures in golden/, and model_final.safetensors, .pth or .pkl. No client sees them before the
    version is completed.
    """
    facts = {"model": name, "version": version, "file": file}
    async with admin_call(
        request, "upload", content_type="application/octet-stream", **facts
    ) as call:
        repository = _repository(request)
        check_file_name(file)
        announced = _announced_hash(request)
        async with _staged(repository, name, version, create=True) as staged:
            entry = await _receive(request, staged, file, announced)
        call.status = 201
        call.facts(size=entry.size, sha256=entry.sha256)
    return _json({"name": file, "size": entry.size, "sha256": entry.sha256}, 201)


@router.post(
    "/models/{name}/versions/{version}/complete",
    status_code=201,
    responses=answer_docs((201, UploadedVersion, "The version is complete."))
    | error_docs(
        *_REFUSALS,
        (404, "unknown_upload", "No upload of version '2' of 'shapes' has begun."),
        (422, "model_refused", "The file refers to os.system, which is not allowed."),
        (422, "files_differ", "What arrived is not what was announced."),
        (507, "disk_full", "The disk of the model repository does not hold it."),
    ),
    openapi_extra=body_docs(
        CompleteRequest,
        {
            "all": {"summary": "What has arrived", "value": {}},
            "these": {
                "summary": "Exactly these files",
                "value": {"files": {"config.yaml": "0a" * 32, "model_final.pth": "1b" * 32}},
            },
        },
    ),
)
async def complete_upload(request: Request, name: str, version: str) -> Response:
    """Check the files that have arrived, and make them a version, which can be promoted then.

    The weights are read by readers that run nothing of what a file holds, and must fit the config.
    What fails is removed.
    """
    async with admin_call(request, "complete_upload", model=name, version=version) as call:
        repository = _repository(request)
        async with _staged(repository, name, version, create=False) as staged:
            announced = _announced_files(await read_body(request, COMPLETE_LIMITS))
            done = await _in_thread(staged.complete, announced)
            manifest = await _in_thread(done.manifest)
        call.status = 201
        call.facts(digest=manifest.digest)
    files = [
        {"name": file, "size": entry.size, "sha256": entry.sha256}
        for file, entry in manifest.files.items()
    ]
    answer = {"model": name, "version": version, "digest": manifest.digest, "files": files}
    return _json(answer, 201)


@router.delete(
    "/models/{name}/versions/{version}/upload",
    status_code=204,
    response_class=Response,
    responses=error_docs(
        *_REFUSALS, (404, "unknown_upload", "No upload of version '2' of 'shapes' has begun.")
    ),
)
async def drop_upload(request: Request, name: str, version: str) -> Response:
    """Remove the files of a version that was not completed."""
    async with admin_call(request, "drop_upload", model=name, version=version) as call:
        repository = _repository(request)
        async with _staged(repository, name, version, create=False) as staged:
            await _in_thread(staged.drop)
        call.status = 204
    return Response(status_code=204)


def _repository(request: Request) -> RepositoryFolder:
    """Where versions go. Raises :class:`Forbidden`: ``upload_disabled``."""
    settings = runtime_of(request).settings
    if not settings.allow_upload or settings.repository is None:
        raise Forbidden(
            "upload_disabled",
            "This server takes no uploads; start it with --allow-upload (DETSERVE_ALLOW_UPLOAD=true) "
            "and --repository, or put the version into the repository with detserve models add.",
        )
    return RepositoryFolder(settings.repository)


@asynccontextmanager
async def _staged(
    repository: RepositoryFolder, model: str, version: str, *, create: bool
) -> AsyncIterator[StagingFolder]:
    """The files of this version that have arrived, for this request alone."""
    check_name("model", model)
    check_name("version", version)
    if create:  # what others have abandoned goes when the next one begins
        await _in_thread(remove_stale_uploads, repository.root)
    folder = await _in_thread(repository.create_model if create else repository.model, model)
    staged = StagingFolder(folder, version)
    try:
        await _in_thread(staged.open, create=create)
        yield staged
    finally:
        await _in_thread(staged.close)


async def _receive(
    request: Request, staged: StagingFolder, name: str, announced: str | None
) -> FileEntry:
    """The body of the request as one file of the version."""
    settings = runtime_of(request).settings
    limit = settings.max_upload_bytes
    room = await _in_thread(staged.room_for, name, limit)
    declared = request.headers.get("content-length", "")
    length = int(declared[:20]) if declared.isdecimal() else None
    if length is not None and length > room:
        raise _too_large(limit - room + length, limit)
    # The size is counted here, against what the version has already, so not there too.
    limits = UploadLimits(max_body_bytes=sys.maxsize, body_timeout_s=settings.body_timeout_s)
    received = 0
    await _in_thread(staged.begin)
    async for chunk in iter_body(request, limits):
        received += len(chunk)
        if received > room:
            raise _too_large(limit - room + received, limit)
        await _in_thread(staged.write, chunk)
    if length is not None and received != length:
        raise BadRequest(
            "incomplete_body",
            f"The request body has {received} bytes where {length} were declared; send it again.",
        )
    return await _in_thread(staged.finish, name, announced)


def _announced_hash(request: Request) -> str | None:
    given = request.headers.get("x-content-sha256")
    if given is not None and _SHA256.fullmatch(given) is None:
        raise Unprocessable(
            "invalid_hash", "X-Content-SHA256 is not the 64 hexadecimal digits of a SHA-256."
        )
    return given.lower() if given is not None else None


def _announced_files(body: bytes) -> dict[str, str] | None:
    if not body.strip():
        return None
    try:
        return CompleteRequest.model_validate(parse_json(body, COMPLETE_LIMITS)).files
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))[:100]
        raise Unprocessable(
            "invalid_option",
            f'{place}: {problem["msg"]}. The body is {{"files": {{name: sha256}}}}, or empty.',
            option=place,
        ) from None


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(
        "upload_too_large",
        f"This version would have {size} bytes or more; the limit is {limit} bytes "
        "(--max-upload-bytes).",
        limit=limit,
        value=size,
    )


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``asyncio.to_thread``, but if it is cancelled, it ends only when the function has: what that
    works on is closed next."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise


def _json(content: object, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
