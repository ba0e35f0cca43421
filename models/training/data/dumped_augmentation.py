"""Augmentations that Detectron2 dumped with a lazy config, such as its large-scale jitter.

A dump names transforms and their keywords; those known here are made, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchvision.transforms import v2

from models.config.interpolation import resolve
from models.config.lazy import target_name
from models.errors import ConfigError
from models.training.data.augmentation import random_crop
from models.training.data.geometric_transforms import (
    FixedSizeCrop,
    ResizeShortestEdge,
    ScaleJitter,
)
from models.training.data.lazy_dump import read_lazy_file

_STEPS = ("dataloader", "train", "mapper", "augmentations")


def dumped_augmentations(path: str | Path) -> v2.Compose:
    """What ``dataloader.train.mapper.augmentations`` of a dumped lazy config says.

    Args:
        path: of the YAML.

    Raises:
        ConfigError: the file is no such config, or holds a transform or a keyword that is not known.
    """
    path = Path(path)
    values = read_lazy_file(path)
    steps = resolve(values, _STEPS, path.name)
    if not isinstance(steps, list):
        raise ConfigError(f"{path.name}: {'.'.join(_STEPS)} is no list.")
    return v2.Compose([_made(step, path.name) for step in steps])


def _made(step: Any, name: str) -> Any:
    target = target_name(step)
    if target not in _MAKERS:
        raise ConfigError(
            f"{name}: {'.'.join(_STEPS)} has {target or 'a step without a _target_'}; known are "
            f"{', '.join(_MAKERS)}."
        )
    make, known = _MAKERS[target]
    keywords = {key: value for key, value in step.items() if key != "_target_"}
    if unknown := sorted(keywords.keys() - known):
        raise ConfigError(
            f"{name}: {target} has {', '.join(unknown)}; known are {', '.join(known)}."
        )
    try:
        return make(keywords)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {target} cannot be made of {keywords}: {error!r}.") from None


def _resize_shortest_edge(keywords: Mapping[str, Any]) -> Any:
    given = keywords["short_edge_length"]
    style = keywords.get("sample_style", "range")
    if isinstance(given, int):
        given = [given, given]
    if style not in ("range", "choice") or (style == "range" and len(given) != 2):
        raise ValueError("sample_style is choice, or range with two lengths")
    sizes = tuple(int(size) for size in given)
    largest = int(keywords.get("max_size", 1 << 30))
    return ResizeShortestEdge(sizes, largest, is_range=style == "range")


def _resize_scale(keywords: Mapping[str, Any]) -> Any:
    target = int(keywords["target_height"]), int(keywords["target_width"])
    return ScaleJitter(target, (float(keywords["min_scale"]), float(keywords["max_scale"])))


def _fixed_size_crop(keywords: Mapping[str, Any]) -> Any:
    height, width = keywords["crop_size"]
    return FixedSizeCrop((int(height), int(width)))


def _random_crop(keywords: Mapping[str, Any]) -> Any:
    return random_crop(keywords["crop_type"], keywords["crop_size"])


def _random_flip(keywords: Mapping[str, Any]) -> Any:
    is_vertical = bool(keywords.get("vertical", False))
    if is_vertical and keywords.get("horizontal", False):
        raise ValueError("it is horizontal or vertical")
    kind = v2.RandomVerticalFlip if is_vertical else v2.RandomHorizontalFlip
    return kind(float(keywords.get("prob", 0.5)))


_MAKERS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], tuple[str, ...]]] = {
    "ResizeShortestEdge": (
        _resize_shortest_edge,
        ("short_edge_length", "max_size", "sample_style"),
    ),
    "ResizeScale": (_resize_scale, ("min_scale", "max_scale", "target_height", "target_width")),
    "FixedSizeCrop": (_fixed_size_crop, ("crop_size",)),
    "RandomCrop": (_random_crop, ("crop_type", "crop_size")),
    "RandomFlip": (_random_flip, ("prob", "horizontal", "vertical")),
}
"""What makes each of Detectron2's transforms, and the keywords that it reads."""
