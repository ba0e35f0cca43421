"""``fetch``: the bytes behind a URL that somebody else chose, without becoming their way in.

Such a URL may lead to the server's own network. So a name is resolved once, every address that it has
must be public, and the connection goes to the address that was looked at: a name that leads elsewhere
a moment later changes nothing. TLS is checked against the name all the same. Redirects begin anew.
Nothing of the environment is used: no proxy, no ``.netrc``, no cookies.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from service import __version__
from service.errors import TooLarge, Unprocessable
from service.uploads.addresses import Target, host_matches, is_public, not_allowed, parse_target

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A host's name and a port -> its addresses; raises OSError or UnicodeError where it has none."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRIED_ADDRESSES = 3
_OWN_HEADERS = frozenset({"host", "accept-encoding", "cookie", "connection", "content-length"})


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """The certificates of ``certifi``, read once; nobody changes it."""
    return httpx.create_ssl_context(trust_env=False)


class Network:
    """How a server reaches others.

    Args:
        resolve: default: the system's resolver, on threads of this network alone, since a slow one
            would keep those that others wait for.
        transport: makes what opens a connection. It is given addresses, never names; default: httpx's.
        max_fetches: at a time; more wait.
    """

    def __init__(
        self,
        *,
        resolve: Resolve | None = None,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        max_fetches: int = 32,
    ) -> None:
        self.resolve = resolve or self._ask_system
        self._transport = transport
        self.places = asyncio.Semaphore(max_fetches)
        # Threads begin with the first name.
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="resolver")

    async def transport(self) -> httpx.AsyncBaseTransport:
        """A new one, to be closed."""
        if self._transport is not None:
            return self._transport()
        # Reading the certificates takes some hundredths of a second, the first time.
        context = await asyncio.to_thread(_tls_context)
        return httpx.AsyncHTTPTransport(verify=context, trust_env=False)

    async def _ask_system(self, host: str, port: int) -> list[str]:
        ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, kw_only=True)
class RemoteLimits:
    """Where a URL may lead, and what it may cost.

    Attributes:
        max_bytes: of one file.
        total_s: from the first look at a URL to its last byte, redirects included.
        idle_s: the longest silence.
        max_redirects: followed at most.
        schemes: ``https``, and ``http`` where that is wanted.
        ports: of the URL.
        hosts: names, or ``*.example.org``; empty: all.
        trusted_origins: such as ``http://label-studio:8080``, of the operator: there alone addresses,
            schemes, ports and ``hosts`` are not looked at. No redirect leads to one from elsewhere.
        network: the way out.
    """

    max_bytes: int = 64 * 2**20
    total_s: float = 20.0
    idle_s: float = 5.0
    max_redirects: int = 3
    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] = frozenset({80, 443})
    hosts: tuple[str, ...] = ()
    trusted_origins: frozenset[str] = frozenset()
    network: Network = field(default_factory=Network)

    def _is_trusted(self, target: Target) -> bool:
        return any(target.origin == parse_target(origin).origin for origin in self.trusted_origins)

    def check(self, target: Target, *, coming_from: Target | None) -> bool:
        """Whether ``target`` is trusted; its addresses are left to look at if it is not.

        Raises:
            Unprocessable: ``url_not_allowed``.
        """
        if self._is_trusted(target) and (
            coming_from is None or coming_from.origin == target.origin
        ):
            return True
        if target.scheme not in self.schemes:
            raise not_allowed(
                f"URLs of {target.scheme} are not fetched here; use {' or '.join(sorted(self.schemes))}."
            )
        if target.port not in self.ports:
            ports = ", ".join(map(str, sorted(self.ports)))
            raise not_allowed(f"Port {target.port} is not fetched from; allowed: {ports}.")
        if self.hosts and not host_matches(target.host, self.hosts):
            raise not_allowed(
                f"The host {target.host!r} is none of those that this server fetches from (url_hosts)."
            )
        return False


async def fetch(
    url: str,
    limits: RemoteLimits,
    *,
    headers: Mapping[str, str] | None = None,
    spend: Callable[[int], None] | None = None,
) -> bytes:
    """The bytes behind ``url``.

    Args:
        url: absolute, https unless ``limits`` say otherwise.
        limits: where it may lead, and what it may cost.
        headers: such as ``Authorization``; a redirect to another origin gets none of them.
        spend: told of the bytes as they come; what it raises ends the fetch.

    Raises:
        Unprocessable: ``url_not_allowed``, ``url_failed``.
        TooLarge: ``url_too_large``.
    """
    try:
        async with asyncio.timeout(limits.total_s), limits.network.places:
            return await _follow(url, limits, dict(headers or {}), spend)
    except TimeoutError:
        raise url_failed(f"it was not there after {limits.total_s:g} s") from None


def url_failed(reason: str) -> Unprocessable:
    """A URL that may be fetched, and cannot be."""
    return Unprocessable(
        "url_failed",
        f"The URL could not be fetched: {reason}. Send the bytes of the image instead.",
    )


async def _follow(
    url: str,
    limits: RemoteLimits,
    headers: dict[str, str],
    spend: Callable[[int], None] | None,
) -> bytes:
    previous: Target | None = None
    for _ in range(limits.max_redirects + 1):
        target = parse_target(url)
        addresses = await _addresses(target, limits, previous)
        if previous is not None and previous.origin != target.origin:
            headers = {}
        answer = await _get(target, addresses, limits, headers, spend)
        if isinstance(answer, bytes):
            return answer
        url, previous = str(answer), target
    raise url_failed(f"it redirects more than {limits.max_redirects} times")


async def _addresses(target: Target, limits: RemoteLimits, previous: Target | None) -> list[str]:
    """The addresses of a target that may be asked, each once."""
    trusted = limits.check(target, coming_from=previous)
    if target.literal is not None:
        found: Sequence[str] = [target.literal]
    else:
        try:
            found = await limits.network.resolve(target.host, target.port)
        except (OSError, UnicodeError):
            found = []
    # The same words for a name that is unknown and one that leads inside: nobody maps a network here.
    if not found or not (trusted or all(map(is_public, found))):
        raise not_allowed(
            f"The host {target.host!r} has no public address: it is unknown, or inside a private network."
        )
    return list(dict.fromkeys(found))[:_TRIED_ADDRESSES]


async def _get(
    target: Target,
    addresses: Sequence[str],
    limits: RemoteLimits,
    headers: Mapping[str, str],
    spend: Callable[[int], None] | None,
) -> bytes | httpx.URL:
    """The body, or where it redirects to; from the first address that can be reached."""
    for address in addresses:
        try:
            async with await limits.network.transport() as transport:
                request = _request(target, address, limits, headers)
                response = await transport.handle_async_request(request)
                try:
                    if response.status_code in _REDIRECTS and "location" in response.headers:
                        return _location(target, response)
                    return await _read(response, limits, spend)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = "its certificate is not valid" if _is_certificate(error) else "no connection"
        except httpx.TimeoutException:
            raise url_failed(f"it was silent for {limits.idle_s:g} s") from None
        except (httpx.TransportError, httpx.StreamError):
            raise url_failed("its server broke off, or does not speak HTTP") from None
    raise url_failed(reason)


def _request(
    target: Target, address: str, limits: RemoteLimits, headers: Mapping[str, str]
) -> httpx.Request:
    """A request to ``address``, which thinks that it is called by its name."""
    own = {
        "Host": target.host_header,
        "User-Agent": f"detserve/{__version__}",
        "Accept": "image/*, */*;q=0.5",
        # What is counted must be what was sent.
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    given = {name: text for name, text in headers.items() if name.lower() not in _OWN_HEADERS}
    extensions: dict[str, object] = {"timeout": httpx.Timeout(limits.idle_s).as_dict()}
    if target.literal is None:
        extensions["sni_hostname"] = target.host
    return httpx.Request(
        "GET", target.url.copy_with(host=address), headers=own | given, extensions=extensions
    )


def _location(target: Target, response: httpx.Response) -> httpx.URL:
    try:
        return target.url.join(response.headers["location"])
    except httpx.InvalidURL:
        raise url_failed("it redirects to what is no URL") from None


async def _read(
    response: httpx.Response, limits: RemoteLimits, spend: Callable[[int], None] | None
) -> bytes:
    if response.status_code != 200:
        raise url_failed(f"its server answers with status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise url_failed("its server compresses what should come as it is")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limits.max_bytes:
        raise _too_large(int(declared[:20]), limits)
    received, chunks = 0, []
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > limits.max_bytes:
            raise _too_large(received, limits)
        if spend is not None:
            spend(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(size: int, limits: RemoteLimits) -> TooLarge:
    return TooLarge(
        "url_too_large",
        f"The file behind the URL has {size} bytes or more; the limit is {limits.max_bytes} bytes.",
        limit=limits.max_bytes,
        value=size,
    )


def _is_certificate(error: BaseException | None) -> bool:
    """Whether a certificate is behind ``error``, however deep."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
