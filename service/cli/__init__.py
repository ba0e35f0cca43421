"""The command line: ``detserve serve`` and ``detserve predict``."""

from service.cli.main import main

__all__ = ["main"]
