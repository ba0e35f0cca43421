"""Whole detectors of mmdetection 2.x, or with its interface, behind the interface of ours.

Register a function that returns one, and a config can name it as its architecture::

    @META_ARCH_REGISTRY.register()
    def build_my_detector(cfg):
        return MMDetDetector(
            my_detector(), pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD
        )
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from models.architectures.base import Inputs, Outputs, output_sizes
from models.backbones.mmdet_backbone import build_with_mmdet
from models.errors import ConfigError
from models.structures import Boxes, ImageList, Instances


class MMDetDetector(nn.Module):
    """A detector with mmdetection's interface that takes and answers what Detectron2's do.

    Its resize and filters are its own. Detections are ordered by score here, as all models here
    order them; mmdetection orders them by class.

    Args:
        detector: has ``simple_test(imgs, img_metas, rescale=...)``, or else a ``forward(imgs,
            img_metas, return_loss=False, rescale=True)`` that takes lists of one batch. Per image it
            answers with a list of an (R, 5) array for each class (x1, y1, x2, y2, score), or with a
            pair of that and the masks: a list for each class of (H, W) bool frames or COCO RLEs. Or a
            config of mmdetection 2.x, which mmdetection then builds, without weights.
        size_divisibility: images are padded to multiples of this.
        pixel_mean, pixel_std: per channel, for pixels in 0 .. 255.

    Raises:
        ConfigError: the detector has neither method, or a config is given and mmdetection 2.x is not
            installed.
    """

    def __init__(
        self,
        detector: nn.Module | Mapping[str, Any],
        *,
        size_divisibility: int = 32,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError("pixel_mean and pixel_std have different lengths.")
        self.detector: Any = build_with_mmdet("detector", detector)
        self._simple = callable(getattr(self.detector, "simple_test", None))
        if not self._simple and not _takes(self.detector.forward, "return_loss"):
            raise ConfigError(
                f"{type(self.detector).__name__} has neither simple_test(imgs, img_metas, rescale) nor "
                "forward(imgs, img_metas, return_loss, rescale): it is no detector of mmdetection 2.x."
            )
        self.size_divisibility = size_divisibility
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            # Not persistent: they come from the config, checkpoints do not hold them.
            column = torch.tensor([float(value) for value in values]).view(-1, 1, 1)
            self.register_buffer(name, column, persistent=False)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: Inputs) -> Outputs:
        """Per image ``{"instances": Instances}`` at the output resolution.

        Args:
            batched_inputs: per image a dict with ``image``, a (C, H, W) tensor with pixels in 0 .. 255,
                already resized, and optionally ``height`` and ``width`` of the answer.

        Returns:
            ``pred_boxes``, ``scores``, ``pred_classes`` and, if the detector has masks, ``pred_masks``
            (R, height, width) bool, ordered by score.

        Raises:
            NotImplementedError: in training mode.
            TypeError, ValueError: the detector's answer is none of mmdetection's.
        """
        if self.training:
            raise NotImplementedError(
                "mmdetection's detectors are served, not trained, here; call model.eval() first."
            )
        return self.predict(batched_inputs)

    @torch.no_grad()
    def predict(self, batched_inputs: Inputs) -> Outputs:
        """As :meth:`forward`: mmdetection pastes the masks itself, so they are frames here too."""
        raw = [inputs["image"].to(self.device) for inputs in batched_inputs]
        images = ImageList.from_tensors(
            [(image - self.pixel_mean) / self.pixel_std for image in raw], self.size_divisibility
        )
        sizes = output_sizes(batched_inputs, images)
        metas = [
            _image_meta(image_size, size, images.tensor)
            for image_size, size in zip(images.image_sizes, sizes, strict=True)
        ]
        results = self._run(images.tensor, metas)
        if len(results) != len(raw):
            raise ValueError(f"The detector answered {len(results)} of {len(raw)} images.")
        return [
            {"instances": to_instances(result, size, self.device)}
            for result, size in zip(results, sizes, strict=True)
        ]

    def _run(self, images: Tensor, metas: list[dict[str, Any]]) -> Any:
        if self._simple:
            return self.detector.simple_test(images, metas, rescale=True)
        # The lists are mmdetection's test-time augmentations: here one view of each image.
        return self.detector([images], [metas], return_loss=False, rescale=True)


def to_instances(
    result: Any, image_size: tuple[int, int], device: torch.device | str = "cpu"
) -> Instances:
    """What mmdetection 2.x answers for one image, as Instances ordered by score.

    Args:
        result: see :class:`MMDetDetector`; masks may come with their scores as a pair of their own.
        image_size: (height, width) that boxes and masks are given in.
        device: where the Instances go.

    Raises:
        TypeError, ValueError: the answer is of another kind, or masks are of another number or size.
    """
    boxes_by_class, masks_by_class = result if isinstance(result, tuple) else (result, None)
    if not isinstance(boxes_by_class, list):
        raise TypeError(
            "The detector answers an image with a list of an (R, 5) array for each class, or a pair "
            f"of that and the masks; this one answered with a {type(boxes_by_class).__name__}."
        )
    tables = [_table(boxes, number) for number, boxes in enumerate(boxes_by_class)]
    table = np.concatenate(tables) if tables else np.zeros((0, 5), np.float32)
    classes = np.repeat(np.arange(len(tables)), [len(rows) for rows in tables])
    order = np.argsort(-table[:, 4], kind="stable")
    boxes = Boxes(torch.from_numpy(table[order, :4]).to(device))
    boxes.clip(image_size)
    instances = Instances(image_size)
    instances.pred_boxes = boxes
    instances.scores = torch.from_numpy(table[order, 4]).to(device)
    instances.pred_classes = torch.from_numpy(classes[order]).to(device)
    if masks_by_class is not None:
        frames = _frames(masks_by_class, [len(rows) for rows in tables], image_size)
        instances.pred_masks = torch.from_numpy(frames[order]).to(device)
    return instances


def _takes(function: Any, keyword: str) -> bool:
    return keyword in inspect.signature(function).parameters


def _image_meta(
    image_size: tuple[int, int], output_size: tuple[int, int], batch: Tensor
) -> dict[str, Any]:
    """What mmdetection's pipeline would have noted about an image; shapes are (H, W, C)."""
    channels = batch.shape[1]
    padded = (batch.shape[-2], batch.shape[-1])
    scale_y, scale_x = (seen / wanted for seen, wanted in zip(image_size, output_size, strict=True))
    return {
        "img_shape": (*image_size, channels),
        "ori_shape": (*output_size, channels),
        "pad_shape": (*padded, channels),
        "batch_input_shape": padded,
        "scale_factor": np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32),
        "flip": False,
        "flip_direction": None,
    }


def _array(values: Any) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _table(boxes: Any, number: int) -> NDArray[np.float32]:
    """(R, 5) boxes and scores of one class."""
    table = _array(boxes)
    if table.ndim != 2 or table.shape[1] != 5:
        raise ValueError(
            f"Boxes of class {number} have shape {table.shape}; they are (R, 5): x1, y1, x2, y2, score."
        )
    return table.astype(np.float32)


def _frames(
    masks_by_class: Any, counts: list[int], image_size: tuple[int, int]
) -> NDArray[np.bool_]:
    """All masks as (R, H, W) bool, class after class."""
    if isinstance(masks_by_class, tuple):  # mask scoring: the masks, then scores of their own
        masks_by_class = masks_by_class[0]
    found = [len(masks) for masks in masks_by_class]
    if found != counts:
        raise ValueError(
            f"The detector gave {sum(found)} masks for {sum(counts)} boxes, or others."
        )
    frames = np.zeros((sum(counts), *image_size), dtype=bool)
    masks = (mask for of_class in masks_by_class for mask in of_class)
    for number, mask in enumerate(masks):
        frame = coco_mask.decode(mask) if isinstance(mask, Mapping) else _array(mask)
        if frame.shape != image_size:
            raise ValueError(f"A mask has shape {frame.shape} in an image of {image_size}.")
        frames[number] = frame.astype(bool)
    return frames
