"""What a data set to train on is after reading, and which files are refused as a whole."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image
from training_files import TrainingFiles, codes

from models.evaluation import CocoDataset
from models.training.data.dataset import TrainingDataset
from models.training.data.errors import DataError


def test_pictures_come_by_id_and_classes_by_the_id_of_the_category(files: TrainingFiles) -> None:
    dataset = files.read()
    assert dataset.name == "set.json"
    assert dataset.class_names == ("dog", "cat")
    assert dataset.category_ids == (2, 5)
    assert [(i.id, i.path.name, i.height, i.width) for i in dataset.images] == [
        (3, "one.png", 40, 60),
        (8, "two.png", 50, 70),
    ]
    cat, dog = dataset.images[0].objects
    assert (cat.class_id, dog.class_id) == (1, 0)
    assert cat.box == (10.0, 10.0, 30.0, 30.0)
    assert cat.polygons == ((10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0),)
    assert (cat.rle, cat.keypoints, cat.is_crowd) == (None, None, False)
    assert dataset.has_masks
    assert not dataset.has_keypoints
    assert not dataset.has_sem_seg
    assert dataset.image_counts() == (2, 1)


def test_a_data_set_survives_the_way_to_another_process(files: TrainingFiles) -> None:
    dataset = files.read()
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_pictures_without_objects_are_kept(files: TrainingFiles) -> None:
    del files.content["annotations"][2]
    assert [len(image.objects) for image in files.read().images] == [2, 0]


def test_gaps_in_the_ids_are_a_note_only(files: TrainingFiles) -> None:
    assert codes(files.read()) == ["note ids-not-contiguous"]
    for entry in (*files.content["categories"], *files.content["annotations"]):
        key = "id" if "name" in entry else "category_id"
        entry[key] = {2: 1, 5: 2}[entry[key]]
    assert codes(files.read()) == []


def test_classes_are_matched_by_name_in_the_order_of_the_model(files: TrainingFiles) -> None:
    dataset = files.read(class_names=["bird", "cat", "dog"])
    assert dataset.class_names == ("bird", "cat", "dog")
    assert [thing.class_id for thing in dataset.images[0].objects] == [1, 2]


def test_a_label_map_joins_other_names(files: TrainingFiles) -> None:
    dataset = files.read(class_names=["animal"], label_map={"cat": "animal", "dog": "animal"})
    assert {thing.class_id for image in dataset.images for thing in image.objects} == {0}
    assert files.read(label_map={"cat": "dog"}).class_names == ("dog",)


def test_classes_that_the_model_lacks_are_named_with_what_to_do(files: TrainingFiles) -> None:
    with pytest.raises(DataError) as caught:
        files.read(class_names=["dogs", "bird"])
    message = caught.value.message
    assert "set.json has objects of the classes dog, cat, which the model does not have" in message
    assert "its classes are dogs, bird" in message
    assert "--label-map (such as dog: dogs)" in message
    assert "detserve extend --add dog,cat" in message
    assert caught.value.details["unknown"] == ["dog", "cat"]


def test_a_category_without_objects_need_not_be_a_class(files: TrainingFiles) -> None:
    files.content["categories"].append({"id": 1, "name": "animals"})
    dataset = files.read(class_names=["cat", "dog"])
    assert codes(dataset)[0] == "note category-unknown"
    assert [thing.class_id for thing in dataset.images[0].objects] == [0, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_names": ["cat", "dog", "cat"]}, "two classes of one name"),
        ({"class_names": ["cat", "dog"], "label_map": {"dog": "wolf"}}, r"\(dog: wolf\)"),
        ({"images": "nowhere"}, "no folder of images nowhere"),
        ({"sem_seg": "nowhere"}, "no folder of semantic maps nowhere"),
    ],
)
def test_options_that_do_not_fit(files: TrainingFiles, options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        files.read(**options)


def test_a_label_map_that_names_nothing_is_a_warning(files: TrainingFiles) -> None:
    assert "warning label-map-unused" in codes(files.read(label_map={"Cat": "dog"}))


@pytest.mark.parametrize(
    ("key", "index", "field", "value", "said"),
    [
        ("annotations", 0, "image_id", 4, "the image_id 4, which set.json does not define"),
        ("annotations", 0, "category_id", 1, "the category_id 1, which"),
        ("images", 0, "file_name", "../x.png", "leads out of the folder"),
        ("images", 0, "id", 3, "image id 3 is there twice"),
        ("images", 0, "height", None, "no height and width"),
        ("categories", 0, "name", "dog", "has no name of its own"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    files: TrainingFiles, key: str, index: int, field: str, value: Any, said: str
) -> None:
    files.content[key][index][field] = value
    with pytest.raises(DataError, match=said):
        files.read()


def test_what_has_no_pictures_or_categories_is_refused(files: TrainingFiles) -> None:
    whole = copy.deepcopy(files.content)
    files.content["images"] = files.content["annotations"] = []
    with pytest.raises(DataError, match=r"set\.json has no images"):
        files.read()
    files.content.update(whole, categories=[], annotations=[])
    with pytest.raises(DataError, match="no categories, so there is nothing to learn"):
        files.read()
    with pytest.raises(DataError, match=r"missing\.json cannot be read"):
        TrainingDataset.load(files.folder / "missing.json")


def test_missing_pictures_and_ids_that_are_there_twice_are_errors(files: TrainingFiles) -> None:
    files.content["images"][0]["file_name"] = "gone.png"
    files.content["annotations"][1]["id"] = 0
    missing, twice = files.read().findings[1:]
    assert (missing.severity, missing.code, missing.examples) == (
        "error",
        "file-missing",
        ("gone.png",),
    )
    assert (twice.severity, twice.code, twice.examples) == ("error", "id-duplicate", ("0",))


def test_ids_of_annotations_may_be_left_out(files: TrainingFiles) -> None:
    for annotation in files.content["annotations"]:
        del annotation["id"]
    assert codes(files.read()) == ["note ids-not-contiguous"]


def test_semantic_maps_are_found_by_the_pictures_name(files: TrainingFiles) -> None:
    maps = files.folder / "maps"
    maps.mkdir()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(maps / "one.png")
    dataset = files.read(sem_seg=maps)
    assert dataset.images[0].sem_seg_path == maps / "one.png"
    assert dataset.images[1].sem_seg_path is None
    assert not dataset.has_sem_seg
    assert "error sem-seg-missing" in codes(dataset)
    Image.fromarray(np.zeros((50, 70), np.uint8)).save(maps / "two.png")
    assert files.read(sem_seg=maps).has_sem_seg


def test_every_kind_of_mask_is_read_beside_the_others(files: TrainingFiles) -> None:
    bits = np.zeros((40, 60), np.uint8, order="F")
    bits[5:35, 30:40] = 1
    encoded = mask_api.encode(bits)
    files.content["annotations"].append(
        {
            **files.annotation(3, 3, 5, [30, 5, 10, 30]),
            "segmentation": {"size": [40, 60], "counts": encoded["counts"].decode()},
            "iscrowd": 1,
        }
    )
    runs = [1205, *([30, 10] * 10)]
    runs[-1] = 2400 - sum(runs[:-1])
    files.content["annotations"][1]["segmentation"] = {"size": [40, 60], "counts": runs}
    polygons, uncompressed, crowd = files.read().images[0].objects
    assert polygons.polygons is not None
    assert uncompressed.rle is not None
    assert np.array_equal(mask_api.decode(uncompressed.rle), bits)
    assert crowd.rle == {"size": [40, 60], "counts": encoded["counts"]}
    assert crowd.is_crowd


def test_what_is_read_to_train_can_be_read_to_measure(files: TrainingFiles) -> None:
    dataset = files.read()
    measured = CocoDataset.load(files.path)
    assert [image.id for image in measured.images] == [image.id for image in dataset.images]
    assert json.loads(files.path.read_text()) == files.content
