"""Counting and replacing classes on every model that there are golden answers of, without their memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from golden import GOLDEN
from torch import nn

from models import ModelError, build_model, load_config, num_classes, replace_predictor
from models.classes.config_keys import with_class_counts
from models.classes.tensors import class_tensors
from models.config import Config
from models.config.class_keys import main_classes_key, stuff_classes_key
from models.config.lazy_tags import LAZY_KEY

# A folder of training answers, or with test-time augmentation, may have another one's model.
PATHS = {path.parent.name.removesuffix("__TTA"): path for path in GOLDEN.rglob("config.yaml")}
WITHOUT_CLASSES = {name for name in PATHS if "__rpn_" in name}
K = 7


def config(name: str) -> Config:
    return load_config(PATHS[name])


def said(cfg: Config, key: str) -> int:
    """What a config says; the keys of a lazy one are below its ``model``."""
    count: int = cfg[key.replace("model.", f"{LAZY_KEY}.", 1)]
    return count


def built(cfg: Config) -> Any:
    with torch.device("meta"):
        return build_model(cfg)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def rows_for_k_classes(model: Any) -> Iterator[tuple[str, int]]:
    """Each layer that classes are in, and how many rows it must have, written down once more."""
    head, heads = getattr(model, "head", None), getattr(model, "roi_heads", None)
    if head is not None:
        anchors = head.bbox_pred.weight.shape[0] // 4
        yield "head.cls_score", anchors * K
        yield "head.bbox_pred", anchors * 4
    if heads is not None:
        name = "roi_heads.box_predictor"
        stages = {name: heads.box_predictor}
        if isinstance(heads.box_predictor, nn.ModuleList):
            stages = {f"{name}.{i}": stage for i, stage in enumerate(heads.box_predictor)}
        for name, stage in stages.items():
            numbers_of_a_box = len(stage.box2box_transform.weights)
            boxes = 1 if stage.cls_agnostic_bbox_reg else K
            yield f"{name}.cls_score", K + 1  # the background has a row, by softmax and by sigmoid
            yield f"{name}.bbox_pred", boxes * numbers_of_a_box
        if getattr(heads, "mask_head", None) is not None:
            one_for_all = heads.mask_head.predictor.weight.shape[0] == 1
            yield "roi_heads.mask_head.predictor", 1 if one_for_all else K
    if getattr(model, "sem_seg_head", None) is not None:
        yield "sem_seg_head.predictor", K


@pytest.mark.parametrize("name", sorted(PATHS.keys() - WITHOUT_CLASSES))
def test_classes_are_counted_and_replaced(name: str) -> None:
    cfg = config(name)
    model = built(cfg)
    assert num_classes(model) == said(cfg, main_classes_key(cfg))
    tensors = class_tensors(model)
    parts = {tensor.part for tensor in tensors}
    expected = dict(rows_for_k_classes(model))
    for part in parts:
        if len(parts) > 1 and part == "stuff":
            assert num_classes(model, part) == said(cfg, stuff_classes_key(cfg))
        replace_predictor(model, K, part=part)
        assert num_classes(model, part) == K
    found = shapes(model)
    assert {layer: found[f"{layer}.weight"][0] for layer in expected} == expected
    assert {layer: found[f"{layer}.bias"][0] for layer in expected} == expected
    # So is a model that was told of as many classes from the start, down to the last buffer.
    assert found == shapes(built(with_class_counts(cfg, dict.fromkeys(parts, K), tensors)))


@pytest.mark.parametrize("name", sorted(WITHOUT_CLASSES))
def test_proposal_networks_have_one_class_and_no_row_of_it(name: str) -> None:
    model = built(config(name))
    assert num_classes(model) == 1
    with pytest.raises(ModelError, match="knows no classes"):
        replace_predictor(model, K)


def test_all_kinds_are_among_them() -> None:
    parts = ("C4", "DC5", "FPN", "keypoint", "retinanet", "fcos", "cascade", "panoptic", "semantic")
    more = ("LVIS", "rotated", "sigmoid", "agnostic", "regnet", "rpn", "giou")
    missing = [part for part in (*parts, *more) if not any(part in name for name in PATHS)]
    assert missing == []
