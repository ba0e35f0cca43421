"""What the service knows of a model: four methods and a description.

The service's tests run on a fake of this; :mod:`service.inference.torch_detector` is the real one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.structures import Instances


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, as ``GET /models`` tells.

    Attributes:
        architecture: the meta-architecture, such as ``GeneralizedRCNN``.
        backbone: for people, such as ``ResNet-50 FPN``.
        task: ``object_detection`` or ``instance_segmentation``.
        class_names: K names; the index is the class id.
        class_names_source: the file that they came from, or ``placeholder``.
        score_threshold: the model's own; it computes nothing at or below.
        nms_threshold: IoU above which a box of the same class is suppressed.
        max_detections: instances per image at most.
        input_format: channel order that the model was trained on.
        min_size, max_size: shorter side after the resize, and the bound of the longer one.
        device, precision: where and in which number format it runs.
        weights_file, weights_sha256, config_file: what it was loaded from.
        load_report: what the strict load found, as data.
    """

    architecture: str
    backbone: str
    task: str
    class_names: tuple[str, ...]
    class_names_source: str
    score_threshold: float
    nms_threshold: float
    max_detections: int
    input_format: str
    min_size: int
    max_size: int
    device: str
    precision: str
    weights_file: str
    weights_sha256: str
    config_file: str
    load_report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PreparedImage:
    """An image ready to run.

    Attributes:
        tensor: (3, H', W') uint8, resized, channels in the model's order.
        height, width: of the picture as a viewer shows it; the answer is in its pixels.
        padded_size: (height, width) of the batch it runs in; only equal ones share a batch.
        recipe: what of the model the preparation depended on; a version with another recipe needs
            the image prepared anew.
    """

    tensor: Tensor
    height: int
    width: int
    padded_size: tuple[int, int]
    recipe: Hashable

    @property
    def padded_pixels(self) -> int:
        """Pixels that it takes in a batch."""
        return self.padded_size[0] * self.padded_size[1]


class Detector(Protocol):
    """A loaded model. ``prepare`` may run on any thread, ``infer`` and ``close`` on the model's alone."""

    @property
    def description(self) -> ModelDescription:
        """What the model is."""

    @property
    def recipe(self) -> Hashable:
        """See :class:`PreparedImage`."""

    def prepare(self, pixels: NDArray[np.uint8]) -> PreparedImage:
        """(H, W, 3) uint8 RGB -> ready to run."""

    def infer(self, batch: Sequence[PreparedImage]) -> list[Instances]:
        """Detect in images of one padded size.

        Returns:
            Per image its instances on the CPU, best first, in pixels of the picture; ``pred_masks``,
            if the model has them, are soft, (R, 1, M, M) over each box.
        """

    def close(self) -> int:
        """Free the model's memory; how many bytes that were."""
