"""Augmentations out of configs that Detectron2 dumped."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from golden import GOLDEN
from torchvision.transforms import v2

from models.errors import ConfigError
from models.training.data.dumped_augmentation import dumped_augmentations
from models.training.data.geometric_transforms import (
    FixedSizeCrop,
    RandomCrop,
    ResizeShortestEdge,
    ScaleJitter,
)


def dumped(folder: Path, *steps: Any) -> Path:
    """A config with these steps."""
    path = folder / "config.yaml"
    content = {
        "model": {"_target_": "detectron2.modeling.GeneralizedRCNN"},
        "dataloader": {"train": {"mapper": {"augmentations": list(steps)}}},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def step(name: str, **keywords: Any) -> dict[str, Any]:
    return {"_target_": f"detectron2.data.transforms.{name}", **keywords}


def test_large_scale_jitter_as_detectron2_dumps_it() -> None:
    built = dumped_augmentations(GOLDEN / "lazy__mask_rcnn_R_50_FPN_100ep_LSJ" / "config.yaml")
    scale, crop, flip = built.transforms
    assert isinstance(scale, ScaleJitter)
    assert (scale.target, scale.factors) == ((1024, 1024), (0.1, 2.0))
    assert isinstance(crop, FixedSizeCrop)
    assert crop.size == (1024, 1024)
    assert isinstance(flip, v2.RandomHorizontalFlip)
    assert flip.p == 0.5


def test_choices_of_sizes_as_detectron2_dumps_them() -> None:
    built = dumped_augmentations(GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml")
    resize, _ = built.transforms
    assert isinstance(resize, ResizeShortestEdge)
    assert resize.sizes == (640, 672, 704, 736, 768, 800)
    assert (resize.max_size, resize.is_range) == (1333, False)


def test_one_size_crops_and_vertical_flips(tmp_path: Path) -> None:
    built = dumped_augmentations(
        dumped(
            tmp_path,
            step("RandomCrop", crop_type="relative", crop_size=[0.5, 0.6]),
            step("ResizeShortestEdge", short_edge_length=800, max_size=1000),
            step("RandomFlip", prob=0.25, horizontal=False, vertical=True),
        )
    )
    crop, resize, flip = built.transforms
    assert isinstance(crop, RandomCrop)
    assert (crop.kind, crop.size) == ("relative", (0.5, 0.6))
    assert isinstance(resize, ResizeShortestEdge)
    assert (resize.sizes, resize.max_size, resize.is_range) == ((800, 800), 1000, True)
    assert isinstance(flip, v2.RandomVerticalFlip)
    assert flip.p == 0.25


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([step("RandomRotation", angle=3)], "has RandomRotation; known are ResizeShortestEdge"),
        ([{"angle": 3}], "has a step without a _target_"),
        ([step("FixedSizeCrop", crop_size=[5, 5], pad=False)], "FixedSizeCrop has pad; known are"),
        ([step("FixedSizeCrop")], "FixedSizeCrop cannot be made of"),
        ([step("ResizeShortestEdge", short_edge_length=[1, 2, 3])], "sample_style is choice, or"),
        ([step("RandomFlip", horizontal=True, vertical=True)], "it is horizontal or vertical"),
        (
            [step("RandomCrop", crop_type="round", crop_size=[1, 1])],
            r"INPUT\.CROP\.TYPE is 'round'",
        ),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, steps: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        dumped_augmentations(dumped(tmp_path, *steps))


def test_other_configs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dumped lazy config"):
        dumped_augmentations(GOLDEN / "custom__mask_rcnn_R_18_FPN" / "config.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        dumped_augmentations(tmp_path / "none.yaml")
