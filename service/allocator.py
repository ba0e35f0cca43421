"""The C allocator, set once when a process starts to serve: large buffers are kept, not given back.

An image is a few buffers of many megabytes. By default glibc maps each anew and unmaps it, so that
the kernel clears every page of it again, and gives threads other than the first heaps too small for
it. One heap that keeps what it has got makes decoding and resizing by Pillow a third faster, and
large layers of a model on the CPU too; ``docs/operating.md`` has the figures and the price.
"""

from __future__ import annotations

import ctypes
import os

# From glibc's malloc.h, which names the parameters of mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MIB = 2**20
_PARAMETERS = (
    # Larger blocks still come from the kernel and go back to it: an odd giant leaves nothing behind.
    (_M_MMAP_THRESHOLD, 256 * _MIB),
    # The heap's unused end goes back to the kernel from this size on.
    (_M_TRIM_THRESHOLD, 1024 * _MIB),
    # One heap for all threads; small blocks have caches of their own in each.
    (_M_ARENA_MAX, 1),
)
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")


def keep_large_buffers() -> bool:
    """Tune the allocator of this process; True if that was done.

    Not without glibc, nor where the environment already says what its allocator shall do.
    """
    if any(name in os.environ for name in _VARIABLES) or _tunes_malloc():
        return False
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return False
    done = [library.mallopt(name, value) == 1 for name, value in _PARAMETERS]
    return all(done)


def give_back_free_memory() -> None:
    """Return what lies free in the heap to the kernel, such as what loading a model has needed."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _tunes_malloc() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
