"""Files of the operator's own that register backbones, heads or whole architectures.

They are Python and run with the server's rights: they come from the command line or the environment
alone, never over HTTP.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from models.errors import ModelError


def split_paths(paths: Sequence[Path]) -> list[Path]:
    """Paths of which one may be several with commas between them."""
    return [Path(part) for path in paths for part in str(path).split(",") if part]


def import_plugins(paths: Sequence[Path]) -> None:
    """Run each file once, as a module named after it.

    Raises:
        ModelError: a file is missing or fails; the sentence names the file and the error.
    """
    for path in paths:
        resolved = path.resolve()
        name = f"detserve_plugin_{resolved.stem}"
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "__file__", None) == str(resolved):
            continue
        spec = importlib.util.spec_from_file_location(name, resolved)
        if not resolved.is_file() or spec is None or spec.loader is None:
            raise ModelError(f"--import {path}: there is no such Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
            raise ModelError(f"--import {path}: {reason}") from error
