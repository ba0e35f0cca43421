"""Copying what an operator names into a new version."""

from __future__ import annotations

from pathlib import Path

from service.errors import Unprocessable
from service.repository.disk.manifest import GOLDEN, Progress

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

_CHUNK = 1 << 20


def copy_file(source: Path, target: Path, progress: Progress | None) -> None:
    """Copy one file, which may come from anywhere; ``target`` must not be there.

    Raises:
        Unprocessable: ``unreadable_file``.
        OSError: ``target`` cannot be written.
    """
    try:
        if not source.is_file():  # to open a pipe would wait for its writer
            reason = "it is no regular file" if source.exists() else "there is no such file"
            raise Unprocessable("unreadable_file", f"{source} cannot be copied: {reason}.")
        reader = source.open("rb", buffering=0)
    except OSError as error:
        raise Unprocessable(
            "unreadable_file", f"{source} cannot be read: {error.strerror}."
        ) from None
    with reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            if progress is not None:
                progress(source.name, len(chunk))


def copy_config(source: Path, target: Path, progress: Progress | None) -> None:
    """Copy a config as it is, or with what it builds on in it, since a version stands alone.

    Raises:
        Unprocessable: ``unreadable_file``, or ``invalid_config`` if it cannot be written out.
        OSError: ``target`` cannot be written.
    """
    copy_file(source, target, progress)
    if b"_BASE_" not in target.read_bytes():
        return
    # Imported here: most do not wait for PyTorch.
    from models.config import load_config
    from models.config.loading import BASE_KEY
    from models.config.safe_yaml import parse
    from models.errors import ConfigError

    try:
        if BASE_KEY not in parse(target.read_bytes(), source.name):
            return
        config = load_config(source)
        target.write_text(config.dump())
        same = load_config(target).to_dict() == config.to_dict()
    except ConfigError as error:
        raise Unprocessable("invalid_config", error.message) from None
    if not same:
        raise Unprocessable(
            "invalid_config",
            f"{source.name} cannot be written out with what it builds on. Dump it where Detectron2 is "
            "installed (cfg.dump()) and use that file.",
        )


def copy_pictures(source: Path, target: Path, progress: Progress | None) -> None:
    """Copy the pictures in the folder ``source``, none below it; raises as :func:`copy_file`."""
    if not source.is_dir():
        raise Unprocessable(
            "unreadable_file",
            f"There is no folder {source}; the pictures of {GOLDEN} are in it.",
        )
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            copy_file(path, target / path.name, progress)
