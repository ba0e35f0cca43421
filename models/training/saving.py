"""Files that are either the old or the new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from models.errors import CheckpointError


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, durably and at once."""
    temporary = _temporary(path)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as JSON, durably and at once."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` by what ``torch.save`` makes of ``content``, durably and at once.

    Raises:
        CheckpointError: it cannot be written, a full disk above all; the old file is as it was.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):  # it may never have been made
            temporary.unlink()
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path.name} cannot be written: {reason}. The one before is whole; make room and resume.",
            file=path.name,
        ) from error


def _temporary(path: Path) -> Path:
    """A name of this process's own: of several that train together each may write the file."""
    return path.with_name(f".{path.name}.{os.getpid()}.writing")


def _replace(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
