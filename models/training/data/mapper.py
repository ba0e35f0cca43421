"""From a picture of a data set to what a model learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import Config
from models.errors import ConfigError
from models.evaluation import EvaluationError, read_picture
from models.training.data.augmentation import build_augmentations
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.errors import DataError
from models.training.data.ground_truth import ground_truth_instances
from models.training.data.sample import Sample
from models.training.data.semantic_map import read_semantic_map

MASK_FORMATS = ("polygon", "bitmask")

Augmentations = Callable[[dict[str, Any]], dict[str, Any]]
"""A transform of ``torchvision.transforms.v2``, or several composed."""


class TrainingMapper:
    """Reads a picture, changes it at random, and gives what a model takes in training.

    What it gives depends on the picture and the seed alone.

    Args:
        cfg: of the model: ``INPUT``, ``MODEL.MASK_ON``, ``MODEL.KEYPOINT_ON`` and their like.
        dataset: of the pictures.
        augmentations: see :func:`models.training.data.augmentation.build_augmentations`; None for those
            of the config.
        cache_bytes: decoded pictures that are kept in memory, each process its own.

    Raises:
        ConfigError: a key of the config has a value that is not known.
        DataError: the config wants masks or keypoints that the data does not have.
    """

    def __init__(
        self,
        cfg: Config,
        dataset: TrainingDataset,
        *,
        augmentations: Augmentations | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self._augmentations = augmentations or build_augmentations(cfg)
        self._is_bgr = _one_of(cfg, "INPUT.FORMAT", ("BGR", "RGB")) == "BGR"
        self._as_bit_masks = _one_of(cfg, "INPUT.MASK_FORMAT", MASK_FORMATS) == "bitmask"
        self._with_masks = bool(cfg.MODEL.MASK_ON)
        self._keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if cfg.MODEL.KEYPOINT_ON else 0
        self._flip_permutation = dataset.flip_permutation()
        self._rotated = cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RRPN"
        self._ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        self._pictures = _PictureCache(cache_bytes)
        if self._with_masks:
            _check_masks(dataset)
        if self._keypoints:
            _check_keypoints(dataset, self._keypoints)
            may_mirror = augmentations is None and cfg.INPUT.RANDOM_FLIP != "none"
            if may_mirror and self._flip_permutation is None:
                raise _no_flip_map()

    def __call__(self, image: TrainingImage, seed: int) -> dict[str, Any]:
        """The input of one picture.

        Args:
            image: of the data set.
            seed: 0 .. 2**63 - 1; decides all that is random.

        Returns:
            ``image`` (3, H, W) uint8, channels as ``INPUT.FORMAT`` says; ``instances``, see
            :func:`models.training.data.ground_truth.ground_truth_instances`; ``sem_seg`` (H, W) int64
            where the picture has a map; ``height`` and ``width`` of the picture as it was read,
            ``image_id``, ``file_name``.

        Raises:
            DataError: the picture or its map cannot be read or has another size than the data set says.
        """
        size = (image.height, image.width)
        sem_seg = None
        if image.sem_seg_path is not None:
            sem_seg = read_semantic_map(image.sem_seg_path, size) - self._ignored
        objects = tuple(found for found in image.objects if not found.is_crowd)
        sample = Sample(
            self._pictures.read(image),
            objects,
            with_masks=self._with_masks,
            keypoints=self._keypoints,
            sem_seg=sem_seg,
        )
        with _seeded(seed):
            parts = sample.parts(self._augmentations(sample.tensors))
        if parts.is_mirrored and self._keypoints and self._flip_permutation is None:
            raise _no_flip_map()
        result = {
            "image": self._ordered(parts.image),
            "instances": ground_truth_instances(
                parts,
                objects,
                with_masks=self._with_masks,
                as_bit_masks=self._as_bit_masks,
                with_keypoints=self._keypoints > 0,
                flip_permutation=self._flip_permutation,
                rotated=self._rotated,
            ),
            "height": image.height,
            "width": image.width,
            "image_id": image.id,
            "file_name": str(image.path),
        }
        if parts.sem_seg is not None:
            result["sem_seg"] = parts.sem_seg.long() + self._ignored
        return result

    def _ordered(self, image: Tensor) -> Tensor:
        """In the model's order of channels and in memory of its own: the picture may be in the cache."""
        ordered = torch.empty(image.shape, dtype=torch.uint8)
        return ordered.copy_(image.flip(0) if self._is_bgr else image)


class _PictureCache:
    """Decoded pictures, as many of the first read as fit; what it gives must not be written to."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._pictures: dict[int, NDArray[np.uint8]] = {}

    def read(self, image: TrainingImage) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        pixels = self._pictures.get(image.id)
        if pixels is not None:
            return pixels
        try:
            pixels = read_picture(image.path, (image.height, image.width))
        except EvaluationError as error:
            raise DataError(error.message, **error.details) from error
        if self._bytes + pixels.nbytes <= self._limit:
            self._pictures[image.id] = pixels
            self._bytes += pixels.nbytes
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        """Without the pictures: another process reads its own rather than waits for these."""
        return {"_limit": self._limit, "_bytes": 0, "_pictures": {}}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's global generator of the host, seeded for a while and then as it was before."""
    state = torch.get_rng_state()
    # Not torch.manual_seed, which would seed the GPUs' generators as well.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _learned(dataset: TrainingDataset) -> Iterator[tuple[TrainingImage, TrainingObject]]:
    for image in dataset.images:
        for found in image.objects:
            if not found.is_crowd:
                yield image, found


def _check_masks(dataset: TrainingDataset) -> None:
    bare = [
        image.path.name
        for image, found in _learned(dataset)
        if not found.polygons and found.rle is None
    ]
    if bare:
        raise DataError(
            f"MODEL.MASK_ON is set, but {len(bare)} objects of {dataset.name} have no mask, the first "
            f"in {bare[0]}. Add their masks, or train boxes alone: MODEL.MASK_ON False.",
            key="MODEL.MASK_ON",
        )
    for image, found in _learned(dataset):
        if found.rle is not None and list(found.rle["size"]) != [image.height, image.width]:
            raise DataError(
                f"A mask in {image.path.name} is of another size than the picture; export the masks "
                "again.",
                file=image.path.name,
            )


def _check_keypoints(dataset: TrainingDataset, number: int) -> None:
    if not dataset.has_keypoints:
        raise DataError(
            f"MODEL.KEYPOINT_ON is set, but {dataset.name} has no keypoints. Add them, or train without: "
            "MODEL.KEYPOINT_ON False.",
            key="MODEL.KEYPOINT_ON",
        )
    for image, found in _learned(dataset):
        if found.keypoints is not None and len(found.keypoints) != 3 * number:
            raise DataError(
                f"An object in {image.path.name} has {len(found.keypoints) // 3} keypoints, but "
                f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {number}. Set it to that of the data.",
                key="MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS",
            )


def _no_flip_map() -> DataError:
    return DataError(
        "Pictures are mirrored, and the data does not say which keypoints then change places (the left "
        "eye becomes the right one). Add a flip_map to the category, or set INPUT.RANDOM_FLIP none.",
        key="INPUT.RANDOM_FLIP",
    )


def _one_of(cfg: Config, key: str, known: tuple[str, ...]) -> str:
    value: str = cfg[key]
    if value not in known:
        raise ConfigError(f"{key} is {value!r}; to train it is {' or '.join(known)}.", key=key)
    return value
