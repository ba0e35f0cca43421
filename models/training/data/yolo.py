"""YOLO to COCO: data.yaml, a tree of pictures, and one file of normalised labels for each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.evaluation.files import shown
from models.metadata import dataset_metadata
from models.training.data.conversion import (
    PICTURE_SUFFIXES,
    CocoBuilder,
    inside,
    picture_size,
    read_text,
)
from models.training.data.errors import DataError

_BOX_NUMBERS = 5
_LEAST_POLYGON_NUMBERS = 7
_TOLERANCE = 0.01
"""By which a normalised coordinate may leave 0 to 1: rounding, and boxes at the border."""

_SEEN = 2


@dataclass(frozen=True)
class _YoloData:
    """What data.yaml says: class names, pictures of the split, keypoints' shape and swaps."""

    root: Path
    names: tuple[str, ...]
    content: Mapping[str, Any]
    keypoints: int
    keypoint_numbers: int


def convert_yolo(source: Path, *, split: str = "train", images: Path | None = None) -> CocoBuilder:
    """Read a YOLO data set.

    Labels are boxes, polygons (segmentation) or, with ``kpt_shape``, boxes with keypoints. A picture
    without a file of labels has no objects.

    Args:
        source: ``data.yaml``, or the folder that holds it.
        split: a key of it that names a folder of pictures, a list of folders, or a text file of paths.
        images: folder of the pictures, instead of what ``split`` says; a part of the data set's folder.

    Raises:
        DataError: a file is missing or broken; names file and line.
    """
    data = _read_data(source)
    root, pictures = _pictures(data, split, images)
    fields = _keypoint_fields(data) if data.keypoints else {}
    builder = CocoBuilder(data.names, root, fields)
    for picture in pictures:
        height, width = picture_size(picture)
        builder.add_image(picture, height, width)
        labels = _labels_of(picture, data.root)
        if not os.path.isfile(labels):
            continue
        for line, text in enumerate(read_text(labels).splitlines(), start=1):
            if text.strip():
                _add_object(builder, text, f"{labels.name}, line {line}", data, (height, width))
    return builder


def _read_data(source: Path) -> _YoloData:
    path = source
    if source.is_dir():
        found = [source / name for name in ("data.yaml", "data.yml", "dataset.yaml")]
        path = next((p for p in found if p.is_file()), found[0])
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} is no YAML: {reason}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no keys; a data.yaml has names, and train and val.")
    names = content.get("names")
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [name for _, name in sorted(names.items(), key=lambda pair: int(pair[0]))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{path.name} has the names {shown(names)}; they are a list, or 0: name, ..."
        )
    texts = tuple(str(name) for name in names)
    if len(set(texts)) != len(texts):
        raise DataError(f"{path.name} has two classes of one name.")
    shape = content.get("kpt_shape", [0, 0])
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(n) is int for n in shape)
        or ("kpt_shape" in content and (shape[0] < 1 or shape[1] not in (2, 3)))
    ):
        raise DataError(
            f"{path.name} has the kpt_shape {shown(shape)}; it is [number of keypoints, 2 or 3]."
        )
    return _YoloData(path.parent.resolve(), texts, content, shape[0], shape[1])


def _pictures(data: _YoloData, split: str, images: Path | None) -> tuple[Path, list[Path]]:
    """The folder that the pictures of the split have in common, and they, sorted.

    Both lie in the data set's folder.
    """
    named: Any = data.content.get(split) if images is None else str(images.resolve())
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not named or not all(isinstance(n, str) for n in named):
        raise DataError(f"data.yaml has no pictures under {split}: it has {shown(named)}.")
    pictures = []
    paths = [_find(data, name, split) for name in named]
    for path in paths:
        if path.is_dir():
            found = (p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
            pictures += sorted(found)
        else:
            pictures += _listed(path, data.root)
    if not pictures:
        raise DataError(f"There are no pictures under {', '.join(named)}.")
    files = [inside(data.root, picture, split) for picture in pictures]
    is_common = len(paths) == 1 and all(file.is_relative_to(paths[0]) for file in files)
    return paths[0] if is_common else data.root, list(dict.fromkeys(pictures))


def _find(data: _YoloData, name: str, split: str) -> Path:
    """What a split names, which is written relative to many things; the first that is there."""
    base = data.content.get("path")
    bases = [data.root / base] if isinstance(base, str) else []
    bases.append(data.root)
    # Exports often begin with "../", as if data.yaml lay one folder deeper.
    names = [name, name.removeprefix("../").removeprefix("./")]
    for folder in bases:
        for candidate in names:
            path = folder / candidate
            if os.path.exists(path) and path.resolve().is_relative_to(data.root):
                return path.resolve()
    raise DataError(
        f"data.yaml says {split}: {shown(name)}, which is not in the folder {data.root.name}; correct "
        "path and the split, or name the pictures' folder (--images)."
    )


def _listed(path: Path, root: Path) -> Iterator[Path]:
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        candidates = (root / text.strip(), path.parent / text.strip())
        found = next((p for p in candidates if os.path.isfile(p)), None)
        if found is None:
            raise DataError(f"{path.name}, line {line}: there is no picture {shown(text.strip())}.")
        plain = Path(os.path.normpath(found))
        yield (
            plain
            if plain.is_relative_to(root)
            else inside(root, plain, f"{path.name}, line {line},")
        )


def _labels_of(picture: Path, root: Path) -> Path:
    """Beside the last folder ``images`` of its path there is one ``labels``; else with the picture."""
    parts = list(picture.relative_to(root).parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _add_object(
    builder: CocoBuilder, text: str, place: str, data: _YoloData, size: tuple[int, int]
) -> None:
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise DataError(f"{place}: {shown(text[:80])} are no numbers.") from None
    if not values[0].is_integer() or not 0 <= values[0] < len(data.names):
        raise DataError(
            f"{place}: class {words[0][:20]} is none of the {len(data.names)} of data.yaml, which are "
            f"0 to {len(data.names) - 1}."
        )
    class_id = int(values[0])
    with_keypoints = _BOX_NUMBERS + data.keypoints * data.keypoint_numbers
    if len(values) == _BOX_NUMBERS or (data.keypoints and len(values) == with_keypoints):
        x, y, width, height = _normalised(values[1:_BOX_NUMBERS], place)
        if width < 0 or height < 0:
            raise DataError(f"{place}: a box has a negative width or height.")
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        keypoints = _keypoints(values[_BOX_NUMBERS:], place, data.keypoint_numbers, size)
        builder.add_object(class_id, _scaled_box(box, size), **keypoints)
    elif not data.keypoints and len(values) >= _LEAST_POLYGON_NUMBERS and len(values) % 2:
        points = _normalised(values[1:], place)
        tall, wide = size
        polygon = [v * (tall if i % 2 else wide) for i, v in enumerate(points)]
        corners = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
        builder.add_object(class_id, _scaled_box(corners, size), segmentation=[polygon])
    else:
        expected = f" or {with_keypoints} (with keypoints)" if data.keypoints else ""
        polygon_hint = (
            "" if data.keypoints else ", or a polygon: class, x, y of three corners or more"
        )
        raise DataError(
            f"{place}: {len(values)} numbers are no label; a label has 5 (class, x, y, width, height)"
            f"{expected}{polygon_hint}."
        )


def _normalised(values: Sequence[float], place: str) -> list[float]:
    """The values, cut off to 0 to 1 where they leave it by a little."""
    for value in values:
        if not math.isfinite(value) or not -_TOLERANCE <= value <= 1 + _TOLERANCE:
            raise DataError(
                f"{place}: {value:g} is no share of the picture's side, 0 to 1; are these pixels?"
            )
    return [min(max(value, 0.0), 1.0) for value in values]


def _scaled_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    height, width = size
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in box)
    return left * width, top * height, right * width, bottom * height


def _keypoints(
    values: Sequence[float], place: str, numbers: int, size: tuple[int, int]
) -> dict[str, Any]:
    if not values:
        return {}
    keypoints: list[float] = []
    height, width = size
    for start in range(0, len(values), numbers):
        x, y = _normalised(values[start : start + 2], place)
        # Two numbers do not say whether it is there; 0, 0 is how tools write that it is not.
        visible = values[start + 2] if numbers == 3 else _SEEN * (x > 0 or y > 0)
        if visible not in (0, 1, _SEEN):
            raise DataError(f"{place}: {visible:g} is no visibility of a keypoint: 0, 1 or 2.")
        keypoints += [x * width, y * height, int(visible)]
    return {"keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3])}


def _keypoint_fields(data: _YoloData) -> dict[str, Any]:
    """The keys of a COCO category: names, and what swaps."""
    number = data.keypoints
    coco = dataset_metadata("keypoints_coco_2017_train")
    names = [f"keypoint_{index}" for index in range(1, number + 1)]
    if coco is not None and number == len(coco.keypoint_names):
        names = list(coco.keypoint_names)
    swaps = data.content.get("flip_idx")
    if swaps is None:
        return {"keypoints": names}
    if (
        not isinstance(swaps, list)
        or not all(type(index) is int for index in swaps)
        or sorted(swaps) != list(range(number))
        or any(swaps[swaps[index]] != index for index in range(number))
    ):
        raise DataError(
            f"data.yaml has the flip_idx {shown(swaps)}; it says for each of {number} keypoints which one it "
            "becomes in a mirror image, and twice mirrored is as before."
        )
    pairs = [[names[a], names[b]] for a, b in enumerate(swaps) if a < b]
    return {"keypoints": names, "flip_map": pairs}
