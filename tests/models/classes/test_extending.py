"""Class surgery on models, state dicts and files of every architecture; the configs that come of it."""

from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
import torchvision.models.detection as detection
from tiny_models import tiny_config, tiny_image, tiny_model
from torch import Tensor

from models import (
    BACKBONE_REGISTRY,
    CheckpointError,
    Config,
    ModelError,
    Predictor,
    build_model,
    extend_classes,
    load_config,
    num_classes,
)
from models.classes import ClassChanges, save_extended
from models.classes.config_keys import masks_are_agnostic
from models.classes.tensors import class_tensors

THREE = ("a", "b", "c")
SHAPES = ("disc", "rectangle", "triangle", "star")


def small(**overrides: Any) -> tuple[Any, Config]:
    """A model of three classes and its config."""
    return tiny_model(**overrides), tiny_config(**overrides)


def answer(model: Any) -> dict[str, Any]:
    with torch.inference_mode():
        output: dict[str, Any] = model([{"image": tiny_image(), "height": 96, "width": 128}])[0]
    return output


def test_the_embedded_model_answers_as_before(
    shapes_files: tuple[Path, Path],
    shapes_predictor: Predictor,
    shapes_picture: np.ndarray,
    tmp_path: Path,
) -> None:
    config, weights = shapes_files
    order = ("star", "ring", "disc", "triangle", "cross", "rectangle")
    extended = extend_classes(
        weights, load_config(config), SHAPES, add=["ring", "cross"], reorder=order
    )
    assert extended.class_names == order
    assert extended.model is None
    save_extended(extended, tmp_path)
    predictor = Predictor.from_files(
        tmp_path / "config.yaml", tmp_path / "model_final.pth", device="cpu"
    )
    before, after = shapes_predictor(shapes_picture), predictor(shapes_picture)
    assert len(after) == len(before) > 5
    assert [order[i] for i in after.pred_classes] == [SHAPES[i] for i in before.pred_classes]
    assert torch.equal(after.pred_boxes.tensor, before.pred_boxes.tensor)
    assert torch.equal(after.pred_masks, before.pred_masks)
    torch.testing.assert_close(after.scores, before.scores, atol=1e-6, rtol=0)


def test_scores_can_only_rise_where_classes_go(
    shapes_files: tuple[Path, Path], shapes_predictor: Predictor, shapes_picture: np.ndarray
) -> None:
    config, weights = shapes_files
    extended = extend_classes(weights, load_config(config), SHAPES, remove=["star"])
    model = build_model(extended.cfg)
    model.load_state_dict(extended.state_dict)
    after = Predictor(model, extended.cfg)(shapes_picture)
    before = shapes_predictor(shapes_picture)
    assert int(after.pred_classes.max()) == 2
    for i in (before.pred_classes != 3).nonzero().flatten().tolist():
        same = (after.pred_boxes.tensor - before.pred_boxes.tensor[i]).abs().amax(1) < 1e-3
        same &= after.pred_classes == before.pred_classes[i]
        assert float(after.scores[same].max()) >= float(before.scores[i]) - 1e-6
    assert any("can only rise" in note for note in extended.report.notes)


def test_a_model_becomes_another_one() -> None:
    model, cfg = small(MASK_ON=True)
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    extended = extend_classes(model.train(), cfg, THREE, add=["d"])
    made: Any = extended.model
    assert (num_classes(made), num_classes(model)) == (4, 3)
    assert made.training
    assert extended.cfg.MODEL.ROI_HEADS.NUM_CLASSES == 4
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(1.0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, old[name])


def test_a_state_dict_and_a_checkpoint_do_as_well() -> None:
    model, cfg = small()
    state = model.state_dict()
    plain = extend_classes(state, cfg, THREE, add=["d"])
    assert plain.report.notes == (
        "Until they are trained, new classes have a probability of at most 0.01, so that none is found "
        "(the threshold is 0.2).",
    )
    checkpoint = {"model": state, "optimizer": {"state": {}}, "iteration": 5}
    extended = extend_classes(checkpoint, cfg, THREE, add=["d"])
    assert extended.report.notes[0].startswith("The optimiser's state")
    assert extended.state_dict.keys() == plain.state_dict.keys() == state.keys()
    for name, tensor in plain.state_dict.items():
        assert torch.equal(tensor, extended.state_dict[name])


def test_the_report_tells_it_all() -> None:
    model, cfg = small()
    report = extend_classes(model, cfg, THREE, add=["d"], remove=["a"]).report
    shown = report.to_dict()
    assert [row["old_name"] for row in shown["things"]["classes"]] == ["b", "c", None]
    assert shown["things"]["removed"] == ["a"]
    assert shown["tensors"] == {
        "roi_heads.box_predictor.cls_score.weight": [4, 4],
        "roi_heads.box_predictor.cls_score.bias": [4, 4],
        "roi_heads.box_predictor.bbox_pred.weight": [12, 12],
        "roi_heads.box_predictor.bbox_pred.bias": [12, 12],
    }
    assert len(shown["notes"]) == 2


def test_retinanet_has_a_key_of_its_own() -> None:
    model, cfg = small(META_ARCHITECTURE="RetinaNet")
    extended = extend_classes(model, cfg, THREE, add=["d"], reorder=["d", "c", "b", "a"])
    assert extended.cfg.MODEL.RETINANET.NUM_CLASSES == 4
    assert extended.cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    before, after = answer(model)["instances"], answer(extended.model)["instances"]
    assert len(before) > 0
    assert torch.equal(after.pred_classes, 3 - before.pred_classes)
    torch.testing.assert_close(after.scores, before.scores)
    removed = extend_classes(model, cfg, THREE, remove=["a"])
    assert any("own sigmoid" in note for note in removed.report.notes)


def test_things_and_stuff_of_a_panoptic_model() -> None:
    model, cfg = small(META_ARCHITECTURE="PanopticFPN", MASK_ON=True)
    stuff = ("things", "sky", "sea", "sand", "road")
    extended = extend_classes(
        model, cfg, THREE, stuff_names=stuff, stuff=ClassChanges(add=["snow"], remove=["sea"])
    )
    assert extended.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 5
    assert extended.class_names == THREE
    assert extended.stuff_names == ("things", "sky", "sand", "road", "snow")
    assert set(extended.report.plans) == {"stuff"}
    both = extend_classes(
        model, cfg, THREE, add=["d"], stuff_names=stuff, stuff=ClassChanges(add=["snow"])
    )
    assert (num_classes(both.model), num_classes(both.model, "stuff")) == (4, 6)  # type: ignore[arg-type]  # not None
    assert extend_classes(model, cfg, THREE, add=["d"], stuff_names=stuff).stuff_names == stuff


def test_names_of_stuff_that_does_not_change_are_checked_too() -> None:
    model, cfg = small(META_ARCHITECTURE="PanopticFPN", MASK_ON=True)
    with pytest.raises(ModelError, match=r"a list of 1, but .*MODEL\.SEM_SEG_HEAD\.NUM_CLASSES"):
        extend_classes(model, cfg, THREE, add=["d"], stuff_names=["things"])


@pytest.mark.parametrize(
    "changes",
    [
        ClassChanges(remove=["things"]),
        ClassChanges(reorder=["sky", "things", "sea", "sand", "road"]),
    ],
)
def test_the_stuff_that_stands_for_things_stays_first(changes: ClassChanges) -> None:
    model, cfg = small(META_ARCHITECTURE="PanopticFPN", MASK_ON=True)
    with pytest.raises(ModelError, match="stands for all things"):
        extend_classes(
            model, cfg, THREE, stuff_names=("things", "sky", "sea", "sand", "road"), stuff=changes
        )


def test_a_semantic_models_classes_are_its_stuff() -> None:
    model, cfg = small(META_ARCHITECTURE="SemanticSegmentor")
    extended = extend_classes(model, cfg, list("abcde"), add=["f"])
    assert extended.class_names == ("a", "b", "c", "d", "e", "f")
    assert extended.stuff_names == ()
    assert answer(extended.model)["sem_seg"].shape[0] == 6
    with pytest.raises(ModelError, match="has stuff alone"):
        extend_classes(model, cfg, list("abcde"), stuff=ClassChanges(add=["f"]))


def test_one_box_and_one_mask_for_all_stay() -> None:
    overrides = {
        "MASK_ON": True,
        "ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
        "ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True,
        "ROI_HEADS__NUM_CLASSES": 1,
    }
    model, cfg = small(**overrides)
    extended = extend_classes(model, cfg, ["a"], add=["b", "c"])
    assert {name.rpartition(".")[0] for name in extended.report.tensors} == {
        "roi_heads.box_predictor.cls_score"
    }


@pytest.mark.parametrize(
    "case",
    [
        "lazy__fcos_R_50_FPN_1x",
        "lazy__mask_rcnn_R_50_FPN_100ep_LSJ",
        "lazy__mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ",
        "COCO-Detection__faster_rcnn_R_50_C4_3x",
        "LVISv1-InstanceSegmentation__mask_rcnn_R_50_FPN_1x",
        "Misc__panoptic_fpn_R_101_dconv_cascade_gn_3x",
    ],
)
def test_every_form_of_config_makes_the_new_model(case: str, tmp_path: Path) -> None:
    """Shapes alone: the config that is written builds what the new tensors are of."""
    cfg = load_config(golden.GOLDEN / case / "config.yaml")
    with torch.device("meta"):
        model = build_model(cfg)
    count = class_tensors(model, masks_are_agnostic=masks_are_agnostic(cfg))[0].num_classes
    state = {k: torch.zeros(v.shape) for k, v in model.state_dict().items()}
    names = [f"c{i}" for i in range(count)]
    extended = extend_classes(state, cfg, names, add=["new"], remove=["c3", "c4"])
    dumped = tmp_path / "config.yaml"
    dumped.write_text(extended.cfg.dump())
    with torch.device("meta"):
        again = build_model(load_config(dumped))
    assert num_classes(again) == count - 1
    shapes = {name: tensor.shape for name, tensor in again.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in extended.state_dict.items()}


def test_thresholds_below_the_prior_keep_new_classes_out() -> None:
    model, cfg = small(ROI_HEADS__SCORE_THRESH_TEST=0.0001)
    extended = extend_classes(model, cfg, THREE, add=["d"])
    bias: Tensor = extended.state_dict["roi_heads.box_predictor.cls_score.bias"]
    assert float(bias[3] - bias[4]) == pytest.approx(np.log(0.00005), abs=1e-3)


def test_a_model_without_threshold_is_warned_of() -> None:
    model, cfg = small(ROI_HEADS__SCORE_THRESH_TEST=0.0)
    note = extend_classes(model, cfg, THREE, add=["d"]).report.notes[0]
    assert note.endswith("and the model's threshold is 0: train before serving.")


def test_more_names_than_classes() -> None:
    model, cfg = small()
    with pytest.raises(ModelError) as caught:
        extend_classes(model, cfg, SHAPES, add=["ring"])
    assert caught.value.message == (
        "The names of the things are a list of 4, but the model has 3 classes "
        "(MODEL.ROI_HEADS.NUM_CLASSES); give a list of one for each, in the order of the ids."
    )
    model, cfg = small(META_ARCHITECTURE="RetinaNet")
    with pytest.raises(ModelError, match=r"one text, but .*MODEL\.RETINANET\.NUM_CLASSES"):
        extend_classes(model, cfg, "abc", add=["ring"])


def test_a_config_of_another_number_of_classes(shapes_files: tuple[Path, Path]) -> None:
    config, weights = shapes_files
    cfg = load_config(config, ["MODEL.ROI_HEADS.NUM_CLASSES", 3])
    with pytest.raises(CheckpointError) as caught:
        extend_classes(weights, cfg, THREE, add=["ring"])
    assert "the file has 4 classes but MODEL.ROI_HEADS.NUM_CLASSES is 3" in caught.value.message
    with pytest.raises(CheckpointError, match="The model does not fit"):
        extend_classes(tiny_model(), cfg, THREE, add=["ring"])


def test_what_is_no_state_dict() -> None:
    with pytest.raises(CheckpointError, match="The state dict has epoch, which is no tensor"):
        extend_classes({"epoch": 3}, tiny_config(), THREE, add=["d"])


def test_torchvisions_detectors_are_left_alone(tmp_path: Path) -> None:
    model = detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    with pytest.raises(ModelError, match="a detector of torchvision's"):
        extend_classes(model.state_dict(), tiny_config(), THREE, add=["d"])


def test_a_proposal_network_has_nothing_to_extend() -> None:
    model, cfg = small(META_ARCHITECTURE="ProposalNetwork")
    with pytest.raises(ModelError, match="knows no classes"):
        extend_classes(model, cfg, ["object"], add=["d"])


def test_a_part_that_counts_for_itself_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone of somebody's own whose shape follows the number of classes."""
    plain = BACKBONE_REGISTRY.get("PlainPyramid")

    class Counting(plain):  # type: ignore[misc, valid-type]  # found by name
        def __init__(self, cfg: Config, input_shape: Any) -> None:
            super().__init__(cfg, input_shape)
            self.extra = torch.nn.Parameter(torch.zeros(cfg.MODEL.ROI_HEADS.NUM_CLASSES))

    monkeypatch.setitem(BACKBONE_REGISTRY._components, "Counting", Counting)
    model, cfg = small(BACKBONE__NAME="Counting")
    with pytest.raises(ModelError, match=r"the config makes backbone\.extra \[4\], not \[3\]"):
        extend_classes(model, cfg, THREE, add=["d"])
