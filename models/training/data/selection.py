"""Which pictures of a data set are trained on."""

from __future__ import annotations

from models.config import Config
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.errors import DataError


def pictures_to_train_on(cfg: Config, dataset: TrainingDataset) -> tuple[int, ...]:
    """Places in ``dataset.images``, ascending.

    ``DATALOADER.FILTER_EMPTY_ANNOTATIONS`` leaves out pictures without objects to learn from (crowds are
    none), unless nothing but semantic maps is in the data. With ``MODEL.KEYPOINT_ON``, those with less
    than ``MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE`` labelled keypoints are left out too.

    Raises:
        DataError: none is left.
    """
    fewest = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    has_objects = any(image.objects for image in dataset.images)
    drop_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and has_objects
    chosen = tuple(
        index
        for index, image in enumerate(dataset.images)
        if not (drop_empty and all(found.is_crowd for found in image.objects))
        and (fewest <= 0 or _labelled_keypoints(image) >= fewest)
    )
    if not chosen:
        raise DataError(
            f"None of the {len(dataset.images)} pictures of {dataset.name} can be trained on: they have "
            f"no objects but crowds{f', or less than {fewest} keypoints' if fewest > 0 else ''}."
        )
    return chosen


def _labelled_keypoints(image: TrainingImage) -> int:
    return sum(
        visibility > 0 for found in image.objects for visibility in (found.keypoints or ())[2::3]
    )
