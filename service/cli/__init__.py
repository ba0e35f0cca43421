"""The command line: ``detserve`` with ``serve``, ``predict``, ``download`` and ``inspect``."""

from service.cli.main import main

__all__ = ["main"]
