"""Detectors and ImageNet backbones with short names, loaded into a Mask R-CNN."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.architectures import build_model
from models.checkpoints import load_checkpoint
from models.config import Config, load_config
from models.errors import CheckpointError

DATA = Path(__file__).parents[2] / "data"
PAIRS: dict[str, str] = json.loads((DATA / "caffe2_names.json").read_text())["pairs"]
BODY = "backbone.bottom_up."
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def cfg() -> Config:
    """A Mask R-CNN R-50 FPN with three classes and narrow heads."""
    narrow = ["MODEL.FPN.OUT_CHANNELS", 8, "MODEL.ROI_BOX_HEAD.FC_DIM", 8]
    narrow += ["MODEL.ROI_MASK_HEAD.CONV_DIM", 8, "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    narrow += ["MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4]
    narrow += ["MODEL.RESNETS.STEM_OUT_CHANNELS", 4]
    name = "COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x"
    return load_config(DATA / "golden" / name / "config.yaml", narrow)


@pytest.fixture
def model(cfg: Config) -> nn.Module:
    return build_model(cfg)


@pytest.fixture
def state(model: nn.Module) -> State:
    """Random weights whose running statistics are what files without any stand for."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            state[name] = torch.zeros_like(value)
        elif name.endswith("running_var"):
            state[name] = torch.ones_like(value)
        else:
            state[name] = torch.randn(value.shape, generator=generator)
    return state


def write(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def caffe2_blobs(state: State) -> dict[str, Any]:
    """What Detectron 1 would have stored, by the golden table read backwards."""
    blobs: dict[str, Any] = {"lr": np.float32(0.02)}
    for blob, suffix in PAIRS.items():
        (name,) = [n for n in state if n == suffix or n.endswith("." + suffix)]
        tensor = state[name]
        if blob.startswith("cls_score"):
            tensor = torch.cat([tensor[-1:], tensor[:-1]])
        elif blob.startswith(("bbox_pred", "mask_fcn_logits")):
            rows = 4 if blob.startswith("bbox_pred") else 1
            tensor = torch.cat([torch.full_like(tensor[:rows], 99), tensor])
        blobs[blob] = tensor.numpy()
        blobs[f"{blob}_momentum"] = np.zeros_like(blobs[blob])
    return blobs


def short_names(state: State) -> dict[str, Any]:
    """An ImageNet backbone file's names."""
    body = {k.removeprefix(BODY): v.numpy() for k, v in state.items() if k.startswith(BODY)}
    return {**body, "fc1000.weight": np.zeros((1000, 4), np.float32)}


def assert_equal(model: nn.Module, state: State) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_caffe2_detector_fills_the_whole_model(
    tmp_path: Path, model: nn.Module, state: State, wrapped: bool
) -> None:
    blobs = caffe2_blobs(state)
    path = write(tmp_path / "model_final.pkl", {"blobs": blobs} if wrapped else blobs)
    report = load_checkpoint(model, path)
    assert_equal(model, state)
    assert report.kind == "Caffe2 .pkl"
    assert report.tensors == len(state)
    assert report.uninitialised == ()
    assert len(report.filled) == 2 * sum(name.endswith("running_mean") for name in state)


def test_a_caffe2_detector_that_lacks_a_blob_is_refused(
    tmp_path: Path, model: nn.Module, state: State
) -> None:
    blobs = caffe2_blobs(state)
    del blobs["fc7_w"]
    with pytest.raises(CheckpointError, match="1 missing") as caught:
        load_checkpoint(model, write(tmp_path / "model_final.pkl", {"blobs": blobs}))
    assert caught.value.details["missing"] == ["roi_heads.box_head.fc2.weight"]


def test_a_caffe2_detector_of_another_number_of_classes_is_refused(
    tmp_path: Path, cfg: Config, state: State
) -> None:
    path = write(tmp_path / "model_final.pkl", {"blobs": caffe2_blobs(state)})
    other = build_model(cfg.override("MODEL.ROI_HEADS.NUM_CLASSES", 5))
    with pytest.raises(CheckpointError, match=r"the file has 3 classes but .*NUM_CLASSES is 5"):
        load_checkpoint(other, path)


def test_an_unknown_blob_is_unexpected(tmp_path: Path, model: nn.Module, state: State) -> None:
    blobs = {**caffe2_blobs(state), "retnet_cls_pred_fpn3_w": np.zeros(1)}
    with pytest.raises(CheckpointError, match="1 unexpected"):
        load_checkpoint(model, write(tmp_path / "model_final.pkl", {"blobs": blobs}))


def test_short_names_are_not_matched_in_a_file_that_does_not_ask_for_it(
    tmp_path: Path, model: nn.Module, state: State
) -> None:
    path = write(tmp_path / "R-50.pkl", {"model": short_names(state)})
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(model, path)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(model, path, require="backbone")


def test_a_backbone_is_not_served(tmp_path: Path, model: nn.Module, state: State) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = write(tmp_path / "R-50.pkl", {"model": short_names(state), "matching_heuristics": True})
    with pytest.raises(CheckpointError, match=r"R-50\.pkl is a backbone, not a detector") as caught:
        load_checkpoint(model, path)
    assert "roi_heads.box_head.fc1.weight" in caught.value.details["missing"]
    assert_equal(model, before)


@pytest.mark.parametrize("kind", ["zoo", "pycls", "caffe2"])
def test_a_training_starts_from_a_backbone(
    tmp_path: Path, model: nn.Module, state: State, kind: str
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if kind == "pycls":
        path = tmp_path / "R-50.pyth"
        tensors = {name: torch.tensor(value) for name, value in short_names(state).items()}
        torch.save({"model_state": tensors}, path)
    elif kind == "zoo":
        content = {"model": short_names(state), "matching_heuristics": True}
        path = write(tmp_path / "R-50.pkl", content)
    else:
        blobs = {k: v for k, v in caffe2_blobs(state).items() if k.startswith(("res", "conv1_"))}
        path = write(tmp_path / "R-50.pkl", {**blobs, "conv1_b": np.ones(4), "fc1000_w": 0})
    report = load_checkpoint(model, path, require="backbone")
    expected = {name: (state if name.startswith(BODY) else before)[name] for name in before}
    assert_equal(model, expected)
    outside = {name for name in before if not name.startswith(BODY)}
    assert set(report.uninitialised) == outside
    assert f"{len(outside)} of the model's tensors are not in the file" in report.summary()
    assert report.ignored == (() if kind == "caffe2" else ("fc1000.weight",))


def test_a_backbone_of_another_depth_is_refused(
    tmp_path: Path, model: nn.Module, state: State
) -> None:
    shallow = {k: v for k, v in short_names(state).items() if not k.startswith("res4.5.")}
    path = write(tmp_path / "R.pkl", {"model": shallow, "matching_heuristics": True})
    with pytest.raises(CheckpointError, match="5 blocks in res4 and the model has 6"):
        load_checkpoint(model, path, require="backbone")
    deep = short_names(state)
    deep |= {k.replace("res4.5", "res4.6"): v for k, v in deep.items() if k.startswith("res4.5.")}
    path = write(tmp_path / "R.pkl", {"model": deep, "matching_heuristics": True})
    with pytest.raises(CheckpointError, match="7 blocks in res4 and the model has 6"):
        load_checkpoint(model, path, require="backbone")


def test_a_training_starts_from_a_detector_of_other_classes(
    tmp_path: Path, cfg: Config, state: State
) -> None:
    other = build_model(cfg.override("MODEL.ROI_HEADS.NUM_CLASSES", 5))
    torch.save({"model": state}, tmp_path / "model_final.pth")
    report = load_checkpoint(other, tmp_path / "model_final.pth", require="backbone")
    predictors = ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
    assert set(report.uninitialised) == {
        f"roi_heads.{layer}.{parameter}" for layer in predictors for parameter in ("weight", "bias")
    }
    assert torch.equal(
        other.state_dict()["roi_heads.box_head.fc1.weight"], state["roi_heads.box_head.fc1.weight"]
    )


def test_short_names_that_mean_two_tensors_are_refused(tmp_path: Path) -> None:
    model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("a", "b")})
    content = {"model": {"weight": np.zeros((2, 2), np.float32)}, "matching_heuristics": True}
    path = write(tmp_path / "R-50.pkl", content)
    with pytest.raises(CheckpointError, match=r"R-50\.pkl does not fit .* more than one") as caught:
        load_checkpoint(model, path)
    assert caught.value.details["ambiguous"] == {"weight": ["a.weight", "b.weight"]}
