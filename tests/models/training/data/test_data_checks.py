"""The report on a data set: what it counts, what it finds, what refuses training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_files import TrainingFiles, paint

from models.config import load_config
from models.training.data import checks as module
from models.training.data.checks import DataReport, check_data
from models.training.data.dataset import TrainingDataset
from models.training.data.errors import DataError
from models.training.data.findings import Finding

ORIENTATION = 0x0112
SHAPES = Path(__file__).parents[3] / "data" / "shapes" / "val.json"


def found(report: DataReport) -> list[str]:
    """Severity and code of each finding."""
    return [f"{finding.severity} {finding.code}" for finding in report.findings]


def finding(report: DataReport, code: str) -> Finding:
    """The one of that code."""
    return next(finding for finding in report.findings if finding.code == code)


def cut_off(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def sound(files: TrainingFiles) -> TrainingFiles:
    """A data set with nothing to say about but its few objects."""
    paint(files.folder / "set" / "one.png", 1)
    paint(files.folder / "set" / "two.png", 2, size=(70, 50))
    for entry in (*files.content["categories"], *files.content["annotations"]):
        key = "id" if "name" in entry else "category_id"
        entry[key] = {2: 1, 5: 2}[entry[key]]
    return files


def test_a_sound_data_set_refuses_nothing(sound: TrainingFiles) -> None:
    report = check_data(sound.read())
    assert found(report) == ["warning class-rare"]
    assert not report.refuses
    report.raise_for_errors()


def test_figures_count_what_is_learned(sound: TrainingFiles) -> None:
    sound.content["annotations"][1]["iscrowd"] = 1
    sound.content["annotations"][2]["segmentation"] = []
    figures = check_data(sound.read()).train
    assert (figures.images, figures.empty_images, figures.objects, figures.crowds) == (2, 0, 2, 1)
    assert figures.instances == {"dog": 1, "cat": 1}
    assert figures.pictures == {"dog": 1, "cat": 1}
    assert figures.sizes == {"small": 1, "medium": 1, "large": 0}
    assert (figures.with_masks, figures.with_keypoints) == (1, 0)
    assert figures.image_sizes == (40, 70)


def test_sizes_are_those_of_the_masks(sound: TrainingFiles) -> None:
    # A triangle over half of a box of 40x40, and as run lengths 100 pixels of it.
    sound.content["annotations"][2]["segmentation"] = [[0, 0, 40, 0, 0, 40]]
    assert check_data(sound.read()).train.sizes["small"] == 3
    runs = {"size": [50, 70], "counts": [0, 1100, 2400]}
    sound.content["annotations"][2]["segmentation"] = runs
    assert check_data(sound.read()).train.sizes["medium"] == 1


def test_errors_refuse_with_a_sentence_each(sound: TrainingFiles) -> None:
    sound.first["bbox"] = [500, 500, 5, 5]
    (sound.folder / "set" / "two.png").unlink()
    report = check_data(sound.read())
    assert report.refuses
    assert {f.code for f in report.of("error")} == {"box-outside", "file-missing"}
    with pytest.raises(DataError) as caught:
        report.raise_for_errors()
    assert caught.value.message.startswith(
        "Nothing was trained, as the data has 2 faults:\n- set.json"
    )
    assert "two.png" in caught.value.message
    assert len(caught.value.details["findings"]) == 2


def test_the_report_is_json_with_the_gravest_first(sound: TrainingFiles) -> None:
    sound.first["bbox"] = [500, 500, 5, 5]
    report = check_data(sound.read(), sound.read())
    content = json.loads(json.dumps(report.to_dict()))
    assert content["findings"][0]["severity"] == "error"
    assert content["findings"][-1]["severity"] == "note"
    assert content["train"]["name"] == content["findings"][0]["dataset"] == "set.json"
    assert content["val"]["images"] == 2


def test_pictures_that_are_none_or_of_another_size(sound: TrainingFiles) -> None:
    folder = sound.folder / "set"
    (folder / "one.png").write_bytes(b"no picture")
    paint(folder / "two.png", 3, size=(71, 50))
    report = check_data(sound.read())
    assert finding(report, "picture-unreadable").examples == ("one.png",)
    assert finding(report, "picture-size").examples == ("two.png: 71x50, not 70x50",)
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(folder / "one.png")
    assert finding(check_data(sound.read()), "picture-deep").severity == "error"


def test_pictures_that_exif_turns(sound: TrainingFiles) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    folder = sound.folder / "set"
    paint(folder / "one.png", 1, size=(40, 60), exif=exif)
    assert finding(check_data(sound.read()), "picture-exif").examples == ("one.png",)
    paint(folder / "one.png", 1, size=(60, 40), exif=exif)
    report = check_data(sound.read())
    assert finding(report, "picture-turned").examples == ("one.png: 40x60, not 60x40",)
    assert report.refuses


def test_semantic_maps_of_another_size_or_kind(sound: TrainingFiles) -> None:
    maps = sound.folder / "maps"
    maps.mkdir()
    Image.fromarray(np.zeros((40, 61), np.uint8)).save(maps / "one.png")
    Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(maps / "two.png")
    assert finding(check_data(sound.read(sem_seg=maps)), "sem-seg-size").count == 2


def test_masks_beside_their_boxes_and_objects_twice(sound: TrainingFiles) -> None:
    sound.first["segmentation"] = [[40, 20, 55, 20, 55, 35]]
    twin = {**sound.content["annotations"][2], "id": 7}
    sound.content["annotations"].append(twin)
    report = check_data(sound.read())
    assert finding(report, "mask-beside-box").examples == ("cat in one.png",)
    assert finding(report, "object-twice").examples == ("dog in two.png",)


def test_empty_pictures_and_unused_classes(sound: TrainingFiles) -> None:
    sound.content["annotations"] = sound.content["annotations"][:1]
    report = check_data(sound.read())
    assert finding(report, "picture-empty").examples == ("two.png",)
    assert finding(report, "class-unused").examples == ("dog",)
    assert finding(report, "class-rare").examples == ("cat: 1",)


def test_nothing_to_learn_is_an_error(sound: TrainingFiles) -> None:
    sound.content["annotations"] = []
    assert found(check_data(sound.read())) == ["error no-objects"]


def test_classes_that_one_of_two_sets_lacks(sound: TrainingFiles, tmp_path: Path) -> None:
    train = sound.read()
    sound.content["annotations"] = [sound.first]
    val = sound.read()
    report = check_data(train, val)
    assert finding(report, "class-unmeasured").examples == ("dog",)
    assert finding(report, "size-unmeasured").examples == ("medium", "large")
    report = check_data(val, train)
    assert finding(report, "class-not-in-train").examples == ("dog",)


def test_pictures_in_both_sets(sound: TrainingFiles, tmp_path: Path) -> None:
    train = sound.read()
    (tmp_path / "other").mkdir()
    other = TrainingFiles(tmp_path / "other")
    folder = other.folder / "set"
    (folder / "one.png").write_bytes((sound.folder / "set" / "one.png").read_bytes())
    with Image.open(sound.folder / "set" / "two.png") as picture:
        picture.save(folder / "two.png", format="JPEG", quality=90)
    report = check_data(train, other.read(class_names=train.class_names))
    assert finding(report, "picture-in-both").examples == ("one.png = one.png",)
    assert "50 % of the validation set" in finding(report, "picture-in-both").message
    assert finding(report, "picture-alike").examples == ("two.png = two.png",)
    quick = check_data(train, other.read(class_names=train.class_names), find_look_alikes=False)
    assert "note picture-alike" not in found(quick)


def test_large_sets_are_not_decoded(sound: TrainingFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DECODED", 3)
    report = check_data(sound.read(), sound.read())
    assert "note look-alikes-not-searched" in found(report)
    assert "note pictures-not-decoded" not in found(report)
    monkeypatch.setattr(module, "MOST_DECODED", 1)
    assert "note pictures-not-decoded" in found(check_data(sound.read()))


@pytest.mark.parametrize("most_decoded", [2, 1], ids=["decoded", "not decoded"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_that_were_cut_off_are_named(
    sound: TrainingFiles, monkeypatch: pytest.MonkeyPatch, kind: str, most_decoded: int
) -> None:
    monkeypatch.setattr(module, "MOST_DECODED", most_decoded)
    cut_off(paint(sound.folder / "set" / "two.png", 2, size=(70, 50), format=kind))
    told: list[int] = []
    report = check_data(sound.read(), progress=told.append)
    assert finding(report, "picture-unreadable").examples == ("two.png",)
    assert report.refuses
    assert sum(told) == 2


def test_what_has_no_mark_at_its_end_is_found_by_decoding(
    sound: TrainingFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(paint(sound.folder / "set" / "two.png", 2, size=(70, 50), format="BMP"))
    assert finding(check_data(sound.read()), "picture-unreadable").examples == ("two.png",)
    monkeypatch.setattr(module, "MOST_DECODED", 1)
    assert not check_data(sound.read()).refuses


def test_semantic_maps_that_were_cut_off_are_named(sound: TrainingFiles) -> None:
    maps = sound.folder / "maps"
    maps.mkdir()
    for name, size in (("one.png", (40, 60)), ("two.png", (50, 70))):
        Image.fromarray(np.zeros(size, np.uint8)).save(maps / name)
    cut_off(maps / "one.png")
    report = check_data(sound.read(sem_seg=maps))
    assert finding(report, "picture-unreadable").examples == ("map of one.png",)


def test_pictures_that_are_twice_in_one_set(sound: TrainingFiles) -> None:
    folder = sound.folder / "set"
    (folder / "three.png").write_bytes((folder / "one.png").read_bytes())
    image = {**sound.content["images"][1], "id": 9, "file_name": "three.png"}
    sound.content["images"].append(image)
    assert finding(check_data(sound.read()), "picture-twice").examples == ("three.png = one.png",)


def test_the_config_is_looked_at_too(sound: TrainingFiles, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("MODEL:\n  META_ARCHITECTURE: RetinaNet\n")
    report = check_data(sound.read(), cfg=load_config(config))
    assert finding(report, "class-count").severity == "error"


def test_progress_is_told_of_every_picture(sound: TrainingFiles) -> None:
    told: list[int] = []
    check_data(sound.read(), sound.read(), progress=told.append)
    assert sum(told) == 4


def test_the_shapes_are_sound_and_no_two_pictures_look_alike() -> None:
    shapes = TrainingDataset.load(SHAPES)
    halves = [replace(shapes, images=shapes.images[part::2]) for part in (0, 1)]
    assert {code for code in found(check_data(*halves)) if "picture" in code} == set()
    report = check_data(shapes)
    assert found(report) == []
    assert report.train.instances == {"disc": 44, "rectangle": 42, "triangle": 38, "star": 52}
