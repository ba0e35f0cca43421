"""A look at every picture of a data set: is it one, is all of it there, is it of the size that is said?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL.Image import getmodebands

from models.evaluation.errors import EvaluationError
from models.evaluation.files import PictureHeader, read_header
from models.training.data.dataset import TrainingDataset
from models.training.data.findings import Finding, FindingCounter
from models.training.data.whole_pictures import can_be_decoded, ends_as_it_should

_T = TypeVar("_T")
_R = TypeVar("_R")

# Reading waits for the disk most of the time, so more than there are cores.
_THREADS = 8
# Decoding takes the memory of a whole picture in each.
_DECODING_THREADS = 4
_AHEAD = 256
_UPRIGHT = 1

UNREADABLE = Finding(
    "error",
    "picture-unreadable",
    "Files cannot be read as pictures, or not to their end; training would end where it meets one.",
    "Check that the whole files are there, or save them anew as JPEG or PNG.",
)
WRONG_SIZE = Finding(
    "error",
    "picture-size",
    "Pictures are of another size than the JSON says.",
    "Annotate the pictures that are there, or bring back those that were annotated.",
)
TURNED_SIZE = Finding(
    "error",
    "picture-turned",
    "Pictures are turned by EXIF, as every viewer shows them, but the JSON has the size of the stored ones.",
    "Save them without the orientation, turned or not as they were annotated.",
)
DEEP = Finding(
    "error",
    "picture-deep",
    "Pictures have more than 8 bits a channel.",
    "Convert them to 8 bits first, so that you choose what is black and what is white.",
)
TURNED = Finding(
    "note",
    "picture-exif",
    "Pictures are turned or mirrored by EXIF; they are taken as viewers show them.",
    "On the contact sheet, do the boxes lie where the objects are?",
)
SEM_SEG_SIZE = Finding(
    "error",
    "sem-seg-size",
    "Maps of semantic classes are of another size than their pictures, or are not of one channel.",
    "Save them as PNG of one channel, in the size of the picture.",
)


def look_at_pictures(
    dataset: TrainingDataset,
    progress: Callable[[int], None] | None = None,
    *,
    decode: bool = True,
) -> tuple[Finding, ...]:
    """Look at every picture and semantic map and compare its size with the JSON's.

    Missing files are left out: reading the data set has named them.

    Args:
        dataset: with sizes of upright pictures.
        progress: is told how many more pictures were looked at.
        decode: whether all pixels are decoded; else the headers and the last bytes are read, which finds
            a JPEG or PNG that was cut off, but no other damage.
    """
    look = _look_closely if decode else _look_quickly
    threads = _DECODING_THREADS if decode else _THREADS
    counter = FindingCounter()
    looks = in_threads(look, (image.path for image in dataset.images), threads)
    for image, seen in zip(dataset.images, looks, strict=True):
        size = (image.height, image.width)
        if isinstance(seen, Finding):
            counter.add(seen, image.path.name)
        elif seen is not None:
            _compare(seen, image.path.name, size, counter)
        if progress is not None:
            progress(1)
    with_maps = [image for image in dataset.images if image.sem_seg_path is not None]
    looks = in_threads(look, (image.sem_seg_path for image in with_maps), threads)
    for image, seen in zip(with_maps, looks, strict=True):
        name, size = f"map of {image.path.name}", (image.height, image.width)
        if isinstance(seen, Finding):
            counter.add(seen, name)
        elif seen is None or seen.stored_size != size or getmodebands(seen.mode) != 1:
            counter.add(SEM_SEG_SIZE, name)
    return counter.findings()


def in_threads(
    function: Callable[[_T], _R], items: Iterable[_T], threads: int = _THREADS
) -> Iterator[_R]:
    """``function`` of each item, in order, some at once and never far ahead of the consumer."""
    with ThreadPoolExecutor(min(threads, 2 * (os.cpu_count() or 1))) as pool:
        batch: list[_T] = []
        for item in items:
            batch.append(item)
            if len(batch) == _AHEAD:
                yield from pool.map(function, batch)
                batch = []
        yield from pool.map(function, batch)


def _look_closely(path: Path | None) -> PictureHeader | Finding | None:
    return _look(path, can_be_decoded)


def _look_quickly(path: Path | None) -> PictureHeader | Finding | None:
    return _look(path, ends_as_it_should)


def _look(path: Path | None, is_whole: Callable[[Path], bool]) -> PictureHeader | Finding | None:
    """The header of a sound picture, what is wrong with another, None where there is no file."""
    if path is None or not os.path.isfile(path):
        return None
    try:
        header = read_header(path)
    except EvaluationError:
        return UNREADABLE
    return header if is_whole(path) else UNREADABLE


def _compare(
    header: PictureHeader, name: str, size: tuple[int, int], counter: FindingCounter
) -> None:
    if header.is_deep:
        counter.add(DEEP, f"{name}: {header.mode}")
    if (header.height, header.width) != size:
        said = f"{name}: {header.width}x{header.height}, not {size[1]}x{size[0]}"
        counter.add(TURNED_SIZE if header.stored_size == size else WRONG_SIZE, said)
    elif header.orientation != _UPRIGHT:
        counter.add(TURNED, name)
