"""What the disk refuses while a version is put there or taken away, as an error of ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from service.errors import ApiError


class VersionNotWritten(ApiError):
    """The disk does not take a version: ``disk_full`` or ``version_not_written``; nothing is left."""

    status = 507


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raise :class:`VersionNotWritten` for an :class:`OSError`, in words that name no path."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise VersionNotWritten(
            "disk_full" if full else "version_not_written",
            f"The repository cannot be written: {error.strerror}. Nothing was changed.",
            reason=error.strerror,
        ) from None
