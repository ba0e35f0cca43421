"""Caffe2's names and class order, against what Detectron2 makes of them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints.caffe2 import convert, convert_name, looks_like_caffe2
from models.checkpoints.reading import read_checkpoint
from models.errors import CheckpointError

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "caffe2_names.json").read_text()
)


def test_every_golden_name_becomes_what_detectron2_makes_of_it() -> None:
    assert {name: convert_name(name) for name in GOLDEN["pairs"]} == GOLDEN["pairs"]


@pytest.mark.parametrize("blob", ["cls_score_b", "bbox_pred_b", "mask_fcn_logits_b"])
def test_the_rows_of_classes_move_as_in_detectron2(blob: str) -> None:
    expected = GOLDEN["rows"][blob]
    rows = 4 * 4 if blob == "bbox_pred_b" else 4
    (tensor,) = convert({blob: torch.arange(float(rows))}).values()
    assert tensor.tolist() == expected


@pytest.mark.parametrize(
    ("blob", "name"),
    [
        ("conv_rpn_w", "proposal_generator.rpn_head.conv.weight"),
        ("rpn_cls_logits_b", "proposal_generator.rpn_head.objectness_logits.bias"),
        ("rpn_bbox_pred_w", "proposal_generator.rpn_head.anchor_deltas.weight"),
        ("conv_fcn8_w", "keypoint_head.conv_fcn8.weight"),
        ("kps_score_lowres_b", "keypoint_head.score_lowres.bias"),
        ("head_conv4_gn_s", "box_head.conv4.norm.weight"),
        ("fpn_inner_res4_22_sum_lateral_gn_b", "fpn_lateral4.norm.bias"),
        ("res4_35_branch2c_bn_rm", "res4.35.conv3.norm.running_mean"),
        ("res4_35_branch2c_bn_riv", "res4.35.conv3.norm.running_var"),
        ("conv1_gn_s", "stem.conv1.norm.weight"),
        ("_[mask]_fcn2_gn_b", "mask_head.mask_fcn2.norm.bias"),
        ("retnet_cls_pred_fpn3_w", "retnet_cls_pred_fpn3_w"),
    ],
)
def test_names_of_other_architectures(blob: str, name: str) -> None:
    assert convert_name(blob) == name


@pytest.mark.parametrize(
    "blob",
    ["lr", "model_iter", "fc6_w_momentum", "fc1000_w", "pred_b", "kps_score_w", "__preserve__/x_w"],
)
def test_what_is_not_of_the_network_is_dropped(blob: str) -> None:
    kept = torch.zeros(2)
    assert list(convert({blob: torch.zeros(2), "fc6_w": kept})) == ["box_head.fc1.weight"]


def test_the_bias_before_the_stems_norm_is_dropped() -> None:
    one = torch.ones(1)
    names = convert({"conv1_w": one, "conv1_b": one, "res_conv1_bn_s": one})
    assert list(names) == ["stem.conv1.weight", "stem.conv1.norm.weight"]
    assert list(convert({"conv1_w": one, "conv1_b": one})) == [
        "stem.conv1.weight",
        "stem.conv1.bias",
    ]


def test_class_agnostic_boxes_and_masks() -> None:
    boxes = convert({"bbox_pred_b": torch.arange(8.0)})["bbox_pred.bias"]
    assert boxes.tolist() == [4, 5, 6, 7]
    masks = convert({"mask_fcn_logits_b": torch.ones(1)})["mask_head.predictor.bias"]
    assert masks.tolist() == [1]


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ({"cls_score_b": torch.zeros(1)}, "cls_score_b has 1 rows"),
        ({"cls_score_b": torch.zeros(())}, "cls_score_b has 0 rows"),
        ({"bbox_pred_b": torch.zeros(4)}, "bbox_pred_b has 4 rows"),
        ({"bbox_pred_b": torch.zeros(10)}, "of 4 rows each"),
        ({"mask_fcn_logits_b": torch.zeros(0)}, "mask_fcn_logits_b has 0 rows"),
        ({"conv_rpn_w": torch.zeros(1), "conv_rpn_fpn2_w": torch.zeros(1)}, "keep one of them"),
    ],
)
def test_blobs_that_cannot_be_converted(blobs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert(blobs)


def test_what_a_caffe2_file_looks_like() -> None:
    assert looks_like_caffe2(["blobs", "cfg"])
    assert looks_like_caffe2(["conv1_w", "res_conv1_bn_s"])
    assert not looks_like_caffe2(["conv1.weight", "lr_w"])
    assert not looks_like_caffe2([1, "epoch"])
    assert not looks_like_caffe2([])


@pytest.mark.parametrize("wrap", [lambda blobs: {"blobs": blobs, "cfg": "x: 1"}, dict])
def test_a_caffe2_file_is_read(
    tmp_path: Path, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    blobs = {"cls_score_b": np.arange(3, dtype=np.float32), "lr": np.float32(0.1)}
    blobs |= {"cls_score_w": np.zeros((3, 2), np.float32), "cls_score_w_momentum": np.ones(6)}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps(wrap(blobs), protocol=2))
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.matching_heuristics) == ("Caffe2 .pkl", True)
    assert checkpoint.state_dict["cls_score.bias"].tolist() == [1, 2, 0]
    assert sorted(checkpoint.state_dict) == ["cls_score.bias", "cls_score.weight"]


def test_momentum_that_is_not_finite_does_not_matter(tmp_path: Path) -> None:
    blobs = {"fc6_w": np.zeros(1), "fc6_w_momentum": np.full(1, np.nan)}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    assert list(read_checkpoint(path).state_dict) == ["box_head.fc1.weight"]
