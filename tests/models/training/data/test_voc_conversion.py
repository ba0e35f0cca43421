"""From a Pascal VOC folder to a data set that trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image
from training_files import paint

from models.evaluation import CocoDataset
from models.training.data.conversion import CocoBuilder
from models.training.data.dataset import TrainingDataset
from models.training.data.errors import DataError
from models.training.data.voc import convert_voc


def object_xml(name: str = "dog", box: str = "11 6 30 25", difficult: str = "0") -> str:
    """An object; the box is xmin ymin xmax ymax."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    bounds = "".join(f"<{side}>{value}</{side}>\n" for side, value in sides)
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return (
        f"<object>\n<name>{name}</name><difficult>{difficult}</difficult>\n"
        f"<bndbox>\n{bounds}</bndbox>{part}</object>\n"
    )


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two pictures, a (two dogs, one difficult) and b (a cat, in the split val)."""
    folder = tmp_path / "VOC"
    paint(folder / "JPEGImages" / "a.jpg", 1)
    paint(folder / "JPEGImages" / "b.png", 2)
    (folder / "Annotations").mkdir()
    write(folder, "a", object_xml(), object_xml(box="1 1 60 40", difficult="1"))
    write(folder, "b", object_xml("cat"))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b  1\n\n")
    return folder


def write(folder: Path, stem: str, *objects: str, filename: str = "") -> None:
    """An XML file of these objects."""
    text = f"<annotation>\n<filename>{filename or stem}.jpg</filename>\n{''.join(objects)}</annotation>"
    (folder / "Annotations" / f"{stem}.xml").write_text(text)


def read_back(builder: CocoBuilder, path: Path) -> TrainingDataset:
    """What was converted, written and read again; evaluation reads it too."""
    builder.write(path)
    CocoDataset.load(path, builder.images_folder)
    return TrainingDataset.load(path, builder.images_folder)


def test_boxes_come_as_detectron2_reads_them(voc: Path, tmp_path: Path) -> None:
    dataset = read_back(convert_voc(voc), tmp_path / "data.json")
    assert [image.path.name for image in dataset.images] == ["a.jpg", "b.png"]
    assert (dataset.images[0].height, dataset.images[0].width) == (40, 60)
    dog, difficult = dataset.images[0].objects
    assert dog.box == (10, 5, 30, 25)  # 1 is taken off the left and top alone
    assert dataset.class_names[dog.class_id] == "dog"
    assert difficult.box == (0, 0, 60, 40)
    assert dataset.findings == ()


def test_classes_are_vocs_own_if_there_are_no_others(voc: Path) -> None:
    assert convert_voc(voc).class_names[:3] == ("aeroplane", "bicycle", "bird")
    write(voc, "b", object_xml("wolf"))
    assert convert_voc(voc).class_names == ("dog", "wolf")


@pytest.mark.parametrize(("difficult", "crowds"), [("ignore", 1), ("keep", 0), ("drop", 0)])
def test_difficult_objects(voc: Path, tmp_path: Path, difficult: Any, crowds: int) -> None:
    builder = convert_voc(voc, difficult=difficult)
    objects = read_back(builder, tmp_path / "data.json").images[0].objects
    assert len(objects) == (1 if difficult == "drop" else 2)
    assert sum(thing.is_crowd for thing in objects) == crowds


def test_a_split_is_the_list_of_that_name(voc: Path) -> None:
    assert [image["file_name"] for image in convert_voc(voc, split="val").content()["images"]] == [
        "b.png"
    ]
    with pytest.raises(DataError, match=r"no list train\.txt in ImageSets; there are val"):
        convert_voc(voc, split="train")
    with pytest.raises(DataError, match="no name of a split"):
        convert_voc(voc, split="../val")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gone", r"val\.txt, line 2, names gone, which has no XML"),
        ("../x", "leads out of the folder"),
    ],
)
def test_lists_that_name_what_is_not_there(voc: Path, line: str, said: str) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").write_text(f"a\n{line}\n")
    with pytest.raises(DataError, match=said):
        convert_voc(voc, split="val")


def test_coordinates_may_start_from_0(voc: Path) -> None:
    assert convert_voc(voc, zero_based=True).content()["annotations"][0]["bbox"] == [11, 6, 19, 19]


def test_masks_are_the_objects_numbers_in_the_png(voc: Path, tmp_path: Path) -> None:
    values = np.zeros((40, 60), np.uint8)
    values[5:25, 10:30] = 1
    values[26, 10:30] = 255
    picture = Image.fromarray(values).convert("P")
    picture.putpalette(bytes(range(256)) * 3)
    picture.putdata(values.ravel().tolist())
    (voc / "SegmentationObject").mkdir()
    picture.save(voc / "SegmentationObject" / "a.png")
    first, second = read_back(convert_voc(voc), tmp_path / "data.json").images[0].objects
    assert first.rle is not None
    assert np.array_equal(mask_api.decode(first.rle), values == 1)
    assert second.rle is None
    assert convert_voc(voc).content()["annotations"][0]["area"] == 400


def test_masks_of_another_size_or_kind(voc: Path) -> None:
    (voc / "SegmentationObject").mkdir()
    png = voc / "SegmentationObject" / "a.png"
    Image.new("L", (3, 4)).save(png)
    with pytest.raises(DataError, match=r"SegmentationObject/a\.png is L of 3x4 pixels; .* 60x40"):
        convert_voc(voc)
    png.write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be read as a PNG"):
        convert_voc(voc)


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<object><bndbox/></object>", r"a\.xml, line 3: an object has no name"),
        ("\n<object><name>dog</name></object>", r"a\.xml, line 4: an object has no bndbox"),
        (object_xml(box="1 x 3 4"), r"a\.xml, line 7: ymin is 'x', which is no number"),
        (object_xml(box="1 nan 3 4"), "ymin is 'nan', which is no number"),
        (object_xml(box="9 1 3 4"), "the box ends before it begins"),
        ("<object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>", "bndbox has no ymin"),
        ("<object>", r"a\.xml, line 3: it is no XML \(mismatched tag\)"),
    ],
)
def test_broken_files_are_named_with_their_line(voc: Path, xml: str, said: str) -> None:
    write(voc, "a", xml)
    with pytest.raises(DataError, match=said):
        convert_voc(voc)


def test_entities_are_refused_and_not_expanded(voc: Path) -> None:
    bomb = (
        '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>\n'
        "<annotation>&y;</annotation>"
    )
    for encoding in ("utf-8", "utf-16"):
        (voc / "Annotations" / "a.xml").write_bytes(bomb.encode(encoding))
        with pytest.raises(DataError, match=r"a\.xml, line 2: it declares a document type"):
            convert_voc(voc)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no XML"),
        (b"<a>" * 100, "nested too deeply"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "no XML|encoding"),
    ],
)
def test_files_that_are_no_xml(voc: Path, data: bytes, said: str) -> None:
    (voc / "Annotations" / "a.xml").write_bytes(data)
    with pytest.raises(DataError, match=said):
        convert_voc(voc)


def test_a_picture_goes_by_the_xmls_name_or_by_what_it_says(voc: Path) -> None:
    (voc / "JPEGImages" / "a.jpg").rename(voc / "JPEGImages" / "photo.jpg")
    write(voc, "a", object_xml(), filename="C:\\pictures\\photo")
    assert convert_voc(voc).content()["images"][0]["file_name"] == "photo.jpg"
    write(voc, "a", object_xml())
    with pytest.raises(DataError, match=r"a\.xml has no picture in JPEGImages"):
        convert_voc(voc)
    (voc / "JPEGImages" / "a.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"a\.jpg cannot be read as a picture"):
        convert_voc(voc)


def test_folders_that_are_no_voc(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no VOC folder"):
        convert_voc(tmp_path / "nothing")
    with pytest.raises(DataError, match="has no XML files"):
        convert_voc(voc / "JPEGImages")
