"""Label Studio's run-length encoding of masks, which its brush draws and its exports hold.

The format is thi.ng's *rle-pack* over the RGBA pixels of the picture, row after row: a big-endian
stream of bits with 32 for the number of values, 5 for the bits of a value less one, four times 4 for
the sizes of run lengths less one, and then the runs. A run is a 1, two bits for one of the four
sizes, its length less one in so many bits, and its value in 8. Label Studio reads the alpha channel
back; all four are the mask here, 0 or 255, as its own converter writes them, byte for byte.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
LENGTH_BITS = (3, 4, 8, 16)
MAX_RUN = 2 ** LENGTH_BITS[-1]
_WORD_BITS = 1 + 2 + LENGTH_BITS[-1] + 8


def encode_brush(
    bits: NDArray[np.bool_], *, left: int, top: int, height: int, width: int
) -> list[int]:
    """The bytes of one mask that is empty outside of a crop.

    Args:
        bits: (h, w) bool, the crop; its corner lies at column ``left``, row ``top``.
        height, width: of the picture.
    """
    lengths, values = _runs(bits, left=left, top=top, height=height, width=width)
    lengths, values = _split(lengths * CHANNELS, values)
    header = _bits(height * width * CHANNELS, 32) + _bits(7, 5)
    for size in LENGTH_BITS:
        header += _bits(size - 1, 4)
    stream = np.concatenate((np.array(header, dtype=bool), _run_bits(lengths, values)))
    packed: list[int] = np.packbits(stream).tolist()
    # The reference pads to the next byte even where there is nothing to pad.
    return packed if len(stream) % 8 else [*packed, 0]


def _runs(
    bits: NDArray[np.bool_], *, left: int, top: int, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of the picture's runs in pixels, row after row, and whether each is of the mask (0, 1)."""
    rows, columns = bits.shape
    # Row after row with a gap before each and one at the end, so that each run has two edges.
    lines = np.zeros(rows * (columns + 1) + 1, dtype=bool)
    lines[:-1].reshape(rows, columns + 1)[:, 1:] = bits
    row, column = np.divmod(np.flatnonzero(lines[1:] != lines[:-1]), columns + 1)
    edges = (row + top) * width + column + left
    bounds = np.concatenate(([0], edges, [height * width]))
    lengths, values = np.diff(bounds), np.arange(len(bounds) - 1) % 2
    # The mask may begin in the first pixel, end in the last, or go on from one row to the next.
    kept = lengths > 0
    lengths, values = lengths[kept], values[kept]
    first = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return np.add.reduceat(lengths, first), values[first]


def _split(
    lengths: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs that are longer than a length can tell, as several."""
    parts = -(-lengths // MAX_RUN)
    of_run = np.arange(len(lengths)).repeat(parts)
    place = np.arange(len(of_run)) - (np.cumsum(parts) - parts)[of_run]
    return np.minimum(lengths[of_run] - place * MAX_RUN, MAX_RUN), values[of_run]


def _run_bits(lengths: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The bits of all runs."""
    size = np.searchsorted([2**bits for bits in LENGTH_BITS], lengths)
    bits = np.array(LENGTH_BITS)[size]
    words = (((0b100 | size) << bits | (lengths - 1)) << 8) | values * 255
    used = bits + (_WORD_BITS - LENGTH_BITS[-1])
    # Highest bit first, from where each word begins.
    place = np.arange(_WORD_BITS)
    shifts = (used[:, None] - 1 - place).clip(min=0)
    spread: NDArray[np.bool_] = ((words[:, None] >> shifts) & 1).astype(bool)
    return spread[place < used[:, None]]


def _bits(value: int, number: int) -> list[bool]:
    return [bool(value >> place & 1) for place in reversed(range(number))]
