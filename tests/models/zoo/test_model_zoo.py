"""Every zoo model: its name, its file and its config."""

import hashlib
import re
from typing import Any

import pytest

from models import ConfigError, zoo
from models.config import default_config
from models.metadata import dataset_metadata, metadata_for

# SHA-256 (its beginning) of what each config changes of the defaults, taken when the configs were
# compared key for key with those of Detectron2's own files.
CHECKED = {
    "COCO-Detection/faster_rcnn_R_50_C4_1x": "9599aae83f5c",
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": "d58068ac576b",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": "c3f3901c5ee3",
    "COCO-Detection/faster_rcnn_R_50_C4_3x": "c04dccea5434",
    "COCO-Detection/faster_rcnn_R_50_DC5_3x": "9528d63c4a80",
    "COCO-Detection/faster_rcnn_R_50_FPN_3x": "1f7b0b6748cf",
    "COCO-Detection/faster_rcnn_R_101_C4_3x": "6d77dcf3d6e5",
    "COCO-Detection/faster_rcnn_R_101_DC5_3x": "61ccad6c8be1",
    "COCO-Detection/faster_rcnn_R_101_FPN_3x": "560c99d6517b",
    "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x": "7b85b2e906ab",
    "COCO-Detection/retinanet_R_50_FPN_1x": "7275523dac47",
    "COCO-Detection/retinanet_R_50_FPN_3x": "4be2c105a957",
    "COCO-Detection/retinanet_R_101_FPN_3x": "fb15db86a77c",
    "COCO-Detection/rpn_R_50_C4_1x": "1bde0d635979",
    "COCO-Detection/rpn_R_50_FPN_1x": "84427148d06b",
    "COCO-Detection/fast_rcnn_R_50_FPN_1x": "09f07f531aa9",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": "ffa6f65bfce6",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": "0b75606b3b12",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "606b69820691",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x": "959e9f231ef2",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x": "1ee0a3e39c1c",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x": "0f5e0d4dcbd6",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x": "76d7d5ced0b9",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x": "34b61699efec",
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x": "a67a240a0bd7",
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": "220ed66b7a08",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": "06d5fbfc5d5b",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x": "ba53ff84b249",
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": "1bf9f15dc23b",
    "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x": "8642792601e4",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x": "40636fc5f7eb",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x": "9bc383aca94a",
    "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x": "f0436a2e8feb",
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "9159554296d5",
    "LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": "d463a4649e39",
    "LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x": "f96632f628f6",
    "Cityscapes/mask_rcnn_R_50_FPN": "05c91ffa4307",
    "PascalVOC-Detection/faster_rcnn_R_50_C4": "eefada9b69b3",
    "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5": "0d2ac3b18424",
    "Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5": "8ee05aad6a38",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": "6cc53e095363",
    "Misc/cascade_mask_rcnn_R_50_FPN_3x": "33fb28431f02",
    "Misc/mask_rcnn_R_50_FPN_3x_syncbn": "cc63506edaf2",
    "Misc/mask_rcnn_R_50_FPN_3x_gn": "bcebea49d5ba",
    "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn": "a681830d5cc1",
    "Misc/scratch_mask_rcnn_R_50_FPN_9x_gn": "18e72ef8439c",
    "Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn": "a7a1411cb823",
    "Misc/panoptic_fpn_R_101_dconv_cascade_gn_3x": "232c3c3bd8df",
    "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv": "beb4c9350f95",
    "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x": "adaeaec693d1",
    "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x": "9a872cc92452",
    "Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x": "553d7782c9bb",
    "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ": "87b7484d4881",
    "new_baselines/mask_rcnn_R_50_FPN_200ep_LSJ": "87b7484d4881",
    "new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ": "87b7484d4881",
    "new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ": "660c133c9b92",
    "new_baselines/mask_rcnn_R_101_FPN_200ep_LSJ": "660c133c9b92",
    "new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ": "660c133c9b92",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ": "950600d788d8",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_200ep_LSJ": "950600d788d8",
    "new_baselines/mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ": "950600d788d8",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": "8daaf973ddb7",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_200ep_LSJ": "8daaf973ddb7",
    "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ": "8daaf973ddb7",
}


def changed(values: dict[str, Any], defaults: dict[str, Any], path: str = "") -> list[str]:
    lines: list[str] = []
    for key in sorted(values):
        value, default = values[key], defaults.get(key)
        if isinstance(value, dict):
            lines += changed(value, default if isinstance(default, dict) else {}, f"{path}{key}.")
        elif key not in defaults or value != default:
            lines.append(f"{path}{key}={value!r}")
    return lines


def fingerprint(name: str) -> str:
    lines = changed(zoo.get(name).config().to_dict(), default_config().to_dict())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def test_the_zoo_has_all_models_of_detectron2() -> None:
    assert len(zoo.names()) == len(set(zoo.names())) == 64
    assert set(CHECKED) == set(zoo.names())


@pytest.mark.parametrize("name", zoo.names())
def test_a_config_is_what_was_checked(name: str) -> None:
    assert fingerprint(name) == CHECKED[name]


@pytest.mark.parametrize("name", zoo.names())
def test_a_model_knows_its_file_and_its_classes(name: str) -> None:
    model, cfg = zoo.get(name), zoo.get(name).config()
    assert model.config_id.rsplit(".", 1)[0] == model.name == name
    assert re.fullmatch(
        rf"https://[\w.]+/detectron2/{re.escape(name)}/\d+/{re.escape(model.file_name)}", model.url
    )
    assert re.fullmatch(r"[0-9a-f]{6}", model.md5_prefix)
    assert model.architecture == cfg.MODEL.META_ARCHITECTURE
    assert (model.class_set,) == cfg.DATASETS.TEST
    known = metadata_for(cfg)
    if model.architecture == "ProposalNetwork" or model.class_set.startswith("lvis"):
        assert known is None
    else:
        assert known == dataset_metadata(model.class_set)


def test_figures_are_the_published_ones() -> None:
    model = zoo.get("COCO-PanopticSegmentation/panoptic_fpn_R_50_3x")
    assert (model.box_ap, model.mask_ap, model.panoptic_quality) == (40.0, 36.5, 41.5)
    assert (model.keypoint_ap, model.proposal_recall) == (None, None)


@pytest.mark.parametrize("ending", ["", ".yaml", ".py"])
def test_a_short_name_is_enough_where_it_is_unique(ending: str) -> None:
    found = zoo.get("mask_rcnn_R_50_FPN_3x" + ending)
    assert found.name == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert found.short_name == "mask_rcnn_R_50_FPN_3x"


def test_a_short_name_of_several_models_names_them() -> None:
    with pytest.raises(ConfigError, match=r"2 models.*COCO-Keypoints/.*Detectron1-Comparisons/"):
        zoo.get("keypoint_rcnn_R_50_FPN_1x")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Mask_RCNN_r50_fpn_3x", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"),
        ("COCO-Detection/retinanet_R50_FPN_1x", "COCO-Detection/retinanet_R_50_FPN_1x"),
    ],
)
def test_a_wrong_name_gets_close_ones(name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        zoo.get(name)
    assert meant in caught.value.message


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(ConfigError, match="detserve download --list"):
        zoo.get("yolo")
