"""What people get wrong when they train Detectron2 models on data of their own, by the mistakes that its
issues are full of: the sentence that they get here, or that it simply works."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes_data import make_shapes
from tiny_training import CLASSES, tiny_train_set, tiny_training_config
from training_workshop import Workshop, detserve, done, refused, told

from models import ConfigError, load_config
from models.training import Trainer
from models.training.data.dataset import TrainingDataset
from service.inference.loading import load_torch_detector

SHAPES = Path(__file__).parents[1] / "data" / "shapes"
RETINANET = {"MODEL__META_ARCHITECTURE": "RetinaNet", "MODEL__MASK_ON": False}
ONCE = ("SOLVER.MAX_ITER", "1")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """One whose training is done; tests leave it as it is."""
    workshop = Workshop(tmp_path_factory.mktemp("trained"))
    done(workshop.train("--val", workshop.folder / "val.json", "--eval-period", 3))
    return workshop


def predict(workshop: Workshop, config: Path, out: Path, *more: object) -> Any:
    """``detserve predict`` of a picture with the trained weights."""
    return detserve(
        *("predict", workshop.folder / "val" / "00000.jpg", "--out", out, "--device", "cpu"),
        *("--config", config, "--weights", workshop.run / "model_final.pth", *more),
    )


def evaluate(workshop: Workshop, model: Path, out: Path, *more: object) -> Any:
    """``detserve evaluate`` of a folder on the validation set."""
    return detserve(
        *("evaluate", "--model", model, "--data", workshop.folder / "val.json"),
        *("--out", out, "--device", "cpu", *more),
    )


def copy_of_run(trained: Workshop, folder: Path, **changes: Any) -> Path:
    """The trained model with other values in its config."""
    shutil.copytree(trained.run, folder)
    overrides = [text for key, value in changes.items() for text in (key.replace("__", "."), value)]
    cfg = load_config(folder / "config.yaml", overrides)
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


# NUM_CLASSES not set, or set for training alone (#1559, #1745, #4159, #2895, #2840, #1354)


def test_a_config_for_80_classes_and_data_of_4(workshop: Workshop) -> None:
    workshop.write_config(MODEL__ROI_HEADS__NUM_CLASSES=80)
    sentence = refused(workshop.train())
    assert "The data has 4 classes (disc, rectangle, triangle, star)" in sentence
    assert "Set MODEL.ROI_HEADS.NUM_CLASSES 4" in sentence


def test_a_retinanet_has_a_number_of_classes_of_its_own(workshop: Workshop) -> None:
    workshop.write_config(**RETINANET, MODEL__RETINANET__NUM_CLASSES=80)
    sentence = refused(workshop.train("MODEL.ROI_HEADS.NUM_CLASSES", 4))
    assert "MODEL.RETINANET.NUM_CLASSES is 80" in sentence
    assert "Set MODEL.RETINANET.NUM_CLASSES 4" in sentence


def test_a_number_of_classes_that_was_set_for_training_alone(
    trained: Workshop, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(load_config(trained.config, ["MODEL.ROI_HEADS.NUM_CLASSES", 80]).dump())
    sentence = refused(predict(trained, config, tmp_path / "out"))
    assert "nothing was loaded" in sentence
    assert "the file has 4 classes but MODEL.ROI_HEADS.NUM_CLASSES is 80" in sentence


# Wrong class names, or an index out of their range (#888, #790, #326, #1421, #1028, #2982)


def test_names_come_along_with_the_model(trained: Workshop, tmp_path: Path) -> None:
    assert (trained.run / "labels.txt").read_text().split() == list(CLASSES)
    done(predict(trained, trained.run / "config.yaml", tmp_path))
    found = json.loads((tmp_path / "00000.json").read_text())["instances"]
    assert found["class_names"]
    assert set(found["class_names"]) <= set(CLASSES)


def test_too_few_names(trained: Workshop, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("disc\nstar\n")
    config = trained.run / "config.yaml"
    sentence = refused(predict(trained, config, tmp_path / "out", "--labels", names))
    assert "names.txt has 2 names, but the model has 4 classes" in sentence
    assert "(MODEL.ROI_HEADS.NUM_CLASSES); give one name a line" in sentence


def test_too_few_names_for_a_retinanet(workshop: Workshop) -> None:
    workshop.write_config(**RETINANET, MODEL__RETINANET__NUM_CLASSES=4)
    (workshop.folder / "labels.txt").write_text("disc\nstar\n")
    assert "4 classes (MODEL.RETINANET.NUM_CLASSES)" in refused(workshop.train())


# Metadata conflicts: "thing_classes was already set" (#174, #5207, #4655, #1922, #814)


def test_two_data_sets_with_other_classes_in_one_process(tmp_path: Path) -> None:
    for name, kinds in (("first", ["disc", "star"]), ("second", ["ring", "disc", "star"])):
        folder = tmp_path / name
        data = make_shapes(4, folder, 3, "data", kinds=5, labelled=kinds)
        train = TrainingDataset.load(data)
        changes = {"MODEL.ROI_HEADS.NUM_CLASSES": len(kinds), "SOLVER.MAX_ITER": 1}
        Trainer(tiny_training_config(changes), train, output=folder, device="cpu").train()
        assert sorted((folder / "labels.txt").read_text().split()) == sorted(kinds)


# Category ids with gaps, or as many as classes: CUDA's device assert (#490, #534, #2365, #2373)


def test_category_ids_with_gaps(workshop: Workshop) -> None:
    def spread(content: dict[str, Any]) -> None:
        for entry in content["categories"]:
            entry["id"] = 90 - 10 * entry["id"]
        for annotation in content["annotations"]:
            annotation["category_id"] = 90 - 10 * annotation["category_id"]

    workshop.change("train.json", spread)
    output = done(workshop.train("--val", workshop.folder / "val.json", *ONCE))
    assert "have gaps; classes are matched by name, so nothing is to do" in output
    assert (workshop.run / "labels.txt").read_text().split() == list(reversed(CLASSES))


def test_an_object_of_a_category_that_is_not_there(workshop: Workshop) -> None:
    workshop.change("train.json", lambda content: content["annotations"][2].update(category_id=77))
    sentence = refused(workshop.train())
    assert "77" in sentence
    assert "categor" in sentence


# The threshold on the wrong key, ROI_HEADS against RETINANET (#52, #1591)


def test_a_threshold_on_the_wrong_key(
    workshop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_config(**RETINANET, MODEL__RETINANET__NUM_CLASSES=4)
    wrong = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.01)
    sentence = (
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.01 changes nothing: a RetinaNet reads "
        "MODEL.RETINANET.SCORE_THRESH_TEST, which is 0.05."
    )
    assert sentence in done(workshop.train(*wrong, *ONCE))
    caplog.set_level(logging.WARNING)
    done(predict(workshop, workshop.run / "config.yaml", tmp_path / "answers"))
    assert caplog.text.count(sentence) == 1
    done(evaluate(workshop, workshop.run, tmp_path / "evaluation"))
    assert caplog.text.count(sentence) == 2


def test_one_threshold_serves_all_architectures(workshop: Workshop, tmp_path: Path) -> None:
    workshop.write_config(**RETINANET, MODEL__RETINANET__NUM_CLASSES=4)
    done(workshop.train(*ONCE))
    config = workshop.run / "config.yaml"
    done(predict(workshop, config, tmp_path / "a", "--score-threshold", 0.3))
    below = predict(workshop, config, tmp_path / "b", "--score-threshold", 0.01)
    assert "Lower MODEL.RETINANET.SCORE_THRESH_TEST in its config" in refused(below)


# A threshold changes AP: evaluating with 0.5 (#3517)


def test_ap_is_measured_at_the_models_own_threshold(tmp_path: Path) -> None:
    aps = []
    for threshold in (0.5, 0.99):
        out = tmp_path / str(threshold)
        command = ("evaluate", "--data", SHAPES / "val.json", "--max-images", 2, "--device", "cpu")
        done(detserve(*command, "--out", out, "--score-threshold", threshold))
        measured = json.loads((out / "metrics.json").read_text())
        assert measured["ap_measured_above_score"] == 0.05
        aps.append(measured["instances"][0]["result"]["figures"]["bbox"]["AP"])
    assert aps[0] == aps[1] > 50


def test_a_model_with_a_high_threshold_of_its_own(trained: Workshop, tmp_path: Path) -> None:
    model = copy_of_run(trained, tmp_path / "high", MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.5)
    output = done(evaluate(trained, model, tmp_path / "evaluation"))
    assert "AP is measured above 0.5, the model's own score threshold" in output
    assert "Lower MODEL.ROI_HEADS.SCORE_THRESH_TEST" in output


def test_training_with_a_high_threshold(workshop: Workshop) -> None:
    output = done(
        workshop.train(
            *("--val", workshop.folder / "val.json", *ONCE),
            *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.7),
        )
    )
    assert "AP will be measured above MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.7" in output


# NaN: the learning rate for 16 pictures used with 2 (#1128, #1545, #5080)


def test_the_learning_rate_follows_the_batch(workshop: Workshop) -> None:
    output = done(workshop.train("SOLVER.IMS_PER_BATCH", 1, *ONCE))
    assert (
        "The learning rate follows the batch: 0.005 for 2 pictures becomes 0.0025 for 1" in output
    )


def test_a_learning_rate_for_16_pictures_with_2(workshop: Workshop) -> None:
    output = done(workshop.train("SOLVER.BASE_LR", 0.02, *ONCE))
    assert "SOLVER.BASE_LR 0.02 is 8 times what Detectron2's configs have for 2 pictures" in output
    assert "In proportion it is 0.0025." in output


def test_a_loss_that_is_not_finite(workshop: Workshop) -> None:
    result = workshop.train("SOLVER.BASE_LR", 1e9, "SOLVER.WARMUP_ITERS", 0, "--iterations", 20)
    assert result.exit_code == 1
    assert "NaN or infinite: the training has diverged. Lower SOLVER.BASE_LR" in told(result)
    assert "lengthen SOLVER.WARMUP_ITERS" in told(result)


# No detections after training (#2736, #1354, #4502)


def test_a_training_that_finds_nothing_says_where_to_look(workshop: Workshop) -> None:
    output = done(
        workshop.train(
            *("--val", workshop.folder / "val.json", *ONCE),
            *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.999),
        )
    )
    assert "Nothing was found in the 2 validation pictures above the model's score" in output
    assert "Did the losses fall (losses.png)" in output


def test_evaluation_says_what_the_checkpoint_filled(trained: Workshop, tmp_path: Path) -> None:
    model = copy_of_run(trained, tmp_path / "none", MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.999)
    output = done(evaluate(trained, model, tmp_path / "evaluation"))
    assert "Nothing was found in 2 pictures" in output
    assert "Checkpoint: it filled 20 tensors, all of the model's" in output


def test_layers_that_are_frozen_at_random(workshop: Workshop) -> None:
    output = done(workshop.train("--freeze", "backbone", *ONCE))
    assert "The model starts at random, and 1 layer is frozen so: backbone.conv." in output
    assert "MODEL.BACKBONE.FREEZE_AT 0" in output


# AP of 0, nan or -1, and a stale coco_format.json (#428, #607, #1122, #1215, #1482, #4271, #781)


def test_an_ap_of_minus_one_is_explained(trained: Workshop, tmp_path: Path) -> None:
    output = done(evaluate(trained, trained.run, tmp_path))
    assert "No instance of val.json is large (an area of 96x96 pixels or more)" in output
    assert "(COCO's own table says -1)" in output
    assert "val.json has no instance of triangle: their bbox figures are empty." in output
    report = (trained.run / "data.json").read_text()
    assert "they have no AP (COCO's evaluation says -1, Detectron2 nan)" in report


def test_a_validation_set_without_objects(workshop: Workshop) -> None:
    workshop.change("val.json", lambda content: content.update(annotations=[]))
    output = done(workshop.train("--val", workshop.folder / "val.json", *ONCE))
    assert "nothing to measure by: no object is annotated in it" in output


def test_nothing_of_a_data_set_is_cached(workshop: Workshop, tmp_path: Path) -> None:
    done(workshop.train(*ONCE))
    counts = []
    for keep in (4, 1):
        workshop.change("val.json", lambda c, n=keep: c.update(annotations=c["annotations"][:n]))
        done(evaluate(workshop, workshop.run, tmp_path / "evaluation"))
        measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
        counts.append(measured["instances"][0]["result"]["instances"])
    assert counts == [4, 1]


# Warnings of keys, "not used" and "not found" (#3292, #3313, #5412, #4172, #5153)


def test_what_starts_at_random_is_said(trained: Workshop, workshop: Workshop) -> None:
    make_shapes(4, workshop.folder, 5, "more", kinds=5, labelled=["ring"])
    output = done(
        workshop.train(
            *("--weights", trained.run / "model_final.pth", *ONCE),
            *("MODEL.ROI_HEADS.NUM_CLASSES", 1),
            data="more.json",
        )
    )
    assert "Starts from model_final.pth: 14 tensors; 3 layers start at random" in output
    assert "roi_heads.box_predictor.cls_score" in output


def test_what_the_model_has_no_place_for_is_said(trained: Workshop, workshop: Workshop) -> None:
    weights = ("--weights", trained.run / "model_final.pth")
    output = done(workshop.train(*weights, *ONCE, "MODEL.MASK_ON", False))
    assert "The model has no place for the file's roi_heads.mask_head." in output


def test_weights_of_another_model_are_refused(trained: Workshop, workshop: Workshop) -> None:
    weights = ("--weights", trained.run / "model_final.pth")
    sentence = refused(workshop.train(*weights, "MODEL.ROI_BOX_HEAD.FC_DIM", 32))
    assert "model_final.pth is of another model than the config describes" in sentence
    assert "Take the config that the checkpoint was trained with" in sentence


def test_what_does_not_fit_is_told_by_module(trained: Workshop, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(load_config(trained.config, ["MODEL.MASK_ON", False]).dump())
    sentence = refused(predict(trained, config, tmp_path / "out"))
    assert "the file has a mask head but MODEL.MASK_ON is False" in sentence
    assert "roi_heads.mask_head.predictor: 2 unexpected" in sentence


# Resuming taken for fine-tuning (#148, #2106, #2145)


def test_resuming_takes_no_other_options(trained: Workshop) -> None:
    more = ("--iterations", 10, "SOLVER.BASE_LR", 0.1)
    sentence = refused(detserve("train", "--resume", trained.run, *more))
    assert "KEY VALUE, --iterations would change nothing" in sentence
    assert f"detserve train --weights {trained.run / 'model_final.pth'}" in sentence


def test_a_folder_with_a_run_is_no_place_for_a_new_one(trained: Workshop) -> None:
    sentence = refused(trained.train())
    assert "holds a training already" in sentence
    assert "--resume" in sentence
    assert "take another --out for a new one" in sentence


def test_weights_of_a_run_begin_another_one(trained: Workshop, workshop: Workshop) -> None:
    output = done(workshop.train("--weights", trained.run / "last.pth", *ONCE))
    assert "Starts from last.pth: 20 tensors, all of the model." in output
    assert "Resumes" not in output


# New classes beside the old ones (#411, #1024, #2124, #2366, #1800, #2063)


def test_data_with_a_class_that_the_model_does_not_have(workshop: Workshop) -> None:
    (workshop.folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    make_shapes(4, workshop.folder, 5, "more", kinds=5, labelled=["ring", "disc"])
    sentence = refused(workshop.train(data="more.json"))
    assert "more.json has objects of the classes ring, which the model does not have" in sentence
    assert "detserve extend --add ring" in sentence


def test_classes_are_added_by_name_and_the_old_ones_stay(
    trained: Workshop, workshop: Workshop
) -> None:
    make_shapes(4, workshop.folder, 5, "more", kinds=5, labelled=["ring"])
    weights = trained.run / "model_final.pth"
    extended = workshop.folder / "extended"
    done(detserve("extend", "--weights", weights, "--add", "ring", "--out", extended))
    workshop.config = extended / "config.yaml"
    output = done(workshop.train(*ONCE, data="more.json"))
    assert "Starts from model_final.pth: 20 tensors, all of the model." in output
    assert "one that the model knew will be forgotten" in output  # by data of rings alone
    assert "let the old model label them (detserve train --teacher)" in output
    assert (workshop.run / "labels.txt").read_text().split() == [*CLASSES, "ring"]


def test_a_model_that_takes_the_datas_classes_loses_its_own(
    trained: Workshop, workshop: Workshop
) -> None:
    make_shapes(4, workshop.folder, 5, "more", kinds=5, labelled=["ring", "disc"])
    workshop.config = trained.run / "config.yaml"
    output = done(workshop.train("--classes", "data", *ONCE, data="more.json"))
    assert "it keeps what it knows of disc" in output
    assert (
        "It loses rectangle, triangle, star, which the data does not have; detserve ext" in output
    )


# Validation, early stopping, the best checkpoint (#1379, #645, #509, #671, #499, #569, #3180, #4290)


def test_the_best_checkpoint_is_kept(trained: Workshop) -> None:
    lines = (trained.run / "metrics.jsonl").read_text().splitlines()
    measured = [line["iteration"] for line in map(json.loads, lines) if "bbox/AP" in line]
    assert measured == [3, 6]
    best = torch.load(trained.run / "model_best.pth", weights_only=True)
    assert best["iteration"] + 1 in measured


def test_without_a_validation_set_nothing_is_measured(workshop: Workshop) -> None:
    output = done(workshop.train(*ONCE))
    assert "Nothing is measured without --val: there will be no AP, no model_best.pth" in output
    sentence = refused(workshop.train("--patience", 3, out="other"))
    assert "--patience is about evaluations, and there are none without --val" in sentence


# Pictures without objects (#80, #415, #4082, PR #4753, PR #4616)


@pytest.mark.parametrize("left_out", [True, False])
def test_pictures_without_objects(workshop: Workshop, left_out: bool) -> None:
    def empty(content: dict[str, Any]) -> None:
        first = content["images"][0]["id"]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] == first]

    workshop.change("train.json", empty)
    output = done(workshop.train("DATALOADER.FILTER_EMPTY_ANNOTATIONS", left_out))
    assert "note [picture-empty] train.json: Pictures have no object to learn. (5: " in output


def test_data_without_any_object(workshop: Workshop) -> None:
    workshop.change("train.json", lambda content: content.update(annotations=[]))
    assert "There is nothing to learn: no picture has an object." in refused(workshop.train())


# Masks as RLE and as polygons (#200, #408, #573, #1553, #2811, #4279, #4548)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_masks_of_both_kinds_in_one_file(workshop: Workshop, mask_format: str) -> None:
    def mix(content: dict[str, Any]) -> None:
        for annotation in content["annotations"][::2]:
            assert isinstance(annotation["segmentation"], dict)  # run lengths, as of all others
            x, y, width, height = annotation["bbox"]
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotation["segmentation"] = [corners]

    workshop.change("train.json", mix)
    output = done(workshop.train("INPUT.MASK_FORMAT", mask_format))
    assert ("either may be mixed and nothing is to do" in output) == (mask_format == "polygon")


# Keypoints of one's own: the flip map, OKS sigmas (#285, #694, #377, #1658, #4767, #4233)


def give_keypoints(workshop: Workshop, *names: str, **category: Any) -> None:
    """Keypoints in the middle of each object, and a config that learns so many."""

    def change(content: dict[str, Any]) -> None:
        for entry in content["categories"]:
            entry.update(keypoints=list(names), **category)
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["keypoints"] = [x + width / 2, y + height / 2, 2] * len(names)

    for name in ("train.json", "val.json"):
        workshop.change(name, change)
    workshop.write_config(
        MODEL__KEYPOINT_ON=True,
        MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=len(names),
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0,
    )


def test_keypoints_without_a_flip_map(workshop: Workshop) -> None:
    give_keypoints(workshop, "bow", "stern")
    sentence = refused(workshop.train())
    assert "nothing says which keypoints then swap (bow, stern)" in sentence
    assert 'Add "flip_map"' in sentence
    assert "set INPUT.RANDOM_FLIP none" in sentence


def test_another_number_of_keypoints_than_the_config(workshop: Workshop) -> None:
    give_keypoints(workshop, "left_end", "right_end")
    sentence = refused(workshop.train("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 17))
    assert "The data has 2 keypoints (left_end, right_end)" in sentence
    assert "Set MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS 2" in sentence


def test_another_number_of_sigmas_than_keypoints(workshop: Workshop) -> None:
    give_keypoints(workshop, "left_end", "right_end")
    sentence = refused(workshop.train("TEST.KEYPOINT_OKS_SIGMAS", "[0.1, 0.1, 0.1]"))
    assert "TEST.KEYPOINT_OKS_SIGMAS has 3 values for 2 keypoints" in sentence


def test_keypoints_of_ones_own_are_learnt_measured_and_served(workshop: Workshop) -> None:
    give_keypoints(workshop, "left_end", "right_end", skeleton=[[1, 2]])
    output = done(workshop.train("--val", workshop.folder / "val.json", *ONCE))
    assert "evaluation takes one value for all of them" in output
    assert "keypoints AP" in output
    files = {name: workshop.run / name for name in ("config.yaml", "model_final.pth")}
    detector = load_torch_detector(
        config=files["config.yaml"], weights=files["model_final.pth"], labels=None, device="cpu"
    )
    assert detector.description.keypoint_names == ("left_end", "right_end")
    assert detector.description.keypoint_skeleton == ((0, 1),)


def test_the_same_sentences_come_from_python(tmp_path: Path) -> None:
    cfg = tiny_training_config({"MODEL.ROI_HEADS.NUM_CLASSES": 80})
    with pytest.raises(ConfigError, match=r"Set MODEL\.ROI_HEADS\.NUM_CLASSES 4"):
        Trainer(cfg, tiny_train_set(tmp_path), output=tmp_path / "run", device="cpu")
