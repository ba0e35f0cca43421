"""Who may use the admin routes and the others, and which paths on disk a request may name."""

from __future__ import annotations

import binascii
import hmac
import ipaddress
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.errors import Forbidden, Unauthorized

Authentication = Literal["token", "loopback", "open"]
"""How an admin was let through: by token, as this machine, or because admin routes are open."""

_METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
_TOKEN_HEADERS = ("x-api-key", "x-admin-token")


class AdminGuard:
    """Lets through an admin: by token, or without a configured token from this machine alone.

    A web page is never let through unless it is the server's own: neither a cross-site one nor one
    behind DNS rebinding, since a page in a browser can come from loopback, and a browser may hold
    what opens the way. Clients of a Unix socket have no address and count as elsewhere: such sockets
    serve proxies, which act for anybody. A proxy on this machine that adds no forwarding header
    cannot be told from a local client: set a token then.
    """

    def __init__(self, token: str | None, *, opened: bool = False) -> None:
        """Guard with ``token``; an empty one, as an unset variable leaves it, counts as None.

        Args:
            opened: without a token, let through other machines too.
        """
        self._token = _as_bytes(token)
        self._opened = opened

    def check(
        self, request: HTTPConnection, *, content_type: str = "application/json"
    ) -> Authentication:
        """Return how the request may do what an admin may.

        Args:
            content_type: of a request with a body; one that a page cannot send to another origin
                without asking first, so neither text, a form nor nothing at all.

        Raises:
            Unauthorized: ``admin_token_required`` or ``admin_token_wrong``: a token is configured.
            Forbidden: ``admin_forbidden``: the request may be a web page's; or no token is
                configured, the routes are not open, and the request is not surely a local one.
        """
        if self._token:
            _check_token(
                request, (self._token,), "admin_token", "the admin token", "detserve admin"
            )
            problem = _reason_against_page(request, content_type)
            if problem:
                raise Forbidden(
                    "admin_forbidden", f"Admin routes are closed to other web pages, and {problem}."
                )
            return "token"
        if self._opened:
            problem = _reason_against_rebinding(request) or _reason_against_page(
                request, content_type
            )
            if problem:
                raise Forbidden(
                    "admin_forbidden",
                    f"Open admin routes are closed to other web pages, and {problem}.",
                )
            return "open"
        problem = _reason_against_local(request) or _reason_against_page(request, content_type)
        if problem:
            raise Forbidden(
                "admin_forbidden",
                f"Without an admin token these routes are open to local requests only, and {problem}. "
                "Or set DETSERVE_ADMIN_TOKEN on the server and send it as a bearer token.",
            )
        return "loopback"


class InferenceGuard:
    """Lets through who may ask for predictions: everybody, or those with one of the two tokens."""

    def __init__(self, token: str | None, *, admin_token: str | None = None) -> None:
        """Guard with ``token``; None or an empty one lets everybody through.

        Args:
            admin_token: is taken as well, once there is a ``token``.
        """
        self._tokens = tuple(filter(None, map(_as_bytes, (token, admin_token))))
        self._guarded = bool(_as_bytes(token))

    def check(self, request: HTTPConnection) -> None:
        """Return if the request may be answered.

        Raises:
            Unauthorized: ``token_required`` or ``token_wrong``.
        """
        if self._guarded:
            _check_token(request, self._tokens, "token", "a token", "detserve")


def _as_bytes(token: str | None) -> bytes:
    return token.strip().encode() if token else b""


def _check_token(
    request: HTTPConnection, tokens: tuple[bytes, ...], code: str, name: str, realm: str
) -> None:
    """Return if the request carries one of ``tokens`` in one of the headers for it."""
    headers = request.headers
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = [bearer] if scheme.lower() == "bearer" else []
    given += [_password(bearer)] if scheme.lower() == "basic" else []
    given += [headers.get(header, "") for header in _TOKEN_HEADERS]
    given = [value.strip() for value in given if value.strip()]
    # On bytes and in constant time; headers are latin-1 by the time they are text. All are compared.
    matches = [
        hmac.compare_digest(value.encode("latin-1", "replace"), token)
        for value in given
        for token in tokens
    ]
    if any(matches):
        return
    error = (
        Unauthorized(f"{code}_wrong", f"The {code.replace('_', ' ')} is wrong.")
        if given
        else Unauthorized(
            f"{code}_required",
            f"This route needs {name}: send Authorization: Bearer <token>.",
        )
    )
    error.headers["WWW-Authenticate"] = f'Bearer realm="{realm}"'
    raise error


def _password(credentials: str) -> str:
    """Of HTTP's basic authentication, for clients that know no other; the user's name is free."""
    try:
        decoded = binascii.a2b_base64(credentials.strip(), strict_mode=True)
    except ValueError:
        return ""
    return decoded.partition(b":")[2].decode("latin-1")


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
    """Why the request may not be one of this machine; None if it may be."""
    headers = request.headers
    if request.client is None or not _is_loopback_address(request.client.host):
        return "this one comes from elsewhere"
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in headers):
        return "this one came through a proxy"
    hosts = headers.getlist("host")
    name = _host_name(hosts[0]) if len(hosts) == 1 else ""
    if name != "localhost" and not _is_loopback_address(name):
        return "the Host of this one is not a loopback name"
    return None


def _reason_against_rebinding(request: HTTPConnection) -> str | None:
    """Why a page may stand behind the request whose name leads here only since its owner says so.

    Browsers tell the origin of what may change something. No DNS is asked, so of all names only
    localhost is known to be ours; addresses cannot be bound anew.
    """
    headers = request.headers
    if "origin" not in headers:
        return None
    hosts = headers.getlist("host")
    name = _host_name(hosts[0]) if len(hosts) == 1 else ""
    if name == "localhost" or _address(name) is not None:
        return None
    return "this one comes from a page by a name that may not be ours: set an admin token for that"


def _reason_against_page(request: HTTPConnection, content_type: str) -> str | None:
    """Why the request may be the doing of a page of another origin; None if it is not."""
    headers = request.headers
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if origins and not (len(origins) == len(hosts) == 1 and _is_same_origin(origins[0], hosts[0])):
        return "this one comes from a web page of another origin"
    # "same-site" is a page on another port of localhost.
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "this one comes from a web page of another site"
    if request.scope.get("method") not in _METHODS_WITHOUT_BODY:
        # A page cannot send this type to another origin without asking first.
        given = headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != content_type:
            return f"this one lacks the header Content-Type: {content_type}"
    return None


def _is_loopback_address(host: str) -> bool:
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """The name or address of a Host header, without port and brackets; empty for no valid one."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", host)
    return match.group(1).lower().strip("[]") if match is not None else ""


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
