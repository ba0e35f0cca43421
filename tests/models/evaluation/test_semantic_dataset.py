"""Folders of pictures and label maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.evaluation import EvaluationError, SemanticDataset

NAMES = ("things", "sky", "road")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one a JPEG, with label maps in a folder of their own."""
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    for name, suffix in (("b", ".png"), ("a", ".jpg")):
        Image.new("RGB", (4, 3)).save(tmp_path / "images" / f"{name}{suffix}")
        Image.new("L", (4, 3), 2).save(tmp_path / "labels" / f"{name}.png")
    (tmp_path / "images" / "readme.txt").write_text("no picture")
    return tmp_path


def load(folder: Path) -> SemanticDataset:
    return SemanticDataset.load(folder / "labels", folder / "images", class_names=NAMES)


def test_a_map_belongs_to_the_picture_of_its_name(folder: Path) -> None:
    dataset = load(folder)
    assert (dataset.name, dataset.class_names) == ("labels", NAMES)
    assert [(i.name, i.path.name, i.labels.name) for i in dataset.images] == [
        ("a", "a.jpg", "a.png"),
        ("b", "b.png", "b.png"),
    ]
    labels = dataset.images[0].read_labels((3, 4))
    assert np.array_equal(labels, np.full((3, 4), 2))


def test_pictures_without_a_map_are_left_out(folder: Path) -> None:
    (folder / "labels" / "a.png").unlink()
    assert [image.name for image in load(folder).images] == ["b"]


def test_a_subset_is_the_first_by_name(folder: Path) -> None:
    assert [image.name for image in load(folder).subset(1).images] == ["a"]
    with pytest.raises(EvaluationError, match="one image or more"):
        load(folder).subset(0)


def test_a_map_without_a_picture(folder: Path) -> None:
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(
        EvaluationError, match=r"1 of 2 label maps .* in images: a. Is it the right"
    ):
        load(folder)


def test_two_pictures_of_one_name(folder: Path) -> None:
    Image.new("RGB", (4, 3)).save(folder / "images" / "a.png")
    with pytest.raises(EvaluationError, match=r"two pictures a: a.jpg, a.png"):
        load(folder)


def test_folders_that_cannot_be(folder: Path) -> None:
    (folder / "empty").mkdir()
    images = folder / "images"
    with pytest.raises(EvaluationError, match="no folder of label maps nowhere"):
        SemanticDataset.load(folder / "nowhere", images, class_names=NAMES)
    with pytest.raises(EvaluationError, match="no folder of images nowhere"):
        SemanticDataset.load(folder / "labels", folder / "nowhere", class_names=NAMES)
    with pytest.raises(EvaluationError, match=r"empty has no label maps"):
        SemanticDataset.load(folder / "empty", images, class_names=NAMES)
    with pytest.raises(EvaluationError, match="are one folder"):
        SemanticDataset.load(images, images, class_names=NAMES)


@pytest.mark.parametrize("place", ["labels", "images"])
def test_links_that_lead_out_of_the_folder(folder: Path, place: str) -> None:
    outside = folder / "outside.png"
    Image.new("L", (4, 3)).save(outside)
    link = folder / place / "b.png"
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(EvaluationError, match="a link out of the folder"):
        load(folder)
