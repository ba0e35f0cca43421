"""Masks of instances: bit masks, one bool per pixel of the image, and polygons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torchvision.ops
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from models.structures.boxes import Boxes
from models.structures.mask_crops import crop_masks

MAX_FLOATS = 2**26
"""Pixels of masks that become float numbers at a time where RoIAlign's kernel crops them: 256 MiB."""

FRAME_COST = 50_000
"""What a frame costs in :func:`crop_masks`, as so many pixels cost to become float numbers."""


class BitMasks:
    """R masks of one image, (R, H, W) bool.

    Selecting by a slice or a tensor copies no pixels: training selects the mask of its ground truth
    for each of hundreds of proposals, and those are the same few frames over and over.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.dim() != 3:
            raise ValueError(f"BitMasks need shape (R, H, W), got {tuple(tensor.shape)}.")
        self._frames = tensor.to(torch.bool)
        # (R,) int64, the frame of each mask; None: each its own, in order.
        self._index: Tensor | None = None
        self.image_size = (tensor.shape[1], tensor.shape[2])

    @property
    def tensor(self) -> Tensor:
        """The masks as one bool tensor (R, H, W); here a selection copies its pixels."""
        return self._frames if self._index is None else self._frames[self._index]

    @property
    def device(self) -> torch.device:
        """Where the masks live."""
        return self._frames.device

    def to(self, device: torch.device | str) -> BitMasks:
        """The masks on ``device``."""
        moved = BitMasks(self._frames.to(device))
        moved._index = None if self._index is None else self._index.to(device)
        return moved

    def nonempty(self) -> Tensor:
        """(R,) bool: has at least one pixel."""
        filled = self._frames.flatten(1).any(dim=1)
        return filled if self._index is None else filled[self._index]

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes in XYXY pixels; an empty mask gives a box of zeros."""
        boxes = torch.zeros(len(self), 4)
        for i, mask in enumerate(self):
            rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
            if len(rows):
                corners = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                boxes[i] = torch.tensor(corners, dtype=torch.float32)
        return Boxes(boxes)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What each of the boxes sees of its mask, at another resolution.

        Args:
            boxes: (R, 4) XYXY in pixels, finite, box i for mask i.
            mask_size: side M of the result.

        Returns:
            (R, M, M) bool, on the device of the masks: at least half of the cell is foreground, by the
            bilinear samples of RoIAlign.
        """
        _check_boxes(boxes, len(self))
        boxes = boxes.detach().to(self.device, torch.float32)
        index = self._places()
        if self._is_for_products(boxes):
            return crop_masks(self._frames, index, boxes, mask_size) >= 0.5
        return self._crop_by_kernel(index, boxes, mask_size)

    def _is_for_products(self, boxes: Tensor) -> bool:
        """Whether :func:`crop_masks` is the faster way: on a CPU, but for few small masks."""
        if self.device.type != "cpu":
            return False
        seen = float((boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sum())
        # The kernel takes four times as long for a pixel in a box as one takes to become a number; the
        # products need some calls for each mask and, as many as for three, for all of them.
        cost_of_products = FRAME_COST * (min(len(boxes), len(self._frames)) + 3)
        return self._frames.numel() + 4 * seen > cost_of_products

    def _crop_by_kernel(self, index: Tensor, boxes: Tensor, mask_size: int) -> Tensor:
        """By RoIAlign's kernel, some frames at a time as float numbers."""
        crops = torch.empty(
            (len(boxes), mask_size, mask_size), dtype=torch.bool, device=boxes.device
        )
        height, width = self.image_size
        step = max(1, MAX_FLOATS // max(1, height * width))
        for start in range(0, len(self._frames), step):
            frames = self._frames[start : start + step]
            here = ((index >= start) & (index < start + len(frames))).nonzero().flatten()
            rois = torch.cat(((index[here] - start).float()[:, None], boxes[here]), dim=1)
            pooled = torchvision.ops.roi_align(
                frames[:, None].float(), rois, (mask_size, mask_size), 1.0, 0, True
            )
            crops[here] = pooled[:, 0] >= 0.5
        return crops

    def _places(self) -> Tensor:
        if self._index is not None:
            return self._index
        return torch.arange(len(self._frames), device=self.device)

    @staticmethod
    def cat(bitmasks_list: list[BitMasks]) -> BitMasks:
        """One object with the masks of all."""
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor) -> BitMasks:
        selected = BitMasks(self._frames)
        if isinstance(item, int):
            selected._index = self._places()[item].view(1)
        elif isinstance(item, slice):
            selected._index = self._places()[item]
        else:
            selected._index = self._places()[item.to(self.device)]
        return selected

    def __iter__(self) -> Iterator[Tensor]:
        for place in self._places().tolist():
            yield self._frames[place]

    def __len__(self) -> int:
        return len(self._frames) if self._index is None else len(self._index)

    def __repr__(self) -> str:
        return f"BitMasks({len(self)} of {self.image_size[0]}x{self.image_size[1]})"


class PolygonMasks:
    """R masks, each the union of polygons, as COCO has them.

    They stay on the host: a crop of them is drawn there.

    Args:
        polygons: per mask its polygons, each x1, y1, x2, y2, ... in pixels, of three points or more.

    Raises:
        ValueError: a polygon is none.
    """

    def __init__(self, polygons: Sequence[Sequence[ArrayLike]]) -> None:
        self.polygons: list[list[NDArray[np.float64]]] = [
            [_as_polygon(polygon) for polygon in instance] for instance in polygons
        ]

    @property
    def device(self) -> torch.device:
        """The host, always."""
        return torch.device("cpu")

    def to(self, *args: Any, **kwargs: Any) -> PolygonMasks:
        """These masks: polygons stay on the host."""
        return self

    def area(self) -> Tensor:
        """(R,) float32 areas in square pixels, the sum over the polygons of a mask."""
        areas = [sum(_polygon_area(part) for part in instance) for instance in self.polygons]
        return torch.tensor(areas, dtype=torch.float32)

    def nonempty(self) -> Tensor:
        """(R,) bool: has at least one polygon."""
        return torch.tensor([len(instance) > 0 for instance in self.polygons], dtype=torch.bool)

    def get_bounding_boxes(self) -> Boxes:
        """Tight boxes in XYXY pixels; a mask without polygons gives a box of zeros."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for box, instance in zip(boxes, self.polygons, strict=True):
            if instance:
                points = np.concatenate(instance).reshape(-1, 2)
                box[:2], box[2:] = points.min(axis=0), points.max(axis=0)
        return Boxes(torch.from_numpy(boxes))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """What each of the boxes sees of its mask, at another resolution.

        Args:
            boxes: (R, 4) XYXY in pixels, box i for mask i.
            mask_size: side M of the result.

        Returns:
            (R, M, M) bool on the host: the polygons moved and scaled into the box, then drawn by COCO's
            rule.
        """
        import pycocotools.mask as mask_api  # where it draws: a model that only predicts has no need

        _check_boxes(boxes, len(self))
        corners = boxes.detach().cpu().float().numpy()
        crops = np.zeros((len(self), mask_size, mask_size), dtype=bool)
        for crop, instance, box in zip(crops, self.polygons, corners, strict=True):
            if instance:
                # A tenth of a pixel: a box without sides would scale by infinity.
                scale = mask_size / np.maximum(box[2:] - box[:2], np.float32(0.1))
                moved = [((part.reshape(-1, 2) - box[:2]) * scale).ravel() for part in instance]
                drawn = mask_api.merge(mask_api.frPyObjects(moved, mask_size, mask_size))
                crop[:] = mask_api.decode(drawn).astype(bool)
        return torch.from_numpy(crops)

    @staticmethod
    def cat(polymasks_list: Sequence[PolygonMasks]) -> PolygonMasks:
        """One object with the masks of all."""
        return _of_polygons([instance for masks in polymasks_list for instance in masks.polygons])

    def __getitem__(self, item: int | slice | Tensor) -> PolygonMasks:
        if isinstance(item, int):
            return _of_polygons([self.polygons[item]])
        if isinstance(item, slice):
            return _of_polygons(self.polygons[item])
        if item.dtype == torch.bool:
            if item.shape != (len(self),):
                raise IndexError(
                    f"A selection of shape {tuple(item.shape)} from {len(self)} masks."
                )
            item = item.nonzero().flatten()
        return _of_polygons([self.polygons[place] for place in item.tolist()])

    def __iter__(self) -> Iterator[list[NDArray[np.float64]]]:
        yield from self.polygons

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"PolygonMasks({len(self)})"


def _of_polygons(polygons: list[list[NDArray[np.float64]]]) -> PolygonMasks:
    """Masks of polygons that are known to be right: each is checked once."""
    masks = PolygonMasks([])
    masks.polygons = polygons
    return masks


def _as_polygon(points: ArrayLike) -> NDArray[np.float64]:
    polygon = np.asarray(points, dtype=np.float64).ravel()
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            "A polygon is x1, y1, x2, y2, ... of three points or more, so an even number of six or "
            f"more coordinates; got {len(polygon)}."
        )
    return polygon


def _polygon_area(polygon: NDArray[np.float64]) -> float:
    """The shoelace formula."""
    x, y = polygon[0::2], polygon[1::2]
    return 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))


def _check_boxes(boxes: Tensor, number: int) -> None:
    if tuple(boxes.shape) != (number, 4):
        raise ValueError(f"Boxes of shape {tuple(boxes.shape)} to crop {number} masks by.")
