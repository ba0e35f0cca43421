"""Which URLs the server may follow: what a URL must look like, and which addresses are public.

One parser reads a URL, and what it read makes the request too, so that no two of them can disagree
on where a URL leads.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import httpx

from service.errors import Unprocessable

MAX_URL = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_FOR_PICTURES = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.88.99.0/24",  # 6to4 relays
            "192.0.0.0/24",  # protocol assignments, a few of which count as global
            "2001::/23",  # the same, with Teredo, which holds an IPv4 address
            "2002::/16",  # 6to4, which holds one too
            "2620:4f:8000::/48",  # AS112, which answers for private addresses
            "3fff::/20",  # documentation, unknown to Python 3.11
        ),
    )
)


@dataclass(frozen=True)
class Target:
    """Where a URL leads.

    Attributes:
        url: without a fragment.
        scheme: ``https`` or ``http``.
        host: the name in ASCII and lower case without a final dot, or the address.
        port: the scheme's own where the URL names none.
        literal: the host, if it is an address and no name.
    """

    url: httpx.URL
    scheme: str
    host: str
    port: int
    literal: str | None

    @property
    def origin(self) -> str:
        """Scheme, host and port, always with the port: ``https://example.org:443``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def host_header(self) -> str:
        """What the server there is told that it is called."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """The target of ``url``.

    Raises:
        Unprocessable: ``url_not_allowed``: it is no absolute http or https URL, holds a user or a
            password, or spells an address in a way that others read differently.
    """
    if len(url) > MAX_URL:
        raise not_allowed(f"The URL has {len(url)} characters; the limit is {MAX_URL}.")
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise not_allowed("The URL holds a blank, a backslash or a control character; encode it.")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError):
        raise not_allowed("This is no valid URL.") from None
    if parsed.scheme not in _DEFAULT_PORTS or not host:
        raise not_allowed("A URL begins with https:// and the name of a host.")
    if parsed.userinfo:
        raise not_allowed("The URL holds a user or a password; take that out.")
    # An empty port is none; zero and negative ones httpx refuses or keeps as they are.
    port = parsed.port if parsed.port is not None else _DEFAULT_PORTS[parsed.scheme]
    host, literal = _host(host.strip("[]"))
    return Target(parsed.copy_with(fragment=None), parsed.scheme, host, port, literal)


def is_public(address: str) -> bool:
    """Whether ``address`` belongs to a host of the public internet, and to nothing else.

    Forms of IPv6 that hold an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo) are none: where
    they lead is another network's to say.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and (
        parsed.scope_id is not None or parsed not in _GLOBAL_UNICAST
    ):
        return False
    if parsed.is_multicast or parsed.is_reserved or not parsed.is_global:
        return False
    return not any(
        parsed in network for network in _NOT_FOR_PICTURES if network.version == parsed.version
    )


def host_matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether ``host`` is one of ``patterns``: names, or ``*.example.org`` for all below a name."""
    for pattern in map(str.lower, patterns):
        if host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return True
    return False


def not_allowed(message: str) -> Unprocessable:
    """The refusal of a URL."""
    return Unprocessable("url_not_allowed", message)


def _host(host: str) -> tuple[str, str | None]:
    """A host's name, or its address twice."""
    try:
        # Strict: four decimal numbers without leading zeros, or IPv6.
        address = str(ipaddress.ip_address(host))
    except ValueError:
        name = host.removesuffix(".")
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            raise not_allowed(
                "The host is a number that is no plain address; write it as in 203.0.113.7."
            ) from None
        if len(name) > 253 or not _NAME.fullmatch(name):
            raise not_allowed("The URL names no valid host.") from None
        return name, None
    return address, address
