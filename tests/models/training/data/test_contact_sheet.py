"""The sheet of samples: which are chosen, and what is drawn on them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_files import TrainingFiles, paint

from models.training.data.contact_sheet import (
    TILE,
    choose_samples,
    contact_sheet,
    write_contact_sheet,
)
from models.training.data.dataset import TrainingDataset, TrainingImage, TrainingObject
from models.training.data.drawing import class_color, draw_annotations


def many(classes: int, pictures: int) -> TrainingDataset:
    """Pictures of class 0, and one of each other class at the end."""
    ids = [0] * (pictures - classes + 1) + list(range(1, classes))
    images = tuple(
        TrainingImage(i, Path(f"{i}.png"), 10, 10, (TrainingObject(c, (0, 0, 5, 5)),))
        for i, c in enumerate(ids)
    )
    return TrainingDataset("many", tuple(map(str, range(classes))), images)


def test_samples_show_every_class_and_depend_on_the_seed_alone() -> None:
    dataset = many(classes=5, pictures=100)
    chosen = choose_samples(dataset, 8, seed=3)
    assert len({image.id for image in chosen}) == 8
    assert {thing.class_id for image in chosen for thing in image.objects} == set(range(5))
    assert chosen == choose_samples(dataset, 8, seed=3)
    assert chosen != choose_samples(dataset, 8, seed=4)
    assert len(choose_samples(dataset, 2)) == 2
    assert len(choose_samples(dataset, 1000)) == 100


def test_empty_pictures_come_last() -> None:
    dataset = many(classes=1, pictures=3)
    empty = TrainingImage(9, Path("9.png"), 10, 10)
    dataset = TrainingDataset("a", ("b",), (empty, *dataset.images))
    assert choose_samples(dataset, 4)[-1] is empty


def test_boxes_masks_and_keypoints_are_drawn_where_they_are(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["left", "right"], skeleton=[[1, 2]])
    files.first["keypoints"] = [20, 14, 2, 26, 26, 1]
    files.content["annotations"] = [files.first]
    dataset = files.read()
    picture = draw_annotations(dataset, dataset.images[0], 240)  # 60x40 four times as large
    pixels = np.asarray(picture)
    assert pixels.shape == (160, 240, 3)
    color = np.array(class_color(1))
    assert (pixels[100, 40] == color).all()  # on the left side of the box
    inside = pixels[110, 60]
    assert np.abs(inside - 0.4 * color).max() <= 1  # the mask over black
    assert (pixels[140, 200] == 0).all()
    assert (pixels[58, 82] == class_color(0)).all()  # the first keypoint, at 20.5, 14.5


def test_every_kind_of_annotation_can_be_drawn(files: TrainingFiles, tmp_path: Path) -> None:
    files.first.update(bbox=[20, 20, 10, 30, 45], segmentation=[])
    runs = {"size": [40, 60], "counts": [1205, 30, 1165]}
    files.content["annotations"][1].update(segmentation=runs, iscrowd=1)
    del files.content["annotations"][2]
    maps = tmp_path / "maps"
    maps.mkdir()
    Image.fromarray(np.ones((50, 70), np.uint8)).save(maps / "two.png")
    dataset = files.read(sem_seg=maps)
    assert np.asarray(draw_annotations(dataset, dataset.images[0], 200)).max() > 0
    map_ = np.asarray(draw_annotations(dataset, dataset.images[1], 70))
    assert np.abs(map_ - 0.4 * np.array(class_color(1))).max() <= 1


def test_the_sheet_is_a_grid_and_says_what_cannot_be_read(files: TrainingFiles) -> None:
    paint(files.folder / "set" / "one.png", 1)
    (files.folder / "set" / "two.png").write_bytes(b"broken")
    path = write_contact_sheet(files.read(), files.folder / "out" / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 2 * TILE
        assert TILE < sheet.height < 2 * TILE
    with pytest.raises(ValueError, match="one sample or more"):
        contact_sheet(files.read(), number=0)
