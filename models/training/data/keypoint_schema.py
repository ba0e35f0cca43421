"""The keypoints of a data set: their names, what swaps in a mirror image, which lines join them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.files import shown
from models.metadata import dataset_metadata
from models.training.data.errors import DataError

_SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])|^(left|right)|(left|right)$")


@dataclass(frozen=True)
class KeypointSchema:
    """What the keypoints of an object are.

    Attributes:
        names: in the order of the data; () where there are none.
        flip_map: pairs of names that change places in a mirror image.
        knows_flip_map: False where nothing says which of them swap.
        skeleton: pairs of names to draw a line between.
    """

    names: tuple[str, ...] = ()
    flip_map: tuple[tuple[str, str], ...] = ()
    knows_flip_map: bool = True
    skeleton: tuple[tuple[str, str], ...] = ()


def read_keypoint_schema(
    categories: Sequence[dict[str, Any]], number_in_objects: int | None
) -> KeypointSchema:
    """The schema that the categories of a COCO file give.

    A category has ``keypoints`` (names), ``skeleton`` (pairs of their numbers from 1) and, a key of ours,
    ``flip_map`` (pairs of names; [] says that nothing swaps). Without a ``flip_map``, names tell left
    from right. Without names, 17 keypoints are COCO's and others are numbered.

    Args:
        categories: entries of the file.
        number_in_objects: keypoints of the first object that has any; None if none has.

    Raises:
        DataError: names, skeleton or flip map are none, or two categories disagree.
    """
    schemas = {entry["name"]: _schema_of(entry) for entry in categories if entry.get("keypoints")}
    if schemas:
        first, *others = schemas
        for other in others:
            if schemas[other] != schemas[first]:
                raise DataError(
                    f"The categories {first} and {other} have different keypoints; a model has one list of "
                    "them. Give both the same names, skeleton and flip_map."
                )
        return schemas[first]
    if number_in_objects is None:
        return KeypointSchema()
    known = dataset_metadata("keypoints_coco_2017_train")
    if known is not None and number_in_objects == len(known.keypoint_names):
        return KeypointSchema(
            known.keypoint_names, known.keypoint_flip_map, True, known.keypoint_skeleton
        )
    names = tuple(f"keypoint_{number}" for number in range(1, number_in_objects + 1))
    return KeypointSchema(names, knows_flip_map=False)


def derive_flip_map(names: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Pairs of names that differ in left and right alone, such as left_eye and right_eye.

    None where no name has a side, or one has no counterpart: then nothing is known.
    """
    places = {name.lower(): name for name in names}
    pairs = []
    for name in names:
        low = name.lower()
        found = _SIDE.search(low)
        if found is None:
            continue
        side = found.group()
        other = {"left": "right", "right": "left", "l": "r", "r": "l"}[side]
        mirrored = places.get(low[: found.start()] + other + low[found.end() :])
        if mirrored is None:
            return None
        if side.startswith("l"):
            pairs.append((name, mirrored))
    return tuple(pairs) or None


def _schema_of(category: dict[str, Any]) -> KeypointSchema:
    name = category["name"]
    names = category["keypoints"]
    if not _are_texts(names) or len(set(names)) != len(names):
        raise DataError(
            f"Category {name} has the keypoints {shown(names)}; they are a list of different names."
        )
    flip_map = _flip_map(category, names)
    return KeypointSchema(
        tuple(names), flip_map or (), flip_map is not None, _skeleton(category, names)
    )


def _flip_map(category: dict[str, Any], names: list[str]) -> tuple[tuple[str, str], ...] | None:
    given = category.get("flip_map")
    if given is None:
        return derive_flip_map(names)
    fault = "it is a list of pairs of keypoints' names"
    if isinstance(given, list) and all(_are_texts(pair) and len(pair) == 2 for pair in given):
        swapped = [point for pair in given for point in pair]
        unknown = [point for point in swapped if point not in names]
        if not unknown and len(set(swapped)) == len(swapped):
            return tuple((pair[0], pair[1]) for pair in given)
        fault = f"{unknown[0]} is none of the keypoints" if unknown else "a keypoint is there twice"
    raise DataError(f"Category {category['name']} has the flip_map {shown(given)}; {fault}.")


def _skeleton(category: dict[str, Any], names: list[str]) -> tuple[tuple[str, str], ...]:
    given = category.get("skeleton") or []
    if isinstance(given, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(point) is int and 1 <= point <= len(names) for point in pair)
        for pair in given
    ):
        return tuple((names[first - 1], names[second - 1]) for first, second in given)
    raise DataError(
        f"Category {category['name']} has the skeleton {shown(given)}; it is pairs of the numbers of "
        f"keypoints, 1 to {len(names)}."
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
