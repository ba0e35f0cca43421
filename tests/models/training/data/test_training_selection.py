"""Which pictures are trained on."""

from pathlib import Path
from typing import Any

import pytest
from painted_picture import painted_config, painted_object

from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.errors import DataError
from models.training.data.selection import pictures_to_train_on

CROWD = painted_object(is_crowd=True)
HIDDEN = painted_object(keypoints=(1.0, 1.0, 1.0, 0.0, 0.0, 0.0))
BARE = painted_object(keypoints=None)


def dataset(*pictures: tuple[TrainingObject, ...]) -> TrainingDataset:
    images = tuple(
        TrainingImage(number, Path(f"{number}.png"), 10, 10, objects)
        for number, objects in enumerate(pictures)
    )
    return TrainingDataset("set.json", ("L",), images)


def chosen(data: TrainingDataset, **changes: Any) -> tuple[int, ...]:
    return pictures_to_train_on(painted_config(**{"MODEL__KEYPOINT_ON": False, **changes}), data)


def test_pictures_without_objects_or_with_crowds_alone_are_left_out() -> None:
    data = dataset((BARE,), (), (CROWD,), (CROWD, BARE))
    assert chosen(data) == (0, 3)


def test_they_stay_where_the_config_says_so() -> None:
    data = dataset((BARE,), (), (CROWD,))
    assert chosen(data, DATALOADER__FILTER_EMPTY_ANNOTATIONS=False) == (0, 1, 2)


def test_data_of_semantic_maps_alone_is_kept() -> None:
    assert chosen(dataset((), ())) == (0, 1)


def test_keypoint_models_want_labelled_keypoints() -> None:
    data = dataset((painted_object(),), (HIDDEN,), (BARE,), ())
    fewest = "MODEL__ROI_KEYPOINT_HEAD__MIN_KEYPOINTS_PER_IMAGE"
    assert chosen(data, MODEL__KEYPOINT_ON=True) == (0, 1)
    assert chosen(data, MODEL__KEYPOINT_ON=True, **{fewest: 2}) == (0,)
    assert chosen(data, MODEL__KEYPOINT_ON=True, **{fewest: 0}) == (0, 1, 2)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match=r"None of the 1 pictures of set\.json can be trained on"):
        chosen(dataset((CROWD,)))
