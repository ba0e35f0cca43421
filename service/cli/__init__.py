"""The command line: ``detserve`` with ``serve``, ``predict``, ``download``, ``inspect`` and ``bench``."""

from service.cli.main import main

__all__ = ["main"]
