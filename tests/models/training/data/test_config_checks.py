"""Each way in which data and config do not fit has its sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training_files import TrainingFiles

from models.config import Config, default_config, load_config
from models.config.lazy_tags import LAZY_KEY
from models.training.data.config_checks import check_against_config
from models.training.data.dataset import TrainingDataset
from models.training.data.expectations import expectations_of

CLASSES = "MODEL.ROI_HEADS.NUM_CLASSES"
RCNN = {CLASSES: 2, "MODEL.META_ARCHITECTURE": "GeneralizedRCNN"}


def config(**changes: Any) -> Config:
    """A Faster R-CNN of two classes with these changes; dots are double underscores."""
    cfg = default_config()
    for key, value in {**RCNN, **{k.replace("__", "."): v for k, v in changes.items()}}.items():
        cfg = cfg.override(key, value)
    return cfg


def said(dataset: TrainingDataset, cfg: Config) -> dict[str, str]:
    """The sentence of each finding, by severity and code."""
    return {f"{f.severity} {f.code}": str(f) for f in check_against_config(dataset, cfg)}


def test_data_that_fits_has_nothing_but_notes(files: TrainingFiles) -> None:
    dataset = files.read()
    assert list(said(dataset, config())) == ["note masks-unused"]
    assert said(dataset, config(MODEL__MASK_ON=True)) == {}


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("GeneralizedRCNN", CLASSES),
        ("PanopticFPN", CLASSES),
        ("RetinaNet", "MODEL.RETINANET.NUM_CLASSES"),
        ("FCOS", "MODEL.RETINANET.NUM_CLASSES"),
    ],
)
def test_the_class_count_is_that_of_the_architecture(
    files: TrainingFiles, architecture: str, key: str
) -> None:
    dataset = files.read()
    cfg = config(MODEL__META_ARCHITECTURE=architecture).override(key, 80)
    sentence = said(dataset, cfg)["error class-count"]
    assert f"The data has 2 classes (dog, cat), but {key} is 80" in sentence
    assert f"Set {key} 2" in sentence
    assert "error class-count" not in said(dataset, cfg.override(key, 2))


def test_a_class_that_has_no_place_in_the_model_is_named(files: TrainingFiles) -> None:
    sentence = said(files.read(), config(MODEL__ROI_HEADS__NUM_CLASSES=1))["error class-count"]
    assert "class 1 (cat) would have no place in the model" in sentence


def test_networks_without_classes_ask_for_none(files: TrainingFiles) -> None:
    cfg = config(MODEL__META_ARCHITECTURE="ProposalNetwork").override(CLASSES, 80)
    assert "error class-count" not in said(files.read(), cfg)


@pytest.mark.parametrize("name", ["FCOS", "RetinaNet"])
def test_lazy_dense_detectors_have_their_count_at_the_top(files: TrainingFiles, name: str) -> None:
    cfg = lazy({"_target_": f"detectron2.modeling.{name}", "num_classes": 80})
    assert "but model.num_classes is 80" in said(files.read(), cfg)["error class-count"]


def test_lazy_heads_say_what_they_learn() -> None:
    heads = {
        "num_classes": 3,
        "mask_head": {"_target_": "a"},
        "keypoint_head": {"num_keypoints": 5},
    }
    tree = {"roi_heads": heads, "sem_seg_head": {"num_classes": 7}}
    wanted = expectations_of(lazy(tree))
    assert (wanted.num_classes, wanted.classes_key) == (3, "model.roi_heads.num_classes")
    assert (wanted.num_stuff, wanted.num_keypoints, wanted.masks) == (7, 5, True)


def lazy(tree: dict[str, Any]) -> Config:
    """A lazy config with this call tree."""
    return Config({**default_config().to_dict(), LAZY_KEY: tree})


def test_names_of_a_known_data_set_in_another_order_are_an_error(files: TrainingFiles) -> None:
    names = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    files.content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
    for annotation in files.content["annotations"]:
        annotation["category_id"] = 0
    cfg = config(MODEL__ROI_HEADS__NUM_CLASSES=8).override(
        "DATASETS.TRAIN", ("cityscapes_fine_instance_seg_train",)
    )
    assert list(said(files.read(), cfg)) == ["note masks-unused"]
    mixed = files.read(class_names=names[::-1])
    assert "in another order" in said(mixed, cfg)["error class-order"]
    others = files.read(class_names=[*names[:7], "cart"])
    assert "note class-names" in said(others, cfg)


def test_masks_that_are_wanted_and_not_there(files: TrainingFiles) -> None:
    cfg = config(MODEL__MASK_ON=True)
    files.first["segmentation"] = []
    sentence = said(files.read(), cfg)["error masks-some-absent"]
    assert "(1: one.png)" in sentence
    for annotation in files.content["annotations"]:
        annotation["segmentation"] = []
    assert "boxes only" in said(files.read(), cfg)["error masks-absent"]
    files.first["iscrowd"] = 1
    assert "note masks-unused" not in said(files.read(), config())


def test_either_format_of_masks_is_right(files: TrainingFiles) -> None:
    files.first["segmentation"] = {"size": [40, 60], "counts": [0, 100, 2300]}
    dataset = files.read()
    cfg = config(MODEL__MASK_ON=True)
    assert "nothing is to do" in said(dataset, cfg)["note mask-format"]
    assert said(dataset, cfg.override("INPUT.MASK_FORMAT", "bitmask")) == {}
    wrong = said(dataset, cfg.override("INPUT.MASK_FORMAT", "rle"))["error mask-format"]
    assert "'rle'. It is polygon or bitmask." in wrong


def keypoint_config(number: int, **changes: Any) -> Config:
    """A keypoint R-CNN."""
    return config(
        MODEL__KEYPOINT_ON=True, MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=number, **changes
    )


def test_keypoints_that_are_wanted_and_not_there(files: TrainingFiles) -> None:
    assert "no object has any" in said(files.read(), keypoint_config(17))["error keypoints-absent"]


def test_another_number_of_keypoints(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["left", "right"])
    dataset = files.read()
    sentence = said(dataset, keypoint_config(17))["error keypoint-count"]
    assert "The data has 2 keypoints (left, right)" in sentence
    assert "Set MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS 2" in sentence
    assert "note keypoints-unused" in said(dataset, config())


def test_flipping_without_a_flip_map(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["tip", "end"])
    dataset = files.read()
    sentence = said(dataset, keypoint_config(2))["error flip-map-absent"]
    assert "nothing says which keypoints then swap (tip, end)" in sentence
    assert '"flip_map"' in sentence
    assert "INPUT.RANDOM_FLIP none" in sentence
    assert "error flip-map-absent" not in said(
        dataset, keypoint_config(2, INPUT__RANDOM_FLIP="none")
    )
    files.give_keypoints(2, flip_map=[])
    assert "error flip-map-absent" not in said(files.read(), keypoint_config(2))


def test_sigmas_of_another_number(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["left", "right"])
    dataset = files.read()
    cfg = keypoint_config(2, TEST__KEYPOINT_OKS_SIGMAS=[0.1, 0.1, 0.1])
    assert "has 3 values for 2 keypoints" in said(dataset, cfg)["error oks-sigmas"]
    assert "one value for all" in said(dataset, keypoint_config(2))["note oks-sigmas"]
    cfg = keypoint_config(2, TEST__KEYPOINT_OKS_SIGMAS=[0.1, 0.1])
    assert list(said(dataset, cfg)) == ["note masks-unused"]


def test_objects_without_keypoints_are_a_note(files: TrainingFiles) -> None:
    files.give_keypoints(2, keypoints=["left", "right"])
    del files.first["keypoints"]
    assert "note keypoints-some-absent" in said(files.read(), keypoint_config(2))


def test_semantic_maps_that_are_wanted_and_not_there(files: TrainingFiles) -> None:
    cfg = config(MODEL__META_ARCHITECTURE="SemanticSegmentor")
    assert "--sem-seg" in said(files.read(), cfg)["error sem-seg-absent"]


def test_semantic_classes_beyond_the_models(files: TrainingFiles, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    values = np.zeros((40, 60), np.uint8)
    values[0, :3] = (3, 9, 255)
    Image.fromarray(values).save(maps / "one.png")
    Image.fromarray(np.zeros((50, 70), np.uint8)).save(maps / "two.png")
    dataset = files.read(sem_seg=maps)
    cfg = config(MODEL__META_ARCHITECTURE="PanopticFPN", MODEL__SEM_SEG_HEAD__NUM_CLASSES=4)
    sentence = said(dataset, cfg)["error sem-seg-class"]
    assert "is 4, so they go from 0 to 3, and 255 is ignored" in sentence
    assert "(1: map of one.png: 9)" in sentence
    assert said(dataset, cfg.override("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 10)) == {}
    assert "note sem-seg-unused" in said(dataset, config())


def test_models_that_take_precomputed_proposals(files: TrainingFiles) -> None:
    dataset = files.read()
    cfg = config(MODEL__LOAD_PROPOSALS=True)
    sentence = said(dataset, cfg)["error proposals-absent"]
    assert "but the data has none" in sentence
    assert "MODEL.PROPOSAL_GENERATOR.NAME RPN" in sentence
    fast = config(MODEL__PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    assert "error proposals-absent" in said(dataset, fast)


def test_rotated_boxes_and_upright_models(files: TrainingFiles) -> None:
    rotated = config(MODEL__PROPOSAL_GENERATOR__NAME="RRPN")
    assert "warning boxes-upright" in said(files.read(), rotated)
    files.first["bbox"] = [20, 20, 10, 5, 30]
    assert "warning boxes-rotated" in said(files.read(), config())
    assert not any("boxes" in finding for finding in said(files.read(), rotated))


def test_the_shapes_fit_the_config_that_they_are_trained_with() -> None:
    folder = Path(__file__).parents[3] / "data" / "shapes"
    shapes = TrainingDataset.load(folder / "val.json")
    pretrained = Path(__file__).parents[4] / "models" / "pretrained" / "shapes"
    assert said(shapes, load_config(pretrained / "config.yaml")) == {}
