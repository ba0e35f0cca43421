"""Which panoptic data sets are read, and what is said of the others."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from panoptic_files import PanopticFiles

from models.evaluation import EvaluationError, PanopticDataset, PanopticSegment


@pytest.fixture
def files(tmp_path: Path) -> PanopticFiles:
    return PanopticFiles(tmp_path)


def test_pictures_come_by_id_with_their_segments(files: PanopticFiles) -> None:
    dataset = files.load()
    assert [(i.id, i.path.name, i.map.name) for i in dataset.images] == [
        (3, "one.jpg", "one.png"),
        (8, "two.jpg", "two.png"),
    ]
    assert dataset.categories == {1: "cat", 2: "dog", 5: "sky", 6: "road"}
    assert dataset.things == {1, 2}
    assert dataset.images[0].segments[0] == PanopticSegment(1000, 1, False)
    assert dataset.images[0].read_map().tolist()[0] == [1000, 1000, 0, 70_000]


def test_a_subset_is_the_first_by_id(files: PanopticFiles) -> None:
    assert [image.id for image in files.load().subset(1).images] == [3]
    with pytest.raises(EvaluationError, match="one image or more"):
        files.load().subset(0)


def test_folders_may_be_named(files: PanopticFiles) -> None:
    files.load()
    (files.folder / "set").rename(files.folder / "maps")
    (files.folder / "pictures").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (files.folder / name).rename(files.folder / "pictures" / name)
    found = PanopticDataset.load(files.path, files.folder / "maps", files.folder / "pictures")
    assert found.images[0].map.parent.name == "maps"
    with pytest.raises(EvaluationError, match="no folder of panoptic maps set"):
        PanopticDataset.load(files.path)
    with pytest.raises(EvaluationError, match="no folder of images nowhere"):
        PanopticDataset.load(files.path, files.folder / "maps", files.folder / "nowhere")


def test_files_that_are_missing(files: PanopticFiles) -> None:
    (files.folder / "set" / "two.png").unlink()
    with pytest.raises(EvaluationError, match=r"1 of 2 panoptic maps .* folder set: two.png"):
        files.load()
    shutil.copy(files.folder / "set" / "one.png", files.folder / "set" / "two.png")
    (files.folder / "one.jpg").unlink()
    with pytest.raises(EvaluationError, match=r"1 of 2 images of set.json are not in .*: one.jpg"):
        files.load()


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("images", "height", 0, "no height and width"),
        ("images", "id", 3, "An image id 3 is there twice"),
        ("images", "file_name", "../one.jpg", "leads out of the folder"),
        ("categories", "isthing", None, r"Category 5 has isthing None; .* panoptic segmentation\?"),
        ("categories", "name", "cat", "no name of its own"),
        ("annotations", "image_id", 4, "image_id 4, which set.json does not define"),
        ("annotations", "image_id", 3, "Image 3 has two annotations"),
        ("annotations", "file_name", "../two.png", "leads out of the folder"),
        ("annotations", "file_name", None, "no name of a file"),
        (
            "annotations",
            "segments_info",
            None,
            "The annotation of image 8 has no list segments_info",
        ),
        ("annotations", "segments_info", [1], "no list segments_info"),
    ],
)
def test_entries_that_cannot_be(
    files: PanopticFiles, kind: str, key: str, value: Any, said: str
) -> None:
    files.content[kind][0][key] = value
    with pytest.raises(EvaluationError, match=said):
        files.load()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("id", 0, "the segment id 0; ids are 1 to 16777215"),
        ("id", 1 << 24, "the segment id 16777216"),
        ("id", 2, "the segment id 2; ids are"),
        ("category_id", 4, "the category_id 4, which"),
        ("category_id", True, "the category_id True, which"),
        ("iscrowd", 2, "iscrowd 2"),
    ],
)
def test_segments_that_cannot_be(files: PanopticFiles, key: str, value: Any, said: str) -> None:
    files.content["annotations"][0]["segments_info"][0][key] = value
    with pytest.raises(EvaluationError, match=said):
        files.load()


def test_pictures_without_an_annotation(files: PanopticFiles) -> None:
    del files.content["annotations"][0]
    with pytest.raises(EvaluationError, match=r"1 of 2 images of set.json have no annotation: 8"):
        files.load()
    files.content["images"] = []
    with pytest.raises(EvaluationError, match=r"set\.json has no images"):
        files.load()
