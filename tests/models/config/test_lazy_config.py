"""Dumped lazy configs become a Config; nothing in them is imported or called."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models import ConfigError, load_config

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
MINIMAL = """
dataloader:
  test:
    dataset: {names: [a_val]}
    mapper:
      image_format: RGB
      augmentations:
      - _target_: detectron2.data.transforms.ResizeShortestEdge
        max_size: 600
        short_edge_length: [400, 400]
model:
  _target_: detectron2.modeling.GeneralizedRCNN
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "lazy.yaml"
        path.write_text(text)
        return path

    return write


def test_a_mask_rcnn() -> None:
    cfg = load_config(GOLDEN / "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ" / "config.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON) == (True, False)
    assert cfg.MODEL.PIXEL_STD == [57.375, 57.12, 58.395]
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.05
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (800, 1333)
    assert cfg.INPUT.FORMAT == "BGR"
    assert cfg.DATASETS.TEST == ("coco_2017_val",)
    assert cfg.DATASETS.TRAIN == ("coco_2017_train",)
    tree = cfg.LAZY_MODEL
    assert tree.backbone.in_features == ["s1", "s2", "s3", "s4"]
    assert tree["backbone.bottom_up.stem_class._name_"].endswith("regnet.SimpleStem")
    assert tree.roi_heads.box_head.conv_norm == tree.roi_heads.mask_head.conv_norm == "BN"
    assert tree.roi_heads.mask_head.num_classes == 80
    assert tree.roi_heads.box_head.input_shape.to_dict() == {
        "_target_": "detectron2.layers.shape_spec.ShapeSpec",
        "channels": 256,
        "height": 7,
        "width": 7,
        "stride": None,
    }


def test_a_dense_detector() -> None:
    cfg = load_config(GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml")
    assert cfg.MODEL.META_ARCHITECTURE == "FCOS"
    assert cfg.MODEL.MASK_ON is False
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 80
    assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0.2
    assert cfg.MODEL.RETINANET.NMS_THRESH_TEST == 0.6
    assert cfg.LAZY_MODEL.backbone.top_block.out_channels == 256


def test_what_the_loader_says_of_images(write: Callable[[str], Path]) -> None:
    cfg = load_config(write(MINIMAL))
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (400, 600)
    assert cfg.INPUT.FORMAT == "RGB"
    assert (cfg.DATASETS.TEST, cfg.DATASETS.TRAIN) == (("a_val",), ())


def test_without_a_loader_the_defaults_stand(write: Callable[[str], Path]) -> None:
    cfg = load_config(write("model: {_target_: a.B, input_format: RGB}"))
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT) == (800, "RGB")


def test_the_last_stage_of_a_cascade_gives_the_thresholds(write: Callable[[str], Path]) -> None:
    text = (
        "  roi_heads:\n    box_predictors: [{test_score_thresh: 0.1}, {test_score_thresh: 0.2}]\n"
    )
    assert load_config(write(MINIMAL + text)).MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.2


def test_a_dump_of_ours_reads_as_the_same_config(write: Callable[[str], Path]) -> None:
    cfg = load_config(GOLDEN / "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ" / "config.yaml")
    assert load_config(write(cfg.dump())) == cfg


def test_overrides_reach_the_model_where_it_is_described(write: Callable[[str], Path]) -> None:
    path = GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml"
    cfg = load_config(path, ["LAZY_MODEL.test_nms_thresh", "0.5", "MODEL.WEIGHTS", "x"])
    assert cfg.LAZY_MODEL.test_nms_thresh == 0.5
    with pytest.raises(ConfigError, match=r"MODEL\.RETINANET.*LAZY_MODEL"):
        load_config(path, ["MODEL.RETINANET.NUM_CLASSES", "3"])


def test_a_file_on_a_lazy_base_cannot_change_its_model(write: Callable[[str], Path]) -> None:
    base = write(MINIMAL)
    child = base.with_name("child.yaml")
    child.write_text("_BASE_: lazy.yaml\nINPUT: {MIN_SIZE_TEST: 500}")
    assert load_config(child).INPUT.MIN_SIZE_TEST == 500
    child.write_text("_BASE_: lazy.yaml\nMODEL: {MASK_ON: true}")
    with pytest.raises(ConfigError, match="builds on a lazy config"):
        load_config(child)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x: !!python/object:os.system {a: 1}", r"tag !!python/object:os\.system \(line 13\)"),
        ("x: !!python/object/apply:os.system ['true']", r"apply:os\.system \(line 13\)"),
        ("x: !!python/name:os.system 'argument'", r"python/name:os\.system \(line 13\)"),
        ("x: !!python/module:os ''", r"python/module:os \(line 13\)"),
        ("x: !!python/name:a.%3Clambda%3E ''", r"model\.x was a lambda"),
        ("x: ${.y}", r"names model\.y, which does not exist"),
    ],
)
def test_what_is_not_allowed_is_refused(
    write: Callable[[str], Path], line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(f"{MINIMAL}  {line}\n"))


def test_a_name_is_kept_as_data(write: Callable[[str], Path]) -> None:
    cfg = load_config(write(MINIMAL + "  x: !!python/name:os.system ''\n"))
    assert cfg.LAZY_MODEL.x.to_dict() == {"_name_": "os.system"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ResizeShortestEdge", "Other", "has 0 ResizeShortestEdge"),
        ("[400, 400]", "[400, 500]", "short_edge_length must be one whole number"),
        ("max_size: 600", "sample_style: choice", "max_size must be one whole number"),
        ("detectron2.modeling.GeneralizedRCNN", "3", "_target_ must be the dotted name"),
    ],
)
def test_a_part_of_another_form_is_refused(
    write: Callable[[str], Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(MINIMAL.replace(old, new)))
