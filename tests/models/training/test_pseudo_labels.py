"""What the old model labels where the data does not: its sure finds of old classes, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_masks
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.errors import ConfigError
from models.structures import Boxes, Instances
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.errors import DataError
from models.training.pseudo_labels import PseudoLabels, pseudo_labels, unlabelled_classes

NAMES = ("disc", "star", "ring")
SIDE = 40


@pytest.fixture
def rings(tmp_path: Path) -> TrainingDataset:
    """One picture with a labelled ring, in a model of three classes."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(path)
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[:10, :10] = 1
    ring = TrainingObject(2, (0.0, 0.0, 10.0, 10.0), rle=coco_masks.encode(mask))
    image = TrainingImage(7, path, SIDE, SIDE, (ring,))
    return TrainingDataset("rings.json", NAMES, (image,), has_masks=True)


def answer(*found: tuple[int, float, tuple[float, float, float, float]]) -> Any:
    """A model that finds (class, score, box), each with its box as the mask."""

    def predict(picture: NDArray[np.uint8]) -> Instances:
        assert picture.shape == (SIDE, SIDE, 3)
        masks = torch.zeros(len(found), SIDE, SIDE, dtype=torch.bool)
        for i, (_, _, (x1, y1, x2, y2)) in enumerate(found):
            masks[i, int(y1) : int(y2), int(x1) : int(x2)] = True
        return Instances(
            (SIDE, SIDE),
            pred_boxes=Boxes(torch.tensor([box for _, _, box in found])),
            scores=torch.tensor([score for _, score, _ in found]),
            pred_classes=torch.tensor([number for number, _, _ in found]),
            pred_masks=masks,
        )

    return predict


def test_classes_without_a_label_are_those_to_teach(rings: TrainingDataset) -> None:
    assert unlabelled_classes(rings) == ("disc", "star")


def test_what_the_old_model_is_sure_of_is_labelled(rings: TrainingDataset) -> None:
    # The old model has other numbers for the same names.
    found = pseudo_labels(
        rings,
        answer((0, 0.9, (20.0, 20.0, 30.0, 35.0)), (1, 0.4, (5.0, 20.0, 15.0, 30.0))),
        ["star", "disc"],
    )
    assert found.counts() == {"star": 1}
    (image,) = found.on(rings).images
    ring, star = image.objects
    assert (ring.class_id, star.class_id) == (2, 1)
    assert star.box == (20.0, 20.0, 30.0, 35.0)
    assert star.rle is not None
    assert coco_masks.area(star.rle) == 150


def test_what_has_a_label_is_not_labelled_again(rings: TrainingDataset) -> None:
    found = pseudo_labels(rings, answer((0, 0.9, (0.0, 0.0, 10.0, 9.0))), ["disc"])
    assert found.counts() == {}


def test_new_classes_are_never_taught_by_the_old_model(rings: TrainingDataset) -> None:
    found = pseudo_labels(
        rings,
        answer((1, 0.9, (20.0, 20.0, 30.0, 30.0)), (0, 0.9, (5.0, 20.0, 15.0, 30.0))),
        ["disc", "ring"],
    )
    assert found.counts() == {"disc": 1}


def with_one_star(rings: TrainingDataset) -> TrainingDataset:
    """Somebody labelled a single star by the way."""
    (image,) = rings.images
    star = TrainingObject(1, (20.0, 20.0, 30.0, 30.0))
    return replace(rings, images=(replace(image, objects=(*image.objects, star)),))


STARS = (
    (1, 0.9, (20.0, 20.0, 30.0, 30.0)),  # the one that is labelled
    (1, 0.9, (20.0, 2.0, 30.0, 12.0)),
    (0, 0.9, (5.0, 20.0, 15.0, 30.0)),
)


def test_a_class_with_a_few_labels_is_left_out(rings: TrainingDataset) -> None:
    data = with_one_star(rings)
    assert unlabelled_classes(data) == ("disc",)
    assert pseudo_labels(data, answer(*STARS), ["disc", "star"]).counts() == {"disc": 1}


def test_a_class_with_a_few_labels_is_labelled_where_it_is_named(rings: TrainingDataset) -> None:
    data = with_one_star(rings)
    found = pseudo_labels(data, answer(*STARS), ["disc", "star"], classes=["star"])
    assert found.counts() == {"star": 1}
    assert [entry.box for entry in found.objects[7]] == [(20.0, 2.0, 30.0, 12.0)]


def test_a_teacher_of_other_classes_is_refused(rings: TrainingDataset) -> None:
    with pytest.raises(ConfigError, match="nothing to label"):
        pseudo_labels(rings, answer(), ["cat", "ring"])


def test_labels_come_back_from_their_file(rings: TrainingDataset, tmp_path: Path) -> None:
    found = pseudo_labels(rings, answer((0, 0.9, (20.0, 20.0, 30.0, 35.0))), ["disc"])
    found.save(tmp_path / "labels.json")
    assert PseudoLabels.load(tmp_path / "labels.json") == found


def test_a_missing_file_of_labels_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing or damaged"):
        PseudoLabels.load(tmp_path / "labels.json")
