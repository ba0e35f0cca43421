"""What header readers raise for a file that is of an allowed format but cannot be read."""

from __future__ import annotations


class BrokenImageError(Exception):
    """The file is broken; the text completes "The JPEG cannot be read: ..." for the client."""
