"""Models out of lazy configs: Detectron2's answers, and nothing called that is not listed."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from golden import GOLDEN, compare_instances, run_case, seeded_state
from PIL import Image

from models import ConfigError, Instances, ShapeSpec, build_model, load_config
from models.architectures.lazy import instantiate
from models.box_regression import Box2BoxTransform
from models.predictor import Preprocessing

RCNNS = sorted(path.name for path in GOLDEN.glob("lazy__mask_rcnn_*"))


def check(outputs: list[dict[str, Any]], ours: list[Instances]) -> None:
    for output, instances in zip(outputs, ours, strict=True):
        found = compare_instances(output["instances"], instances)
        assert found.clear > 0
        assert found.matched >= 0.99 * found.clear, found.unmatched


@pytest.mark.parametrize("name", RCNNS)
def test_a_lazy_mask_rcnn_answers_as_detectron2(name: str) -> None:
    case = run_case(name)
    expected = case.expected["parameters"]
    assert all(list(shape) == expected[key] for key, shape in case.parameters.items())
    check(case.expected["outputs"], case.instances)


def test_a_lazy_fcos_answers_as_detectron2() -> None:
    folder = GOLDEN / "lazy__fcos_R_50_FPN_1x"
    expected = json.loads((folder / "expected.json").read_text())
    model: Any = build_model(load_config(folder / "config.yaml"))
    state = seeded_state(model, expected["seed"], expected["stem_gain"])
    assert all(list(value.shape) == expected["parameters"][key] for key, value in state.items())
    model.load_state_dict(state, strict=False)
    prepare = Preprocessing("BGR", expected["min_size_test"], expected["max_size_test"], 0)
    inputs = []
    for name in expected["images"]:
        rgb = np.asarray(Image.open(GOLDEN / name).convert("RGB"))
        inputs.append({"image": prepare(rgb), "height": rgb.shape[0], "width": rgb.shape[1]})
    with torch.inference_mode():
        check(expected["outputs"], [answer["instances"] for answer in model(inputs)])


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
