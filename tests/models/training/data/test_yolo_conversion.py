"""From a YOLO data set to one that trains."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from training_files import paint

from models.evaluation import CocoDataset
from models.training.data.conversion import CocoBuilder
from models.training.data.dataset import TrainingDataset
from models.training.data.errors import DataError
from models.training.data.yolo import convert_yolo


class YoloFiles:
    """A folder with two pictures of 60x40 and the keys of data.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, Any] = {"train": "images/train", "names": ["cat", "dog"]}
        for seed, stem in enumerate(("a", "b")):
            paint(folder / "images" / "train" / f"{stem}.jpg", seed)
        (folder / "labels" / "train").mkdir(parents=True)

    def convert(self, labels: str | None = None, **options: Any) -> CocoBuilder:
        """Convert, with ``labels`` as those of the picture a."""
        if labels is not None:
            (self.folder / "labels" / "train" / "a.txt").write_text(labels)
        (self.folder / "data.yaml").write_text(yaml.safe_dump(self.keys))
        return convert_yolo(self.folder, **options)

    def read_back(self, labels: str, **options: Any) -> TrainingDataset:
        """What was converted, written and read again; evaluation reads it too."""
        builder = self.convert(labels, **options)
        path = self.folder / "data.json"
        builder.write(path)
        CocoDataset.load(path, builder.images_folder)
        return TrainingDataset.load(path, builder.images_folder)


@pytest.fixture
def yolo(tmp_path: Path) -> YoloFiles:
    (tmp_path / "set").mkdir()
    return YoloFiles(tmp_path / "set")


def test_boxes_become_pixels_and_pictures_may_have_no_labels(yolo: YoloFiles) -> None:
    dataset = yolo.read_back("1 0.5 0.5 0.5 0.5\n\n0 1.0 0.5 0.5 1.0\n")
    assert dataset.class_names == ("cat", "dog")
    assert [len(image.objects) for image in dataset.images] == [2, 0]
    dog, cat = dataset.images[0].objects
    assert dog.box == pytest.approx((15, 10, 45, 30))
    assert cat.box == pytest.approx((45, 0, 60, 40))  # cut off at the border
    assert (dog.class_id, dog.polygons) == (1, None)
    assert dataset.findings == ()


def test_polygons_become_masks(yolo: YoloFiles) -> None:
    found = yolo.read_back("0 0.0 0.0 0.5 0.0 0.5 0.5\n").images[0].objects[0]
    assert found.polygons == ((0, 0, 30, 0, 30, 20),)
    assert found.box == (0, 0, 30, 20)
    assert yolo.convert().content()["annotations"][0]["area"] == 300


@pytest.mark.parametrize(
    ("shape", "points", "visible"),
    [([2, 3], "0.5 0.5 2 0 0 0", [2, 0]), ([2, 2], "0.5 0.5 0 0", [2, 0])],
)
def test_keypoints_are_read_with_their_swaps(
    yolo: YoloFiles, shape: list[int], points: str, visible: list[int]
) -> None:
    yolo.keys.update(kpt_shape=shape, flip_idx=[1, 0])
    dataset = yolo.read_back(f"0 0.5 0.5 0.5 0.5 {points}\n")
    found = dataset.images[0].objects[0].keypoints
    assert found is not None
    assert found[:2] == (30.5, 20.5)
    assert list(found[2::3]) == visible
    assert dataset.flip_permutation() == (1, 0)


def test_17_keypoints_are_cocos(yolo: YoloFiles) -> None:
    yolo.keys["kpt_shape"] = [17, 2]
    dataset = yolo.read_back("0 0.5 0.5 0.5 0.5 " + "0.5 0.5 " * 17)
    assert dataset.keypoint_names[0] == "nose"


def test_names_may_be_numbered(yolo: YoloFiles) -> None:
    yolo.keys["names"] = {1: "dog", 0: "cat"}
    assert yolo.convert().class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"path": "."}, "train"),
        ({"train": "../images/train"}, "train"),
        ({"train": ["images/train"], "path": "/somewhere/else"}, "train"),
        ({"train": "images"}, "images"),
        ({"train": "list.txt"}, "set"),
    ],
)
def test_splits_are_found_as_tools_write_them(
    yolo: YoloFiles, changes: dict[str, Any], where: str
) -> None:
    (yolo.folder / "list.txt").write_text("./images/train/a.jpg\n\nimages/train/b.jpg\n")
    yolo.keys.update(changes)
    builder = yolo.convert("0 0.5 0.5 0.5 0.5")
    assert builder.images_folder.name == where
    assert (builder.num_images, builder.num_objects) == (2, 1)


def test_links_within_the_data_set_are_followed(yolo: YoloFiles) -> None:
    store = paint(yolo.folder / "store" / "x.jpg", 7)
    (yolo.folder / "images" / "train" / "c.jpg").symlink_to(store)
    (yolo.folder / "labels" / "train" / "c.txt").write_text("1 0.5 0.5 1 1")
    dataset = yolo.read_back("")
    assert dataset.images[2].path == store.resolve()
    assert dataset.images[2].objects[0].class_id == 1


def test_labels_may_lie_beside_the_pictures(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a.png", 1)
    (tmp_path / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text("train: train\nnames: [cat]\n")
    assert convert_yolo(tmp_path / "data.yaml").num_objects == 1


def test_a_folder_of_pictures_can_be_named(yolo: YoloFiles) -> None:
    del yolo.keys["train"]
    images = yolo.folder / "images"
    assert yolo.convert("0 0.5 0.5 1 1", images=images).num_objects == 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("0 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5", r"a\.txt, line 2: class 2 is none of the 2"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 is none"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 is none"),
        ("0 30 20 10 10", "30 is no share of the picture's side, 0 to 1; are these pixels"),
        ("0 nan 0.5 0.5 0.5", "nan is no share"),
        ("cat 0.5 0.5 0.5 0.5", "are no numbers"),
        ("0 0.5 0.5", r"line 1: 3 numbers are no label; .*, or a polygon"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers are no label"),
    ],
)
def test_broken_labels_are_named_with_their_line(yolo: YoloFiles, labels: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        yolo.convert(labels)


def test_broken_keypoints_are_named_with_their_line(yolo: YoloFiles) -> None:
    yolo.keys["kpt_shape"] = [1, 3]
    with pytest.raises(DataError, match=r"a\.txt, line 1: 7 numbers .* or 8 \(with keypoints\)"):
        yolo.convert("0 0.5 0.5 0.5 0.5 0.5 0.5")
    with pytest.raises(DataError, match="3 is no visibility"):
        yolo.convert("0 0.5 0.5 0.5 0.5 0.5 0.5 3")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": []}, "has the names"),
        ({"names": {0: "a", 2: "b"}}, "has the names"),
        ({"names": ["a", "a"]}, "two classes of one name"),
        ({"kpt_shape": [0, 3]}, "has the kpt_shape"),
        ({"kpt_shape": [2, 4]}, "has the kpt_shape"),
        ({"kpt_shape": 17}, "has the kpt_shape"),
        ({"kpt_shape": [2, 3], "flip_idx": [1, 1]}, "has the flip_idx"),
        ({"kpt_shape": [3, 3], "flip_idx": [1, 2, 0]}, "has the flip_idx"),
        ({"kpt_shape": [2, 3], "flip_idx": ["1", "0"]}, "has the flip_idx"),
        ({"train": 5}, "no pictures under train"),
        ({"train": "images/test"}, "which is not in the folder set"),
        ({"train": "../../etc"}, "which is not in the folder set"),
        ({"train": "empty"}, "no pictures under empty"),
        ({"train": "list.txt"}, r"list\.txt, line 1: there is no picture 'gone.jpg'"),
        ({"train": "outside.txt"}, "leads out of the folder set"),
    ],
)
def test_a_data_yaml_that_cannot_be(yolo: YoloFiles, changes: dict[str, Any], said: str) -> None:
    (yolo.folder / "empty").mkdir()
    (yolo.folder / "list.txt").write_text("gone.jpg\n")
    (yolo.folder / "outside.txt").write_text("../outside.jpg\n")
    paint(yolo.folder.parent / "outside.jpg", 1)
    yolo.keys.update(changes)
    with pytest.raises(DataError, match=said):
        yolo.convert()


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, r"data\.yaml cannot be read"), ("- 1", "holds no keys"), ("a: [", "is no YAML")],
)
def test_files_that_are_no_data_yaml(yolo: YoloFiles, text: str | None, said: str) -> None:
    if text is not None:
        (yolo.folder / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=said):
        convert_yolo(yolo.folder)


def test_labels_that_are_no_text(yolo: YoloFiles) -> None:
    yolo.convert("")
    (yolo.folder / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(DataError, match=r"a\.txt is no UTF-8 text"):
        yolo.convert()


def test_a_file_that_cannot_be_written_is_said(yolo: YoloFiles) -> None:
    builder = yolo.convert("0 0.5 0.5 0.5 0.5")
    blocker = yolo.folder / "blocker"
    blocker.write_text("")
    with pytest.raises(DataError, match=r"data\.json cannot be written"):
        builder.write(blocker / "data.json")
