"""Where the images of a batch come from: files on disk here, a zip in :mod:`service.batches.archive`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from service.errors import Unprocessable

IMAGE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".dib"}
)


class ImageSource(Protocol):
    """Images that are read one by one, when their turn comes."""

    @property
    def names(self) -> Sequence[str]:
        """What the images are called, in their order."""

    def read(self, index: int) -> bytes:
        """The bytes of one; on a thread that may wait for the disk, perhaps several at a time.

        Raises:
            ApiError: what is wrong with this image alone.
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Nothing is read any more."""


class ImageFiles:
    """Files, an image each.

    Args:
        paths: the files.
        names: what they are called; default: their own names.
    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str] | None = None) -> None:
        self.paths = paths
        self.names = names if names is not None else [path.name for path in paths]

    def read(self, index: int) -> bytes:
        """See :class:`ImageSource`."""
        return self.paths[index].read_bytes()

    def close(self) -> None:
        """See :class:`ImageSource`."""


def find_images(
    places: Iterable[Path], *, recursive: bool = False, leave_out: Path | None = None
) -> list[Path]:
    """The image files in ``places``, each once, in their order; those of a folder by name.

    Args:
        places: files, whatever their endings; folders, of which files with an image's ending are
            taken and hidden ones left out; and patterns such as ``shots/*.jpg``, or ``shots/**/*.jpg``
            for all folders below, where no file has that name.
        recursive: take the folders in folders too. Links to folders are not followed.
        leave_out: a folder that is not looked into on the way.

    Raises:
        Unprocessable: ``no_images``: a folder or a pattern has none.
    """
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            images = _in_folder(place, recursive, leave_out)
        elif any(sign in str(place) for sign in "*?[") and not place.exists():
            images = sorted(path for path in _matching(place) if path.is_file())
        else:
            images = [place]  # one that is missing is told when it is read
        if not images:
            hint = " Add --recursive for the folders in it." * (place.is_dir() and not recursive)
            raise Unprocessable("no_images", f"There is no image in {place}.{hint}")
        found.update(dict.fromkeys(images))
    return list(found)


def _in_folder(folder: Path, recursive: bool, leave_out: Path | None) -> list[Path]:
    left = leave_out.resolve() if leave_out is not None else None
    if left == folder.resolve():
        left = None  # it was asked for by its name
    return sorted(
        path
        for path in (folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and (left is None or left not in path.resolve().parents)
    )


def _matching(pattern: Path) -> Iterable[Path]:
    root = Path(pattern.anchor)
    return root.glob(str(pattern.relative_to(root)))
