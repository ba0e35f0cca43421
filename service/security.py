"""Who may use the admin routes, and which paths on disk a request may name."""

from __future__ import annotations

import hmac
import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.errors import Forbidden, Unauthorized

_METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_PROXY_HEADERS = ("forwarded", "via", "x-real-ip")


class AdminGuard:
    """Lets through an admin: by token, or without a configured token from this machine alone.

    Without a token the rules keep web pages out, cross-site ones and those behind DNS rebinding,
    since a page in a local browser also comes from loopback. Clients of a Unix socket have no
    address and are refused: such sockets serve proxies, which act for anybody. A proxy on this
    machine that adds no forwarding header cannot be told from a local client: set a token then.
    """

    def __init__(self, token: str | None) -> None:
        """Guard with ``token``; an empty one, as an unset variable leaves it, counts as None."""
        self._token = token.strip().encode() if token else b""

    async def __call__(self, request: HTTPConnection) -> None:
        """``check`` as a FastAPI dependency: ``dependencies=[Depends(guard)]``."""
        self.check(request)

    def check(self, request: HTTPConnection) -> None:
        """Return if the request may do what an admin may.

        Raises:
            Unauthorized: ``admin_token_required`` or ``admin_token_wrong``: a token is configured.
            Forbidden: ``admin_forbidden``: none is, and the request is not surely a local one.
        """
        if self._token:
            self._check_token(request)
            return
        problem = _reason_against_local(request)
        if problem:
            raise Forbidden(
                "admin_forbidden",
                f"Without an admin token these routes are open to local requests only, and {problem}. "
                "Or set DETSERVE_ADMIN_TOKEN on the server and send it as a bearer token.",
            )

    def _check_token(self, request: HTTPConnection) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            given = request.headers.get("x-admin-token", "")
        given = given.strip()
        # On bytes and in constant time; headers are latin-1 by the time they are text.
        if given and hmac.compare_digest(given.encode("latin-1", "replace"), self._token):
            return
        error = (
            Unauthorized("admin_token_wrong", "The admin token is wrong.")
            if given
            else Unauthorized(
                "admin_token_required",
                "This route needs the admin token: send Authorization: Bearer <token>.",
            )
        )
        error.headers["WWW-Authenticate"] = 'Bearer realm="detserve admin"'
        raise error


def resolve_under(root: Path, candidate: str) -> Path:
    """``candidate``, relative to ``root`` or absolute, as a real path inside ``root``.

    Symlinks are followed before the check, so that none leads out. Nothing is percent-decoded. The
    path need not exist; who can write under ``root`` can change it after the check.

    Raises:
        Forbidden: ``path_outside_root``, with the same words whether or not the file exists.
    """
    try:
        real_root = root.resolve()
        path = (real_root / candidate).resolve()
        if path.is_relative_to(real_root):
            return path
    except (OSError, RuntimeError, ValueError):
        # A symlink loop, a NUL, or a path too long for the system: no way to know, so no.
        pass
    raise Forbidden(
        "path_outside_root",
        "The path does not lie under the model root; name one relative to the root.",
    )


def _reason_against_local(request: HTTPConnection) -> str | None:
    """Why the request may not be an admin's on this machine; None if it may be."""
    headers = request.headers
    if request.client is None or not _is_loopback_address(request.client.host):
        return "this one comes from elsewhere"
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in headers):
        return "this one came through a proxy"
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not _is_loopback_host(hosts[0]):
        return "the Host of this one is not a loopback name"
    origins = headers.getlist("origin")
    if origins and (len(origins) != 1 or not _is_same_origin(origins[0], hosts[0])):
        return "this one comes from a web page of another origin"
    # "same-site" is a page on another port of localhost.
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "this one comes from a web page of another site"
    if request.scope.get("method") not in _METHODS_WITHOUT_BODY:
        # A page cannot send this type to another origin without asking first.
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            return "this one lacks the header Content-Type: application/json"
    return None


def _is_loopback_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def _is_loopback_host(host: str) -> bool:
    """Whether a Host header, with or without a port, names loopback: no DNS is asked."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", host)
    if match is None:
        return False
    name = match.group(1)
    return name.lower() == "localhost" or _is_loopback_address(name.strip("[]"))


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
