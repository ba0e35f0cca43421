"""Instances as a client has them: NumPy arrays, and masks that are decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.client.rle import decode_rle

# Answers are coordinates, in which the centre of the first pixel is 0.5; COCO's are indices of pixels.
_COCO_SHIFT = np.array([0.5, 0.5, 0.0], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Instances:
    """R instances of one picture, best first.

    ``instances[3]``, ``instances[:10]`` and ``instances[instances.scores > 0.5]`` are instances again.

    Attributes:
        image_size: (height, width) in pixels.
        boxes: (R, 4) float32, XYXY in pixels; of rotated boxes (R, 5), centre, width, height and angle
            in degrees, counter-clockwise.
        classes: (R,) int64 class ids.
        class_names: R names.
        scores: (R,) float32.
        keypoints: (R, K, 3) float32, x and y in pixels and a score; None without a keypoint head.
        corners: (R, 4, 2) float32, of rotated boxes; else None.
        rles: R masks in COCO's run-length encoding, as ``pycocotools.mask.decode`` takes them; None with
            ``masks="none"`` or without a mask head.
    """

    image_size: tuple[int, int]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    class_names: tuple[str, ...]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    corners: NDArray[np.float32] | None = None
    rles: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, answer: Mapping[str, Any], image_size: tuple[int, int]) -> Instances:
        """Of the ``instances`` in an answer. Raises KeyError, TypeError or ValueError if they are none."""
        rotated = answer["box_mode"] == "XYWHA_ABS"
        if not rotated and answer["box_mode"] != "XYXY_ABS":
            raise ValueError(f"boxes are {answer['box_mode']}")
        classes = np.array(answer["pred_classes"], dtype=np.int64)
        number = len(classes)
        keypoints, corners, rles = (
            answer.get(key) for key in ("pred_keypoints", "polygons", "masks")
        )
        found = cls(
            image_size=image_size,
            boxes=_floats(answer["pred_boxes"], (number, 5 if rotated else 4)),
            classes=classes,
            class_names=tuple(answer["class_names"]),
            scores=_floats(answer["scores"], (number,)),
            keypoints=None if keypoints is None else _keypoints(keypoints),
            corners=None if corners is None else _floats(corners, (number, 4, 2)),
            rles=None if rles is None else tuple(rles),
        )
        lengths = {len(part) for part in found._parts().values()}
        if lengths != {number}:
            raise ValueError("the lists of the instances differ in length")
        if any(list(rle["size"]) != list(image_size) for rle in found.rles or ()):
            raise ValueError("a mask has not the size of its picture")
        return found

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Instances:
        """Some of them: by place, slice, places, or an (R,) bool array. Raises :class:`IndexError`."""
        places = np.atleast_1d(np.arange(len(self))[index])
        parts: dict[str, Any] = {
            name: tuple(part[i] for i in places) if isinstance(part, tuple) else part[places]
            for name, part in self._parts().items()
        }
        return Instances(image_size=self.image_size, **parts)

    @cached_property
    def masks(self) -> NDArray[np.bool_] | None:
        """(R, H, W) bool, decoded at the first look; None if there are none.

        Of many instances on a large picture that is much memory; :meth:`mask` gives one at a time.
        """
        if self.rles is None:
            return None
        masks = np.empty((len(self), *self.image_size), dtype=np.bool_)
        for place, rle in enumerate(self.rles):
            masks[place] = decode_rle(rle)
        return masks

    def mask(self, place: int) -> NDArray[np.bool_]:
        """(H, W) bool of one instance. Raises :class:`ValueError` if there are no masks."""
        if self.rles is None:
            raise ValueError(
                "There are no masks: the model has no mask head, or masks='none' was asked for."
            )
        return decode_rle(self.rles[place])

    def to_coco(
        self,
        image_id: int | str = 0,
        category_ids: Sequence[int] | Mapping[int, int] | Callable[[int], int] | None = None,
    ) -> list[dict[str, Any]]:
        """Results as COCO has them: ``bbox`` is XYWH, masks are ``segmentation``.

        Args:
            category_ids: the data set's id of each class id; default: class id plus one.
        """
        boxes = self.boxes.astype(np.float64)
        if self.corners is None:
            boxes[:, 2:] -= boxes[:, :2]
        keypoints = None if self.keypoints is None else self.keypoints - _COCO_SHIFT
        results = []
        for place, class_id in enumerate(self.classes.tolist()):
            if category_ids is None:
                category = class_id + 1
            else:
                category = (
                    category_ids(class_id) if callable(category_ids) else category_ids[class_id]
                )
            result: dict[str, Any] = {
                "image_id": image_id,
                "category_id": category,
                "bbox": boxes[place].tolist(),
                "score": float(self.scores[place]),
            }
            if self.rles is not None:
                result["segmentation"] = self.rles[place]
            if keypoints is not None:
                result["keypoints"] = keypoints[place].ravel().tolist()
            results.append(result)
        return results

    def _parts(self) -> dict[str, Any]:
        """The fields with an entry for each instance, those that are there."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "image_size"}
        return {name: part for name, part in parts.items() if part is not None}


def _floats(values: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    # Nothing found is an empty list, whatever its inner shape would be.
    array = np.array(values, dtype=np.float32)
    return array.reshape(shape) if array.size == 0 else _of_shape(array, shape)


def _of_shape(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if array.shape != shape:
        raise ValueError(f"an array is {array.shape} and not {shape}")
    return array


def _keypoints(values: Any) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float32)
    return array.reshape(0, 0, 3) if array.size == 0 else array
