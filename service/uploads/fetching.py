"""Fetches those images of a request that it names by URL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from service.errors import ApiError, TooLarge
from service.uploads.remote import RemoteLimits, fetch
from service.uploads.upload import Upload, UploadLimits

AT_A_TIME = 8
"""Of one request."""


async def fetch_uploads(uploads: Sequence[Upload], limits: UploadLimits) -> list[Upload]:
    """The uploads, none of them with a URL any more: with its bytes, or with an error of its own.

    What all of them bring in is no more than a request's body may have. Cancelling it ends every fetch.
    """
    remote = limits.remote
    if remote is None or not any(upload.url for upload in uploads):
        return list(uploads)
    budget = _Budget(limits.max_body_bytes)
    turn = asyncio.Semaphore(AT_A_TIME)
    return list(
        await asyncio.gather(*(_fetch_one(upload, remote, budget, turn) for upload in uploads))
    )


class _Budget:
    """Bytes that the URLs of one request may bring in together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spent = 0

    def spend(self, number: int) -> None:
        """Count ``number`` bytes. Raises :class:`TooLarge`."""
        self._spent += number
        if self._spent > self._limit:
            raise TooLarge(
                "urls_too_large",
                f"The URLs of this request bring in more than {self._limit} bytes together; send this "
                "one in a request of its own.",
                limit=self._limit,
                value=self._spent,
            )


async def _fetch_one(
    upload: Upload, remote: RemoteLimits, budget: _Budget, turn: asyncio.Semaphore
) -> Upload:
    if upload.url is None:
        return upload
    try:
        async with turn:
            return Upload.of(upload.name, await fetch(upload.url, remote, spend=budget.spend))
    except ApiError as error:
        return Upload(upload.name, None, error)
