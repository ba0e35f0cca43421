"""Where the picture of a task is, and its bytes: inline, in Label Studio itself, or behind a URL.

What a task says is anybody's word, so the token goes to the configured Label Studio alone, whatever a
request claims to come from, and files of this machine are never read.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from urllib.parse import unquote

import httpx

from service.errors import Unprocessable
from service.uploads.addresses import parse_target
from service.uploads.json_body import decode_base64
from service.uploads.remote import RemoteLimits, fetch, url_failed

_ACCESS_LIFE_S = 240.0
"""Label Studio's access tokens live for five minutes."""


class TaskImages:
    """Gets the pictures of tasks.

    Args:
        limits: of URLs.
        allow_urls: whether tasks may name any URL that ``limits`` allow; False: of Label Studio alone.
        url: of Label Studio, such as ``http://label-studio:8080``; None without.
        token: of a user there: the token of old, or a personal access token.
        clock: seconds, as ``time.monotonic``.
    """

    def __init__(
        self,
        limits: RemoteLimits,
        *,
        allow_urls: bool = False,
        url: str | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/") if url else None
        self._allow_urls = allow_urls
        own = parse_target(self._url) if self._url else None
        if own is not None:
            limits = dataclasses.replace(
                limits, trusted_origins=limits.trusted_origins | {own.origin}
            )
            if not allow_urls:
                # Where Label Studio redirects to is bound as well.
                limits = dataclasses.replace(limits, hosts=(own.host,))
        self._own_origin = own.origin if own is not None else None
        self._own_path = own.url.path.rstrip("/") if own is not None else ""
        self._limits = limits
        self._token = _Token(token, self._url or "", limits, clock) if token and self._url else None

    async def get(self, reference: object) -> bytes:
        """The bytes of a picture.

        Args:
            reference: what the task has for it: a data URL, a path of Label Studio, or a URL.

        Raises:
            BadRequest: ``invalid_base64``.
            Unprocessable: ``invalid_task_image``, ``label_studio_url_missing``, ``urls_disabled``, and as
                :func:`service.uploads.remote.fetch`.
            TooLarge: as there.
        """
        if not isinstance(reference, str) or not reference:
            raise Unprocessable("invalid_task_image", "The task has no text for its picture.")
        if reference[:5].lower() == "data:":
            return decode_base64(reference)
        if reference.startswith("/") and not reference.startswith("//"):
            return await self._fetch(self._absolute(reference))
        if reference[:8].lower().startswith(("http://", "https://")):
            return await self._fetch(reference)
        raise Unprocessable(
            "invalid_task_image",
            f"The picture {reference[:60]!r} is no URL that can be fetched. For cloud storages let Label "
            "Studio pre-sign URLs, or serve the files itself.",
        )

    def _absolute(self, path: str) -> str:
        if self._url is None or self._own_origin is None:
            raise Unprocessable(
                "label_studio_url_missing",
                "The picture lies in Label Studio; tell the server where that is with "
                "--label-studio-url, and give it a token with --label-studio-token.",
            )
        if ".." in unquote(path).replace("\\", "/").split("/"):
            raise Unprocessable(
                "invalid_task_image", "The path of the picture leads upwards; name it without '..'."
            )
        # Behind a prefix, paths come with it or without.
        prefixed = self._own_path and path.startswith(f"{self._own_path}/")
        return (self._own_origin if prefixed else self._url) + path

    async def _fetch(self, url: str) -> bytes:
        if not (self._own_origin and parse_target(url).origin == self._own_origin):
            if not self._allow_urls:
                raise Unprocessable(
                    "urls_disabled",
                    "URLs are not fetched here, but those of --label-studio-url; start the server with "
                    "--allow-urls for others.",
                )
            return await fetch(url, self._limits)
        headers = {} if self._token is None else {"Authorization": await self._token.header()}
        return await fetch(url, self._limits, headers=headers)


class _Token:
    """A token of Label Studio as a header. A personal access token buys one that lives for minutes."""

    def __init__(
        self, token: str, url: str, limits: RemoteLimits, clock: Callable[[], float]
    ) -> None:
        self._token = token.strip()
        self._url = url
        self._limits = limits
        self._clock = clock
        self._access = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        if self._token.count(".") != 2:  # a JSON Web Token has three parts
            return f"Token {self._token}"
        async with self._lock:
            if self._clock() >= self._until:
                self._access = await self._refreshed()
                self._until = self._clock() + _ACCESS_LIFE_S
        return f"Bearer {self._access}"

    async def _refreshed(self) -> str:
        try:
            async with httpx.AsyncClient(
                transport=await self._limits.network.transport(),
                timeout=self._limits.idle_s,
                trust_env=False,
            ) as client:
                answer = await client.post(
                    f"{self._url}/api/token/refresh", json={"refresh": self._token}
                )
                access = answer.raise_for_status().json()["access"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            access = None
        if not isinstance(access, str):
            raise url_failed("Label Studio does not take the token of --label-studio-token")
        return access
