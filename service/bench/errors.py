"""What ends a benchmark early."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the text is one sentence for the person at the terminal."""


class WrongUsage(BenchError):
    """An option has a value that makes no sense."""
