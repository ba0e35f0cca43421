"""The page at ``/``: try a served model on pictures, in the browser, without a build step or a network."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""The page's own files: ``index.html`` is served at ``/``, the others under ``/playground/``."""
