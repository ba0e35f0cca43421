"""What a detector found (or was taught) in one image: fields of equal length R."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Instances:
    """R instances of one image of ``image_size`` = (height, width) in pixels.

    Fields are attributes (``instances.pred_boxes``), all of the same length; a field is a tensor,
    a list, or a structure with ``__len__`` and ``__getitem__`` such as :class:`Boxes`. Names in
    use: ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``, ``pred_keypoints``;
    proposals have ``proposal_boxes`` and ``objectness_logits``.
    """

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in fields.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image that the coordinates belong to."""
        return self._image_size

    def set(self, name: str, value: Any) -> None:
        """Set field ``name``; its length must equal that of the other fields."""
        if self._fields and len(value) != len(self):
            raise ValueError(
                f"Field {name!r} has length {len(value)}; this object has {len(self)}."
            )
        self._fields[name] = value

    def get(self, name: str) -> Any:
        """Field ``name``; KeyError if it is not set."""
        return self._fields[name]

    def has(self, name: str) -> bool:
        """Whether field ``name`` is set."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Forget field ``name``."""
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """All fields, by name."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """A copy with every tensor and structure moved as by ``Tensor.to``."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    @staticmethod
    def cat(instance_lists: Sequence[Instances]) -> Instances:
        """One object with the instances of all, which must be of one image size and have the same fields."""
        if not instance_lists:
            raise ValueError("Instances.cat needs at least one object.")
        if len(instance_lists) == 1:
            return instance_lists[0]
        image_size = instance_lists[0].image_size
        if any(instances.image_size != image_size for instances in instance_lists):
            raise ValueError("Instances.cat needs objects of one image size.")
        joined = Instances(image_size)
        for name, first in instance_lists[0].get_fields().items():
            values = [instances.get(name) for instances in instance_lists]
            if isinstance(first, Tensor):
                joined.set(name, torch.cat(values, dim=0))
            elif isinstance(first, list):
                joined.set(name, list(itertools.chain.from_iterable(values)))
            else:
                joined.set(name, type(first).cat(values))
        return joined

    def __getattr__(self, name: str) -> Any:
        # Reached only when normal look-up fails; "_fields" itself is absent while unpickling.
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"These instances have no field {name!r}.")
        return self._fields[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getitem__(self, item: int | slice | Tensor) -> Instances:
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"Instance {item} of {len(self)}.")
            item = slice(item, item + 1 or None)
        selected = Instances(self._image_size)
        for name, value in self._fields.items():
            if isinstance(value, list) and isinstance(item, Tensor):
                index = item.nonzero().flatten() if item.dtype == torch.bool else item
                selected.set(name, [value[int(i)] for i in index])
            else:
                selected.set(name, value[item])
        return selected

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length.")

    def __repr__(self) -> str:
        height, width = self._image_size
        number = len(self) if self._fields else 0
        return f"Instances({number} in {height}x{width}: {', '.join(self._fields) or 'no fields'})"
