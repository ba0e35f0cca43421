"""Seeds that depend on numbers alone, so that any step of a training can be done again."""

from __future__ import annotations

import hashlib


def mixed_seed(*numbers: int) -> int:
    """A seed (0 .. 2**63 - 1) that depends on every number and on their order.

    Neighbouring numbers give unrelated seeds, which adding them up would not.
    """
    text = ",".join(str(int(number)) for number in numbers)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
