"""What the service knows of a model: four methods and a description.

The service's tests run on a fake of this; :mod:`service.inference.torch_detector` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.structures import Instances
from models.transforms import resized_size
from models.wanted import EVERYTHING, Wanted
from service.repository.model_settings import Batching, Color

T = TypeVar("T")


@dataclass(frozen=True)
class ModelDescription:
    """What a model is, as ``GET /models`` tells.

    Attributes:
        architecture: the meta-architecture, such as ``GeneralizedRCNN``.
        backbone: for people, such as ``ResNet-50 FPN``.
        task: such as ``instance_segmentation``; see :class:`models.facts.ModelFacts`.
        class_names: K names; the index is the class id.
        class_names_source: the file that they came from, or ``placeholder``.
        score_threshold: the model's own; it computes nothing at or below.
        nms_threshold: IoU above which a box of the same class is suppressed.
        max_detections: instances per image at most.
        input_format: channel order that the model was trained on.
        min_size, max_size: shorter side after the resize, and the bound of the longer one.
        device: where it runs.
        precision: the number format of backbone and heads.
        execution: how it runs and how far that changes answers, as data; see
            :class:`models.execution.ExecutionPlan`.
        weights_file, weights_sha256, config_file: what it was loaded from.
        load_report: what the strict load found, as data.
        outputs, box_mode, score_threshold_key, max_detections_key, takes_proposals, takes_overrides: see
            :class:`models.facts.ModelFacts`.
        max_detections_limit: what a request may ask it to keep, where that is more than its own number
            and it takes overrides.
        stuff_class_names: of a semantic head; the index is the class id.
        keypoint_names, keypoint_skeleton: of an instance; the skeleton as pairs of indices.
        tta: the model's own views; None when there is no test-time augmentation for it.
        category_ids: the data set's own ids of the classes; none at all where they are not known.
        class_colors: by class id; None, or none at all, is the palette's.
        default_score_threshold, default_max_detections: of requests that name none; None is the
            model's own.
        batching: bounds on its batches, within the server's.
        about: what its owner says of it.
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
    execution: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("instances", "masks")
    box_mode: str = "XYXY_ABS"
    score_threshold_key: str = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"
    max_detections_key: str = "TEST.DETECTIONS_PER_IMAGE"
    takes_proposals: bool = False
    takes_overrides: bool = False
    max_detections_limit: int = 1000
    stuff_class_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    keypoint_skeleton: tuple[tuple[int, int], ...] = ()
    tta: Views | None = None
    category_ids: tuple[int, ...] = ()
    class_colors: tuple[Color | None, ...] = ()
    default_score_threshold: float | None = None
    default_max_detections: int | None = None
    batching: Batching = field(default_factory=Batching)
    about: str = ""

    @property
    def default_score(self) -> float:
        """Least score of an instance, of a request that names none."""
        own = self.default_score_threshold
        return self.score_threshold if own is None else own

    @property
    def default_most(self) -> int:
        """Instances per image at most, of a request that names no number; negative: all."""
        own = self.default_max_detections
        return self.max_detections if own is None else own

    @property
    def largest_max_detections(self) -> int:
        """What a request may ask it to keep at most; negative: any number."""
        own = self.max_detections
        return max(own, self.max_detections_limit) if self.takes_overrides and own >= 0 else own

    @property
    def stuff_class_colors(self) -> tuple[Color | None, ...]:
        """Like ``class_colors`` for ``stuff_class_names``: a model that finds no instances has one list
        of classes, another one's stuff has no colours of its own."""
        return () if "instances" in self.outputs else self.class_colors


@dataclass(frozen=True)
class Views:
    """The views of test-time augmentation: short sides, the bound of the long one, mirroring."""

    sizes: tuple[int, ...]
    max_size: int
    flip: bool

    def pixels(self, height: int, width: int) -> int:
        """Pixels of all views of a picture of this size together."""
        shapes = (resized_size(height, width, size, self.max_size) for size in self.sizes)
        return sum(h * w for h, w in shapes) * (2 if self.flip else 1)

    @property
    def count(self) -> int:
        """How many views an image has."""
        return len(self.sizes) * (2 if self.flip else 1)


@dataclass(frozen=True)
class Prediction:
    """What a model found in one picture, on the CPU, in its pixels; None is what it has not.

    Attributes:
        instances: best first; ``pred_masks`` are soft, (R, 1, M, M) over each box, or (R, H, W) bool.
        proposals: ``proposal_boxes`` and ``objectness_logits``, best first.
        sem_seg: (H, W) int16, the class of each pixel.
        panoptic_seg: (H, W) int32 segment of each pixel, 0 is none, and what the segments are.
        found_scores: scores of all instances that the model found, where not all were wanted.
    """

    instances: Instances | None = None
    proposals: Instances | None = None
    sem_seg: Tensor | None = None
    panoptic_seg: tuple[Tensor, list[dict[str, Any]]] | None = None
    found_scores: Tensor | None = None

    @property
    def scores(self) -> Tensor:
        """Scores of all instances that the model found, (R,); none without instances."""
        if self.found_scores is not None:
            return self.found_scores
        return torch.zeros(0) if self.instances is None else self.instances.scores


@dataclass(frozen=True)
class PreparedImage:
    """An image ready to run.

    Attributes:
        tensor: (3, H', W') uint8, resized, channels in the model's order; with ``resize_to`` the picture
            as it came, RGB, and the model's device does that.
        height, width: of the picture as a viewer shows it; the answer is in its pixels.
        padded_size: (height, width) of the batch it runs in; only equal ones share a batch.
        recipe: what of the model the preparation depended on; a version with another recipe needs
            the image prepared anew.
        views: of test-time augmentation; () is without.
        proposals: (P, 4) boxes in pixels of ``tensor``, for a model that takes them.
        wanted: what of the answer the request will use; the rest need not be computed. Images that
            want different things share a batch.
        resize_to: (height, width) that the device brings ``tensor`` to; None: it is there.
    """

    tensor: Tensor
    height: int
    width: int
    padded_size: tuple[int, int]
    recipe: Hashable
    views: tuple[dict[str, Any], ...] = ()
    proposals: Tensor | None = None
    wanted: Wanted = EVERYTHING
    resize_to: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) that the model sees, without padding."""
        return self.resize_to or (self.tensor.shape[-2], self.tensor.shape[-1])

    @property
    def padded_pixels(self) -> int:
        """Pixels that it takes in a batch; with views those of all of them."""
        if self.views:
            return sum(view["image"][0].numel() for view in self.views)
        return self.padded_size[0] * self.padded_size[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        tensors = [self.tensor, *(view["image"] for view in self.views)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Detector(Protocol):
    """A loaded model. ``prepare`` may run on any thread, ``infer`` and ``close`` on the model's alone."""

    @property
    def description(self) -> ModelDescription:
        """What the model is."""

    @property
    def recipe(self) -> Hashable:
        """See :class:`PreparedImage`."""

    def prepare(
        self,
        pixels: NDArray[np.uint8],
        *,
        tta: Views | None = None,
        proposals: NDArray[np.float32] | None = None,
    ) -> PreparedImage:
        """(H, W, 3) uint8 RGB -> ready to run.

        Args:
            pixels: the picture.
            tta: views for test-time augmentation.
            proposals: (P, 4) XYXY in pixels of the picture, for a model that takes them.
        """

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        """Predict images of one padded size.

        Args:
            batch: the images.
            pause: called between the parts of a long run, such as the views of test-time
                augmentation: others may run then. What it raises ends the run.
        """

    def close(self) -> int:
        """Free the model's memory; how many bytes that were."""


class ModelCall(Protocol):
    """Runs a function on the model's thread and waits for what it returns; traffic goes on between two
    calls."""

    def __call__(self, function: Callable[[], T], /) -> T:
        """What ``function`` returns; what it raises is raised here."""


def at_once(function: Callable[[], T], /) -> T:
    """The :class:`ModelCall` of whoever is on the model's thread already, or has no other."""
    return function()


@runtime_checkable
class WarmsUp(Protocol):
    """A detector that is slow with what it meets for the first time, and can meet it beforehand."""

    def warm_up(
        self, sizes: Sequence[tuple[int, int]] | None = None, *, call: ModelCall = at_once
    ) -> None:
        """Meet what will come, before any traffic.

        Args:
            sizes: padded (height, width) that will come; None: the detector's own guess.
            call: takes each part of the work to the model's thread.
        """


@runtime_checkable
class KnowsItsNumbers(Protocol):
    """A detector that can look through its own weights."""

    def not_finite(self) -> str | None:
        """The name of a weight that holds NaN or infinity; None: there is none. On the model's thread.

        A model may hide them: a score of NaN is above no threshold, so it just finds nothing.
        """
