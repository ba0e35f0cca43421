"""Class names by data set: what is known, and when a config's data sets are believed."""

from typing import Any

import pytest

from models.config import Config, default_config
from models.metadata import dataset_metadata, keypoints_for, metadata_for


def config(test: tuple[str, ...] = (), train: tuple[str, ...] = (), **model: Any) -> Config:
    cfg = default_config().override("DATASETS.TEST", test).override("DATASETS.TRAIN", train)
    for key, value in model.items():
        cfg = cfg.override(f"MODEL.{key.replace('__', '.')}", value)
    return cfg


@pytest.mark.parametrize(
    ("name", "things", "stuff", "keypoints"),
    [
        ("coco_2017_val", 80, 0, 0),
        ("coco_2014_valminusminival", 80, 0, 0),
        ("coco_2017_val_100", 80, 0, 0),
        ("coco_2017_test-dev", 80, 0, 0),
        ("coco_2017_val_panoptic_separated", 80, 54, 0),
        ("coco_2017_train_panoptic_stuffonly", 0, 54, 0),
        ("keypoints_coco_2017_val", 1, 0, 17),
        ("cityscapes_fine_instance_seg_val", 8, 19, 0),
        ("voc_2012_trainval", 20, 0, 0),
    ],
)
def test_known_data_sets(name: str, things: int, stuff: int, keypoints: int) -> None:
    found = dataset_metadata(name)
    assert found is not None
    assert found.source == f"data set {name}"
    for names, number in (
        (found.thing_classes, things),
        (found.stuff_classes, stuff),
        (found.keypoint_names, keypoints),
    ):
        assert len(names) == len(set(names)) == number
    assert len(found.thing_ids) in {0, things}


@pytest.mark.parametrize(
    "name", ["lvis_v1_val", "balloon_val", "coco_2017_val_mine", "coco_2017_val_panoptic", ""]
)
def test_other_data_sets_are_not_guessed(name: str) -> None:
    assert dataset_metadata(name) is None


def test_classes_stand_in_the_order_of_the_model() -> None:
    coco = dataset_metadata("coco_2017_val_panoptic_separated")
    assert coco is not None
    assert (coco.thing_classes[0], coco.thing_classes[79]) == ("person", "toothbrush")
    assert (coco.thing_ids[0], coco.thing_ids[11], coco.thing_ids[79]) == (1, 13, 90)
    assert list(coco.thing_ids) == sorted(coco.thing_ids)
    assert (coco.stuff_classes[:2], coco.stuff_classes[53]) == (("things", "banner"), "rug-merged")


def test_keypoints_of_a_person() -> None:
    person = dataset_metadata("keypoints_coco_2017_val")
    assert person is not None
    assert person.keypoint_names[:3] == ("nose", "left_eye", "right_eye")
    assert len(person.keypoint_flip_map) == 8
    for pair in (*person.keypoint_skeleton, *person.keypoint_flip_map):
        assert set(pair) <= set(person.keypoint_names)


def test_the_data_sets_of_a_config() -> None:
    found = metadata_for(config(("coco_2017_val",), ("coco_2017_train",)))
    assert found == dataset_metadata("coco_2017_val")
    assert metadata_for(config((), ("coco_2017_train",))) == dataset_metadata("coco_2017_train")


@pytest.mark.parametrize(
    "cfg",
    [
        config(),
        config(("mine_val",), ("mine_train",)),
        config(("coco_2017_val",), ("mine_train",)),
        config(("coco_2017_val", "voc_2007_test")),
        config(("coco_2017_val",), ROI_HEADS__NUM_CLASSES=3),
        config(("coco_2017_val",), META_ARCHITECTURE="RetinaNet", RETINANET__NUM_CLASSES=3),
        config(("coco_2017_val",), META_ARCHITECTURE="ProposalNetwork"),
        config(("coco_2017_val",), META_ARCHITECTURE="PanopticFPN"),
        config(("coco_2017_val",), KEYPOINT_ON=True),
    ],
    ids=[
        "none",
        "own",
        "own training data",
        "two kinds",
        "other classes",
        "other dense classes",
        "no classes",
        "no stuff",
        "no keypoints",
    ],
)
def test_data_sets_that_do_not_fit_the_model_are_not_believed(cfg: Config) -> None:
    assert metadata_for(cfg) is None


def test_a_semantic_model_needs_its_stuff_alone() -> None:
    name = "coco_2017_val_panoptic_stuffonly"
    found = metadata_for(config((name,), META_ARCHITECTURE="SemanticSegmentor"))
    assert found == dataset_metadata(name)


def test_keypoints_are_known_whatever_the_classes_are() -> None:
    names = ("keypoints_coco_2017_val",)
    cfg = config(names, ("keypoints_coco_2017_train",), KEYPOINT_ON=True, ROI_HEADS__NUM_CLASSES=3)
    assert metadata_for(cfg) is None
    found = keypoints_for(cfg)
    person = dataset_metadata(names[0])
    assert found is not None
    assert person is not None
    assert found.names == person.keypoint_names
    assert found.flip_map == person.keypoint_flip_map
    assert found.skeleton == person.keypoint_skeleton


@pytest.mark.parametrize(
    ("test", "train", "changes"),
    [
        ((), (), {}),
        (("keypoints_coco_2017_val",), (), {"KEYPOINT_ON": False}),
        (("keypoints_coco_2017_val",), (), {"ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 4}),
        (("keypoints_coco_2017_val",), ("my_own",), {}),
        (("coco_2017_val",), (), {}),
    ],
)
def test_keypoints_that_nobody_can_be_sure_of(
    test: tuple[str, ...], train: tuple[str, ...], changes: dict[str, Any]
) -> None:
    assert keypoints_for(config(test, train, **{"KEYPOINT_ON": True, **changes})) is None
