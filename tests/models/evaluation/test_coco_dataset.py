"""Which COCO data sets are read, and what is said of the others."""

import os
from pathlib import Path
from typing import Any

import pytest
from coco_files import DatasetFiles

from models.evaluation import CocoDataset, EvaluationError
from models.evaluation import coco_dataset as module


def test_pictures_and_categories_come_by_id(files: DatasetFiles) -> None:
    dataset = files.load()
    assert [(i.id, i.path.name, i.height, i.width) for i in dataset.images] == [
        (3, "one.png", 40, 60),
        (8, "two.png", 50, 70),
    ]
    assert list(dataset.categories.items()) == [(2, "dog"), (5, "cat")]
    assert len(dataset.annotations) == 3


def test_a_subset_is_the_first_pictures_by_id(files: DatasetFiles) -> None:
    subset = files.load().subset(1)
    assert [image.id for image in subset.images] == [3]
    assert [annotation["image_id"] for annotation in subset.annotations] == [3, 3]
    assert len(subset.categories) == 2
    assert files.load().subset(99) == files.load()
    with pytest.raises(EvaluationError, match="one image or more"):
        subset.subset(0)


def test_pictures_lie_in_the_folder_beside_or_with_the_json_or_where_one_says(
    files: DatasetFiles,
) -> None:
    beside = files.load().images[0].path
    assert beside == (files.folder / "set" / "one.png").resolve()
    (files.folder / "set").rename(files.folder / "pictures")
    assert files.load(files.folder / "pictures").images[0].path.parent.name == "pictures"
    with pytest.raises(EvaluationError, match="no folder of images nowhere"):
        files.load(files.folder / "nowhere")
    for picture in (files.folder / "pictures").iterdir():
        picture.rename(files.folder / picture.name)
    assert files.load().images[0].path.parent == files.folder.resolve()


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no JSON"), ("[]", "no JSON object"), ("[" * 100_000, "nested too deeply")],
)
def test_what_is_no_json_object(files: DatasetFiles, text: str, said: str) -> None:
    files.path.write_text(text)
    with pytest.raises(EvaluationError, match=said):
        CocoDataset.load(files.path)


def test_a_file_that_is_missing_too_large_or_none(
    files: DatasetFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluationError, match=r"set\.json cannot be read"):
        CocoDataset.load(files.path)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(EvaluationError, match="over 100 bytes"):
        files.load()
    pipe = files.folder / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(EvaluationError, match="it is a pipe"):
        CocoDataset.load(pipe)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("images", [], "has no images"),
        ("images", None, "images is no list"),
        ("annotations", {}, "annotations is no list"),
        ("categories", [1], "categories is no list"),
    ],
)
def test_lists_that_are_missing(files: DatasetFiles, key: str, value: Any, said: str) -> None:
    files.content[key] = value
    with pytest.raises(EvaluationError, match=said):
        files.load()


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("annotations", "image_id", 4, "the image_id 4, which set.json does not define"),
        ("annotations", "category_id", 1, "the category_id 1, which"),
        ("annotations", "category_id", True, "the category_id True, which"),
        ("annotations", "image_id", [3], r"the image_id \[3\], which"),
        ("images", "id", "3", "An image has the id '3'"),
        ("images", "id", 3, "An image id 3 is there twice"),
        ("images", "height", 0, "no height and width of 1 to 100000 pixels"),
        ("images", "height", 10**30, "no height and width of 1"),
        ("images", "width", 60.0, "no height and width of 1 to 100000 pixels"),
        ("categories", "id", 2, "A category id 2 is there twice"),
        ("categories", "name", "dog", "Category 5 has no name of its own|Category 2 has no name"),
        ("categories", "name", 5, "Category 5 has no name"),
    ],
)
def test_entries_that_cannot_be(
    files: DatasetFiles, kind: str, key: str, value: Any, said: str
) -> None:
    files.content[kind][0][key] = value
    with pytest.raises(EvaluationError, match=said):
        files.load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../set.json", "leads out of the folder"),
        ("a/../../set.json", "leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("a\0b", "no name of a file"),
        ("", "no name of a file"),
        (None, "no name of a file"),
        ("link.png", "a link out of the folder"),
        ("a.png", r"1 of 2 images of set.json are not in the folder set: a.png. Is it"),
        ("pipe.png", "1 of 2 images"),
        ("circle.png", "cannot be resolved|1 of 2 images"),
        ("n" * 5000, "cannot be resolved|1 of 2 images"),
    ],
)
def test_pictures_that_are_not_in_their_folder(files: DatasetFiles, name: Any, said: str) -> None:
    outside = files.folder / "outside.png"
    outside.write_bytes(b"")
    (files.folder / "set" / "link.png").symlink_to(outside)
    (files.folder / "set" / "circle.png").symlink_to("circle.png")
    os.mkfifo(files.folder / "set" / "pipe.png")
    files.content["images"][0]["file_name"] = name
    with pytest.raises(EvaluationError, match=said):
        files.load()


def test_a_link_within_the_folder_is_followed(files: DatasetFiles) -> None:
    (files.folder / "set" / "same.png").symlink_to("two.png")
    files.content["images"][0]["file_name"] = "same.png"
    assert files.load().images[1].path == Path(files.folder / "set" / "two.png").resolve()
