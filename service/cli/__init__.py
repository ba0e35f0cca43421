"""The command line: ``detserve serve``, ``predict``, ``train``, ``evaluate``, ``extend`` and more."""

from service.cli.main import main

__all__ = ["main"]
