"""Opens the socket that the server listens on, before anything slow starts."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


class CannotListenError(Exception):
    """The address cannot be had; the text is one sentence for the operator."""


def listen(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. An IPv4 address goes before an IPv6 one.

    Raises:
        CannotListenError: the port is in use, the host unknown or not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListenError(f"Cannot listen on {host}: {error.strerror}.") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListenError(
                f"Port {port} on {host} is in use; stop what uses it or choose another port."
            ) from None
        reason = os.strerror(error.errno or 0)
        raise CannotListenError(f"Cannot listen on {host}, port {port}: {reason}.") from None
    sock.setblocking(False)
    return sock


def listen_unix(path: str, *, backlog: int = 2048) -> socket.socket:
    """A listening Unix socket at ``path`` for its owner and group; a stale one is replaced.

    Raises:
        CannotListenError: another server answers there, or the path cannot be bound.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        if Path(path).exists() and stat.S_ISSOCK(Path(path).stat().st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    raise CannotListenError(f"The socket {path} is in use by another server.")
            Path(path).unlink()
        sock.bind(path)
        Path(path).chmod(0o660)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno or 0)
        raise CannotListenError(f"Cannot listen on the socket {path}: {reason}.") from None
    except CannotListenError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> str:
    """Where ``sock`` listens, for people: ``http://127.0.0.1:8000`` or ``unix:/run/a.sock``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
