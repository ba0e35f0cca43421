"""What happens to a training picture before the model sees it: built from a config.

Detectron2 has no config keys for large-scale jitter and colour; these are keywords here, so that a
config that training writes stays one that Detectron2 reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.transforms import v2

from models.config import Config
from models.errors import ConfigError
from models.training.data.geometric_transforms import (
    FixedSizeCrop,
    RandomCrop,
    ResizeShortestEdge,
    ScaleJitter,
)

CROP_TYPES = ("relative", "relative_range", "absolute", "absolute_range")
FLIPS = ("none", "horizontal", "vertical")


def build_augmentations(
    cfg: Config,
    *,
    large_scale_jitter: tuple[int, int] | None = None,
    scale_range: tuple[float, float] = (0.1, 2.0),
    colour_jitter: float = 0.0,
    extra: Sequence[Any] = (),
) -> v2.Compose:
    """Crop, resize and flip as ``INPUT`` says, in Detectron2's order; then colour.

    Args:
        cfg: of the model: ``INPUT.CROP``, ``INPUT.MIN_SIZE_TRAIN``, ``INPUT.MIN_SIZE_TRAIN_SAMPLING``,
            ``INPUT.MAX_SIZE_TRAIN``, ``INPUT.RANDOM_FLIP``.
        large_scale_jitter: (height, width): instead of the config's crop and resize, scale the picture
            at random and cut or fill it up to this size.
        scale_range: of that scale; 1 fits the picture into the size.
        colour_jitter: up to this part more or less brightness, contrast and saturation; the hue turns
            by up to a tenth of it.
        extra: more transforms of ``torchvision.transforms.v2`` at the end. Boxes or points must not be
            taken away by them (``SanitizeBoundingBoxes``): the mapper drops what became empty.

    Raises:
        ConfigError: a value is none of those known, or a number is out of its range.
    """
    if large_scale_jitter is None:
        steps: list[Any] = [_resize(cfg)]
        if cfg.INPUT.CROP.ENABLED:
            steps.insert(0, random_crop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    else:
        steps = _large_scale_jitter(large_scale_jitter, scale_range)
    flip = cfg.INPUT.RANDOM_FLIP
    if flip not in FLIPS:
        raise _one_of("INPUT.RANDOM_FLIP", flip, FLIPS)
    if flip == "horizontal":
        steps.append(v2.RandomHorizontalFlip(0.5))
    elif flip == "vertical":
        steps.append(v2.RandomVerticalFlip(0.5))
    if not 0 <= colour_jitter <= 1:
        raise ConfigError(f"colour_jitter is a part from 0 to 1, not {colour_jitter!r}.")
    if colour_jitter:
        strength = {"brightness": colour_jitter, "contrast": colour_jitter}
        steps.append(v2.ColorJitter(**strength, saturation=colour_jitter, hue=colour_jitter / 10))
    return v2.Compose([*steps, *extra])


def described(augmentations: Any) -> str:
    """What transforms do, as text that is equal for equal ones in every process and on every day.

    Args:
        augmentations: a transform of ``torchvision.transforms.v2``, which tells its numbers, or any
            function, of which only the name is known.
    """
    if isinstance(augmentations, nn.Module):
        return repr(augmentations)
    named = augmentations if hasattr(augmentations, "__qualname__") else type(augmentations)
    return f"{named.__module__}.{named.__qualname__}"


def _resize(cfg: Config) -> ResizeShortestEdge:
    given = cfg.INPUT.MIN_SIZE_TRAIN
    sizes = tuple(given) if isinstance(given, list | tuple) else (given,)
    largest = cfg.INPUT.MAX_SIZE_TRAIN
    if not sizes or not all(_is_whole(size, 0) for size in sizes):
        raise ConfigError(
            f"INPUT.MIN_SIZE_TRAIN is {given!r}; it is one or more whole numbers of pixels, 0 for no "
            "resize.",
            key="INPUT.MIN_SIZE_TRAIN",
        )
    if not _is_whole(largest, 1):
        raise ConfigError(
            f"INPUT.MAX_SIZE_TRAIN is {largest!r}; it is a whole number of pixels.",
            key="INPUT.MAX_SIZE_TRAIN",
        )
    sampling = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if sampling not in ("choice", "range"):
        raise _one_of("INPUT.MIN_SIZE_TRAIN_SAMPLING", sampling, ("choice", "range"))
    is_range = sampling == "range"
    if is_range and (len(sizes) != 2 or not 0 < sizes[0] <= sizes[1]):
        raise ConfigError(
            f'INPUT.MIN_SIZE_TRAIN is {given!r}; with INPUT.MIN_SIZE_TRAIN_SAMPLING "range" it is the '
            "smallest and the largest size.",
            key="INPUT.MIN_SIZE_TRAIN",
        )
    return ResizeShortestEdge(sizes, largest, is_range=is_range)


def random_crop(kind: str, size: Sequence[Any]) -> RandomCrop:
    """The crop that Detectron2's ``INPUT.CROP.TYPE`` and ``INPUT.CROP.SIZE`` say.

    Raises:
        ConfigError: they say none.
    """
    if kind not in CROP_TYPES:
        raise _one_of("INPUT.CROP.TYPE", kind, CROP_TYPES)
    if kind.startswith("relative"):
        is_sound = all(_is_part(part) for part in size)
        meaning = "two parts of height and width, above 0 and up to 1"
    else:
        is_sound = all(_is_whole(side, 1) for side in size)
        meaning = "two whole numbers of pixels"
    if kind == "absolute_range":
        meaning = "the least and the most pixels of a side"
        is_sound = is_sound and sorted(size) == list(size)
    if len(size) != 2 or not is_sound:
        raise ConfigError(
            f"INPUT.CROP.SIZE is {size!r}; with INPUT.CROP.TYPE {kind!r} it is {meaning}.",
            key="INPUT.CROP.SIZE",
        )
    return RandomCrop(kind, (size[0], size[1]))


def _large_scale_jitter(size: tuple[int, int], factors: tuple[float, float]) -> list[Any]:
    if len(size) != 2 or not all(_is_whole(side, 1) for side in size):
        raise ConfigError(f"large_scale_jitter is a height and a width in pixels, not {size!r}.")
    if len(factors) != 2 or not 0 < factors[0] <= factors[1]:
        raise ConfigError(
            f"scale_range is {factors!r}; it is the smallest and the largest scale, above 0."
        )
    return [ScaleJitter(size, factors), FixedSizeCrop(size)]


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_part(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _one_of(key: str, value: Any, known: Sequence[str]) -> ConfigError:
    return ConfigError(f"{key} is {value!r}; it is one of {', '.join(known)}.", key=key)
