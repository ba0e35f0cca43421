"""Augmentations as a config describes them."""

from typing import Any

import pytest
from painted_picture import painted_config
from torchvision.transforms import v2

from models.errors import ConfigError
from models.training.data.augmentation import build_augmentations, described
from models.training.data.geometric_transforms import (
    FixedSizeCrop,
    RandomCrop,
    ResizeShortestEdge,
    ScaleJitter,
)


def kinds(transform: Any) -> list[type]:
    return [type(step) for step in transform.transforms]


def test_the_defaults_are_detectron2s() -> None:
    built = build_augmentations(
        painted_config(INPUT__MIN_SIZE_TRAIN=(640, 800), INPUT__RANDOM_FLIP="horizontal")
    )
    assert kinds(built) == [ResizeShortestEdge, v2.RandomHorizontalFlip]
    assert built.transforms[0].sizes == (640, 800)
    assert built.transforms[0].max_size == 1333


def test_a_crop_comes_before_the_resize() -> None:
    built = build_augmentations(
        painted_config(INPUT__CROP={"ENABLED": True}, INPUT__RANDOM_FLIP="vertical")
    )
    assert kinds(built) == [RandomCrop, ResizeShortestEdge, v2.RandomVerticalFlip]
    assert (built.transforms[0].kind, built.transforms[0].size) == ("relative_range", (0.9, 0.9))


def test_large_scale_jitter_takes_the_place_of_crop_and_resize() -> None:
    cfg = painted_config(INPUT__CROP={"ENABLED": True}, INPUT__RANDOM_FLIP="horizontal")
    built = build_augmentations(cfg, large_scale_jitter=(1024, 512), scale_range=(0.5, 1.5))
    assert kinds(built) == [ScaleJitter, FixedSizeCrop, v2.RandomHorizontalFlip]
    assert built.transforms[0].target == built.transforms[1].size == (1024, 512)
    assert built.transforms[0].factors == (0.5, 1.5)


def test_colour_and_own_transforms_come_last() -> None:
    own = v2.RandomGrayscale()
    built = build_augmentations(painted_config(), colour_jitter=0.4, extra=[own])
    assert kinds(built)[1:] == [v2.ColorJitter, v2.RandomGrayscale]
    assert built.transforms[1].brightness == pytest.approx((0.6, 1.4))
    assert built.transforms[1].hue == pytest.approx((-0.04, 0.04))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"INPUT__RANDOM_FLIP": "both"},
            "INPUT.RANDOM_FLIP is 'both'; it is one of none, horizontal",
        ),
        ({"INPUT__MIN_SIZE_TRAIN": ()}, r"INPUT.MIN_SIZE_TRAIN is \(\)"),
        ({"INPUT__MIN_SIZE_TRAIN": (-1,)}, "INPUT.MIN_SIZE_TRAIN"),
        ({"INPUT__MAX_SIZE_TRAIN": 0}, "INPUT.MAX_SIZE_TRAIN is 0"),
        ({"INPUT__MIN_SIZE_TRAIN_SAMPLING": "any"}, "INPUT.MIN_SIZE_TRAIN_SAMPLING is 'any'"),
        ({"INPUT__MIN_SIZE_TRAIN_SAMPLING": "range"}, "the smallest and the largest size"),
        ({"INPUT__CROP": {"ENABLED": True, "TYPE": "round"}}, "INPUT.CROP.TYPE is 'round'"),
        ({"INPUT__CROP": {"ENABLED": True, "SIZE": [0.9, 1.1]}}, "two parts of height and width"),
        (
            {"INPUT__CROP": {"ENABLED": True, "TYPE": "absolute", "SIZE": [0.5, 5]}},
            "two whole numbers of pixels",
        ),
        (
            {"INPUT__CROP": {"ENABLED": True, "TYPE": "absolute_range", "SIZE": [9, 5]}},
            "the least and the most",
        ),
    ],
)
def test_values_that_mean_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_augmentations(painted_config(**changes))


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"large_scale_jitter": (0, 5)}, "large_scale_jitter is a height and a width"),
        ({"large_scale_jitter": (5, 5), "scale_range": (2.0, 0.1)}, "scale_range is"),
        ({"colour_jitter": 1.5}, "colour_jitter is a part from 0 to 1"),
    ],
)
def test_keywords_that_mean_nothing_are_refused(keywords: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_augmentations(painted_config(), **keywords)


def test_equal_augmentations_are_described_alike_and_others_are_not() -> None:
    texts = [
        described(build_augmentations(painted_config(), **keywords))
        for keywords in (
            {},
            {"colour_jitter": 0.2},
            {"colour_jitter": 0.3},
            {"large_scale_jitter": (64, 48)},
            {"large_scale_jitter": (64, 48), "scale_range": (0.5, 2.0)},
        )
    ]
    assert len(set(texts)) == len(texts)
    assert described(build_augmentations(painted_config())) == texts[0]


def brightened(sample: Any) -> Any:
    return sample


class Brightener:
    def __call__(self, sample: Any) -> Any:
        return sample


def test_functions_are_described_by_their_names() -> None:
    assert described(brightened) == f"{__name__}.brightened"
    assert described(Brightener()) == f"{__name__}.Brightener"
