"""Pascal VOC (Everingham et al. 2010) to COCO: XML files, splits, masks of SegmentationObject."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.files import open_regular
from models.metadata import dataset_metadata
from models.structures.rle import RLE, encode_rle_map
from models.training.data.conversion import (
    PICTURE_SUFFIXES,
    CocoBuilder,
    inside,
    picture_size,
    read_text,
)
from models.training.data.errors import DataError
from models.training.data.plain_xml import Element, parse_xml

Difficult = Literal["keep", "ignore", "drop"]

_VOID = 255
_XML_BYTES = 16 << 20
_SPLIT_FOLDERS = ("Main", "Segmentation", "Layout", "")


@dataclass(frozen=True)
class _VocObject:
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


def convert_voc(
    source: Path,
    *,
    split: str | None = None,
    images: Path | None = None,
    difficult: Difficult = "ignore",
    zero_based: bool = False,
) -> CocoBuilder:
    """Read a VOC folder: ``Annotations``, ``JPEGImages``, perhaps ``ImageSets`` and ``SegmentationObject``.

    Args:
        source: the folder.
        split: name of a list in ``ImageSets`` (Main first, then Segmentation), such as ``train``; None
            takes all annotations.
        images: folder of the pictures; None for ``JPEGImages``, or the annotations' own folder.
        difficult: what becomes of objects marked so: ``ignore`` makes them crowds, which neither training nor
            evaluation counts; Detectron2 learns from them, which is ``keep``; ``drop`` leaves them out.
        zero_based: coordinates start from 0. VOC's start from 1, and as in Detectron2 1 is taken off the
            left and top; other tools that write this format differ.

    Raises:
        DataError: a file is missing or broken; names file and line.
    """
    source = source.resolve()
    annotations = source / "Annotations" if (source / "Annotations").is_dir() else source
    if images is None:
        images = source / "JPEGImages" if (source / "JPEGImages").is_dir() else annotations
    if not annotations.is_dir() or not images.is_dir():
        raise DataError(f"{source.name} is no VOC folder: it has Annotations and JPEGImages.")
    images = images.resolve()
    files = _files(source, annotations, split)
    parsed = [(path, _parse(path)) for path in files]
    offset = 0.0 if zero_based else 1.0
    objects = {path: _objects(root, path.name, offset) for path, root in parsed}
    names = _class_names({thing.name for things in objects.values() for thing in things})
    builder = CocoBuilder(names, images)
    class_ids = {name: index for index, name in enumerate(names)}
    for path, root in parsed:
        picture = _picture(root, path, images)
        height, width = picture_size(picture)
        builder.add_image(picture, height, width)
        masks = _masks(source / "SegmentationObject" / f"{path.stem}.png", (height, width))
        for number, thing in enumerate(objects[path], start=1):
            if thing.difficult and difficult == "drop":
                continue
            builder.add_object(
                class_ids[thing.name],
                thing.box,
                segmentation=masks.get(number),
                iscrowd=int(thing.difficult and difficult == "ignore"),
                difficult=int(thing.difficult),
            )
    return builder


def _files(source: Path, annotations: Path, split: str | None) -> list[Path]:
    if split is None:
        files = sorted(annotations.glob("*.xml"))
        if not files:
            raise DataError(f"{annotations.name} has no XML files of VOC.")
        return files
    if Path(split).name != split:
        raise DataError(f"{split!r} is no name of a split, such as train or val.")
    lists = [source / "ImageSets" / folder / f"{split}.txt" for folder in _SPLIT_FOLDERS]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        known = sorted({p.stem for p in (source / "ImageSets").rglob("*.txt") if "_" not in p.stem})
        raise DataError(
            f"There is no list {split}.txt in ImageSets; there are {', '.join(known[:20]) or 'none'}."
        )
    files = []
    for line, text in enumerate(read_text(found).splitlines(), start=1):
        # Lists of one class have a second column: is it in the picture?
        words = text.split()
        if words:
            where = f"{found.name}, line {line},"
            files.append(inside(annotations, annotations / f"{words[0]}.xml", where))
            if not files[-1].is_file():
                raise DataError(f"{where} names {words[0][:80]}, which has no XML in Annotations.")
    if not files:
        raise DataError(f"{found.name} lists no pictures.")
    return files


def _parse(path: Path) -> Element:
    try:
        with open_regular(path) as file:
            data = file.read(_XML_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > _XML_BYTES:
        raise DataError(f"{path.name} is over {_XML_BYTES} bytes, which no annotation of VOC is.")
    return parse_xml(data, path.name)


def _class_names(found: set[str]) -> Sequence[str]:
    """VOC's own 20 in its order if there are no others, so that all its splits agree; else sorted."""
    voc = dataset_metadata("voc_2007_train")
    if voc is not None and found and found <= set(voc.thing_classes):
        return voc.thing_classes
    return sorted(found)


def _objects(root: Element, name: str, offset: float) -> list[_VocObject]:
    found = []
    for element in root.all("object"):
        label = element.find("name")
        if label is None or not label.text.strip():
            raise DataError(f"{name}, line {element.line}: an object has no name.")
        bounds = element.find("bndbox")
        if bounds is None:
            raise DataError(f"{name}, line {element.line}: an object has no bndbox.")
        left, top, right, bottom = (
            _number(bounds, side, name) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        box = (left - offset, top - offset, right, bottom)
        if box[2] < box[0] or box[3] < box[1]:
            raise DataError(
                f"{name}, line {bounds.line}: the box ends before it begins ({left:g}, {top:g}, {right:g}, "
                f"{bottom:g}); bndbox has xmin, ymin, xmax, ymax."
            )
        flag = element.find("difficult")
        is_difficult = flag is not None and flag.text.strip() not in ("", "0")
        found.append(_VocObject(label.text.strip(), box, is_difficult))
    return found


def _number(bounds: Element, side: str, name: str) -> float:
    element = bounds.find(side)
    if element is None:
        raise DataError(f"{name}, line {bounds.line}: bndbox has no {side}.")
    try:
        value = float(element.text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{name}, line {element.line}: {side} is {element.text.strip()[:80]!r}, which is no number."
        )
    return value


def _picture(root: Element, path: Path, images: Path) -> Path:
    """By the XML's own name, as Detectron2 does; else by the name that the XML gives."""
    element = root.find("filename")
    # Some tools write a whole path of their own machine.
    given = (
        element.text.strip().replace("\\", "/").rsplit("/", 1)[-1] if element is not None else ""
    )
    suffixes = [*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES)]
    for name in [*(path.stem + suffix for suffix in suffixes), given]:
        if name and os.path.isfile(images / name):
            return inside(images, images / name, path.name)
    raise DataError(
        f"{path.name} has no picture in {images.name}: neither {path.stem}.jpg nor {given[:80] or 'another'}."
    )


def _masks(path: Path, size: tuple[int, int]) -> dict[int, RLE]:
    """Masks by the number of the object in its XML, from 1; {} where there is no PNG."""
    if not os.path.isfile(path):
        return {}
    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as found:
            mode = found.mode
            values = np.asarray(found)
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: a broken PNG, to Pillow
        raise DataError(
            f"SegmentationObject/{path.name} cannot be read as a PNG: {type(error).__name__}."
        ) from None
    if mode not in ("L", "P") or values.shape != size:
        raise DataError(
            f"SegmentationObject/{path.name} is {mode} of {values.shape[1]}x{values.shape[0]} pixels; it "
            f"is a palette's indices, {size[1]}x{size[0]}."
        )
    numbers, _, masks = encode_rle_map(cast(NDArray[np.integer], values))
    return {
        int(number): mask
        for number, mask in zip(numbers, masks, strict=True)
        if number not in (0, _VOID)
    }
