"""Models out of lazy configs: nothing is called that is not listed. Their answers: test_golden.py."""

from typing import Any

import pytest
from golden import GOLDEN

from models import ConfigError, ShapeSpec, build_model, load_config
from models.architectures.lazy import instantiate
from models.box_regression import Box2BoxTransform


def test_calls_are_made_from_the_inside_out() -> None:
    tree = {
        "shapes": [{"_target_": "detectron2.layers.ShapeSpec", "channels": 3}],
        "coder": {
            "_target_": "detectron2.modeling.box_regression.Box2BoxTransform",
            "weights": [1, 1, 1, 1],
        },
        "kind": {"_name_": "detectron2.modeling.box_regression.Box2BoxTransform"},
        "plain": None,
    }
    made = instantiate(tree)
    assert made["shapes"] == [ShapeSpec(channels=3)]
    assert isinstance(made["coder"], made["kind"])
    assert made["kind"] is Box2BoxTransform
    assert made["plain"] is None


@pytest.mark.parametrize(
    "target",
    ["os.system", "models.layers.ShapeSpec", "detectron2.ShapeSpec", "detectron2.layers.os", 3],
)
def test_a_target_that_is_not_listed_is_refused_with_its_place(target: Any) -> None:
    tree = {"backbone": {"parts": [{"_target_": target}]}}
    with pytest.raises(ConfigError, match=r"model\.backbone\.parts\[0\].*nothing was imported"):
        instantiate(tree)
    with pytest.raises(ConfigError, match=r"model\.norm: "):
        instantiate({"norm": {"_name_": target}})


@pytest.mark.parametrize("name", ["MMDetBackbone", "mmdet_wrapper.MMDetDetector"])
def test_mmdetection_is_for_python_not_for_files(name: str) -> None:
    tree = {"_target_": f"detectron2.modeling.{name}", "detector": {"type": "MaskRCNN"}}
    with pytest.raises(ConfigError, match="register it"):
        instantiate(tree)


def test_a_close_target_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean detectron2\.modeling\.GeneralizedRCNN"):
        instantiate({"_target_": "detectron2.modeling.GeneralisedRCNN"})


@pytest.mark.parametrize(
    "keywords", [{"weihgts": [1, 1, 1, 1]}, {}, {"weights": [1, 1, 1, 1], "wrong": 1}]
)
def test_wrong_keywords_are_told_with_their_place(keywords: dict[str, Any]) -> None:
    target = "detectron2.modeling.box_regression.Box2BoxTransform"
    tree = {"head": {"_target_": target, **keywords}}
    with pytest.raises(ConfigError, match=r"model\.head: .*Box2BoxTransform cannot be made"):
        instantiate(tree)


def test_a_refusal_deep_inside_is_told_once() -> None:
    fpn = "detectron2.modeling.backbone.fpn.FPN"
    tree = {"a": {"_target_": fpn, "bottom_up": {"_target_": fpn}}}
    with pytest.raises(ConfigError) as caught:
        instantiate(tree)
    assert caught.value.details["path"] == "model.a.bottom_up"
    assert caught.value.message.count("model.a") == 1


def test_a_tree_that_makes_no_model_is_refused() -> None:
    path = GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml"
    cfg = load_config(path)
    cfg = cfg.override("LAZY_MODEL._target_", "detectron2.layers.ShapeSpec")
    with pytest.raises(ConfigError, match="cannot be made from these keywords"):
        build_model(cfg)
