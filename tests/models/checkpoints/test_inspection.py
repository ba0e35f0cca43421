"""Facts about files and configs, and whether they fit."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.architectures import build_model
from models.checkpoints import read_checkpoint
from models.checkpoints.inspection import inspect_checkpoint, inspect_config, inspect_fit
from models.config import default_config, load_config
from models.errors import CheckpointError

PRETRAINED = Path(__file__).parents[3] / "models" / "pretrained" / "shapes"
GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def test_facts_of_a_checkpoint() -> None:
    facts = inspect_checkpoint(PRETRAINED / "model_final.pth")
    assert (facts.file, facts.kind) == ("model_final.pth", "trainer .pth")
    assert facts.size_bytes == (PRETRAINED / "model_final.pth").stat().st_size
    assert len(facts.sha256) == 64
    assert facts.iteration is not None
    assert facts.parameters > 1_000_000
    assert facts.dtypes == ("float32", "int64")
    assert (facts.model.architecture, facts.model.num_classes) == ("Mask R-CNN FPN", 4)
    assert json.loads(json.dumps(facts.to_dict()))["model"]["depth"] == 50


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights file"):
        inspect_checkpoint(tmp_path / "model.pth")


def test_facts_of_a_config() -> None:
    facts = inspect_config(load_config(PRETRAINED / "config.yaml"))
    assert facts.meta_architecture == "GeneralizedRCNN"
    assert (facts.num_classes, facts.masks, facts.num_keypoints) == (4, True, 0)
    assert facts.num_stuff_classes is None
    assert json.loads(json.dumps(facts.to_dict()))["datasets"] == ["shapes_train"]


def test_facts_of_other_architectures() -> None:
    cfg = default_config().override("MODEL.META_ARCHITECTURE", "RetinaNet")
    cfg = cfg.override("MODEL.RETINANET.NUM_CLASSES", 7)
    cfg = cfg.override("MODEL.RETINANET.SCORE_THRESH_TEST", 0.25)
    facts = inspect_config(cfg)
    assert (facts.num_classes, facts.score_threshold, facts.roi_heads) == (7, 0.25, "")
    panoptic = inspect_config(default_config().override("MODEL.META_ARCHITECTURE", "PanopticFPN"))
    assert (panoptic.num_classes, panoptic.num_stuff_classes) == (80, 54)
    rpn = inspect_config(default_config().override("MODEL.META_ARCHITECTURE", "ProposalNetwork"))
    assert rpn.num_classes is None


def test_facts_of_configs_dumped_from_python() -> None:
    fcos = inspect_config(load_config(GOLDEN / "lazy__fcos_R_50_FPN_1x" / "config.yaml"))
    assert (fcos.meta_architecture, fcos.backbone) == ("FCOS", "FPN on ResNet")
    assert (fcos.score_threshold, fcos.nms_threshold, fcos.depth) == (0.2, 0.6, 50)
    assert fcos.unknown_keys == ()
    folder = GOLDEN / "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ"
    regnet = inspect_config(load_config(folder / "config.yaml"))
    assert (regnet.backbone, regnet.depth) == ("FPN on RegNet", None)
    assert regnet.roi_heads == "StandardROIHeads"


def test_a_file_that_fits_leaves_the_model_as_it_is() -> None:
    checkpoint = read_checkpoint(PRETRAINED / "model_final.pth")
    model = build_model(load_config(PRETRAINED / "config.yaml"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    facts = inspect_fit(model, checkpoint, "model_final.pth")
    assert (facts.fits, facts.message, facts.missing) == (True, "", ())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_that_does_not_fit_lists_why(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}, tmp_path / "m.pth")
    facts = inspect_fit(nn.Linear(2, 4), read_checkpoint(tmp_path / "m.pth"), "m.pth")
    assert not facts.fits
    assert facts.message.startswith("m.pth does not fit the model")
    assert facts.missing == ("bias",)
    assert facts.unexpected == ("extra",)
    assert facts.wrong_shape == ({"name": "weight", "model": [4, 2], "file": [3, 2]},)
    assert json.loads(json.dumps(facts.to_dict()))["missing"] == ["bias"]
