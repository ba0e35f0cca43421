"""BYTES tensors as raw bytes: each element behind its length, four bytes little-endian."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from service.errors import BadRequest

_LENGTH = struct.Struct("<I")


def join_elements(elements: Sequence[bytes]) -> bytes:
    """The raw bytes of a BYTES tensor."""
    parts: list[bytes] = []
    for element in elements:
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def split_elements(raw: bytes | memoryview, count: int) -> list[bytes]:
    """The ``count`` elements of a BYTES tensor.

    Raises:
        BadRequest: ``malformed_tensor``: the bytes are no such elements, or not so many.
    """
    elements: list[bytes] = []
    position = 0
    while position < len(raw) and len(elements) < count:
        start = position + _LENGTH.size
        end = len(raw) + 1
        if start <= len(raw):
            end = start + _LENGTH.unpack_from(raw, position)[0]
        if end > len(raw):
            raise BadRequest(
                "malformed_tensor",
                f"Element {len(elements)} of a BYTES tensor is cut off: before each element stands its "
                "length, four bytes little-endian.",
            )
        elements.append(bytes(raw[start:end]))
        position = end
    if len(elements) != count or position != len(raw):
        found = len(elements) if position == len(raw) else f"more than {count}"
        raise BadRequest(
            "malformed_tensor",
            f"A BYTES tensor has {found} elements, but its shape says {count}.",
        )
    return elements
