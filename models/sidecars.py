"""Files beside a config that say what the numbers of its model mean: a checkpoint holds no names.

``labels.txt`` and, of a panoptic model, ``stuff_labels.txt`` have the name of a class on each line, in
the order of the ids. ``keypoints.json`` has the keypoints of an object::

    {"names": ["nose", "left_eye", "right_eye"],
     "flip_map": [["left_eye", "right_eye"]],
     "skeleton": [["left_eye", "nose"], ["nose", "right_eye"]]}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.files import open_regular

LABELS, STUFF_LABELS, KEYPOINTS = "labels.txt", "stuff_labels.txt", "keypoints.json"
MAX_BYTES = 1 << 20

_Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class KeypointNames:
    """The keypoints of an object.

    Attributes:
        names: in the order of the model.
        flip_map: pairs of names that change places in a mirror image.
        skeleton: pairs of names to draw a line between.
    """

    names: tuple[str, ...]
    flip_map: _Pairs = ()
    skeleton: _Pairs = ()

    def to_json(self) -> str:
        """The content of ``keypoints.json``."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> KeypointNames:
        """Read a ``keypoints.json``; ``flip_map`` and ``skeleton`` may be left out.

        Raises:
            ModelError: it cannot be read, or is no such file.
        """
        try:
            with open_regular(path) as file:
                data = file.read(MAX_BYTES + 1)
            content = json.loads(data) if len(data) <= MAX_BYTES else None
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError):
            raise _fault(path, "it is no JSON") from None
        if not isinstance(content, dict):
            raise _fault(path, f"it is no JSON object of at most {MAX_BYTES} bytes")
        names = content.get("names")
        if not names or not _are_names(names) or len(set(names)) != len(names):
            raise _fault(path, "its names are not a list of different names")
        pairs = {key: _pairs(content.get(key) or [], names) for key in ("flip_map", "skeleton")}
        wrong = [key for key, found in pairs.items() if found is None]
        if wrong:
            raise _fault(path, f"its {wrong[0]} is not a list of pairs of these names")
        flipped = [name for pair in pairs["flip_map"] or () for name in pair]
        if len(set(flipped)) != len(flipped):
            raise _fault(path, "its flip_map has a keypoint twice")
        return cls(tuple(names), pairs["flip_map"] or (), pairs["skeleton"] or ())


def _pairs(value: Any, names: list[str]) -> _Pairs | None:
    if not isinstance(value, list):
        return None
    if not all(_are_names(pair) and len(pair) == 2 and set(pair) <= set(names) for pair in value):
        return None
    return tuple((first, second) for first, second in value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _fault(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path.name} does not name keypoints: {reason}. It has names, a list, and may have flip_map and "
        "skeleton, lists of pairs of them."
    )
