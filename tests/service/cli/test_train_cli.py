"""``detserve train``: what it writes, what it changes by itself, what it refuses and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from shapes_data import make_shapes
from tiny_training import CLASSES
from training_workshop import Workshop, refused, told
from typer.testing import CliRunner

from models import Predictor, load_config
from service.cli.main import app


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_a_training_leaves_a_model_a_report_and_pictures(workshop: Workshop) -> None:
    result = workshop.train("--val", str(workshop.folder / "val.json"), "--eval-period", "3")
    assert result.exit_code == 0, told(result)
    names = {entry.name for entry in workshop.run.iterdir()}
    assert names >= {
        *("config.yaml", "labels.txt", "model_final.pth", "last.pth", "run.json"),
        *("data.json", "samples.png", "metrics.jsonl", "classes.json", "losses.png", "ap.png"),
    }
    predictor = Predictor.from_files(
        workshop.run / "config.yaml", workshop.run / "model_final.pth", device="cpu"
    )
    assert predictor.report is not None
    assert "What was learnt" in told(result)


def test_key_value_pairs_change_the_config(workshop: Workshop) -> None:
    result = workshop.train("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "(1,)")
    assert result.exit_code == 0, told(result)
    cfg = load_config(workshop.run / "config.yaml")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (2, (1,))


def test_the_learning_rate_follows_the_batch_and_says_so(workshop: Workshop) -> None:
    result = workshop.train("SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1")
    assert "The learning rate follows the batch: 0.005 for 2 pictures becomes 0.0025" in told(
        result
    )
    assert pytest.approx(0.0025) == load_config(workshop.run / "config.yaml").SOLVER.BASE_LR


def test_a_chosen_learning_rate_stays(workshop: Workshop) -> None:
    workshop.train(
        *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.BASE_LR", "0.004", "SOLVER.MAX_ITER", "1")
    )
    assert load_config(workshop.run / "config.yaml").SOLVER.BASE_LR == 0.004


def test_another_length_keeps_the_shape_of_the_schedule(workshop: Workshop) -> None:
    result = workshop.train("--iterations", "3")
    assert "3 iterations" in told(result)
    solver = load_config(workshop.run / "config.yaml").SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (3, (2,), 0)


def test_a_second_training_does_not_overwrite_the_first(workshop: Workshop) -> None:
    assert workshop.train().exit_code == 0
    assert "holds a training already" in refused(workshop.train())


def test_a_run_is_resumed_by_its_folder_alone(workshop: Workshop) -> None:
    assert workshop.train().exit_code == 0
    (workshop.run / "model_final.pth").unlink()
    result = CliRunner().invoke(app, ["train", "--resume", str(workshop.run), "--device", "cpu"])
    assert result.exit_code == 0, told(result)
    assert "Resumes after iteration 6 of 6" in told(result)
    assert (workshop.run / "model_final.pth").is_file()


def test_resuming_nothing_says_so(workshop: Workshop) -> None:
    result = CliRunner().invoke(app, ["train", "--resume", str(workshop.folder)])
    assert "holds no run to resume" in refused(result)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--train", "x.json", "--out", "o"], "Name the model"),
        (["train", "--config", "c.yaml", "--out", "o"], "Say what to learn from"),
        (["train", "--config", "c.yaml", "--train", "x.json"], "Say where the run goes"),
        (["train", "--config", "c", "--zoo", "z", "--train", "x", "--out", "o"], "Name the model"),
    ],
)
def test_what_is_missing_is_asked_for(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(CliRunner().invoke(app, arguments))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--classes", "mine"], "--classes is one of"),
        (["--rate", "backbone"], "PART=FACTOR"),
        (["--rate", "backbone=0.1", "--freeze", "backbone"], "twice"),
        (["--freeze", "spine"], "spine"),
        (["--weights", "none.pth"], "none.pth"),
        (["SOLVER.MAX_ITERS", "3"], "Did you mean SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "keys and values in turn"),
        (["--large-scale-jitter", "big"], "HEIGHTxWIDTH"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(
    workshop: Workshop, more: list[str], sentence: str
) -> None:
    assert sentence in refused(workshop.train(*more))


def test_a_class_count_that_is_not_the_datas_is_refused(workshop: Workshop) -> None:
    workshop.write_config(MODEL__ROI_HEADS__NUM_CLASSES=80)
    sentence = refused(workshop.train())
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in sentence
    assert "80" in sentence
    assert not (workshop.run / "last.pth").exists()


def test_names_are_matched_and_not_numbers(workshop: Workshop) -> None:
    (workshop.folder / "labels.txt").write_text("star\ntriangle\nrectangle\ndisc\n")
    assert workshop.train("SOLVER.MAX_ITER", "1").exit_code == 0
    assert (workshop.run / "labels.txt").read_text().split() == [
        *("star", "triangle", "rectangle", "disc")
    ]


def test_a_class_that_the_model_does_not_have_is_named(workshop: Workshop) -> None:
    (workshop.folder / "labels.txt").write_text("disc\nrectangle\ntriangle\nsun\n")
    assert "star" in refused(workshop.train())


def test_a_label_map_says_which_is_which(workshop: Workshop) -> None:
    (workshop.folder / "labels.txt").write_text("disc\nrectangle\ntriangle\nsun\n")
    label_map = workshop.folder / "map.yaml"
    label_map.write_text("star: sun\n")
    result = workshop.train(
        *("--label-map", str(label_map), "--val", str(workshop.folder / "val.json")),
        *("SOLVER.MAX_ITER", "1"),
    )
    assert result.exit_code == 0, told(result)
    rows = json.loads((workshop.run / "classes.json").read_text())
    assert {row["class"] for row in rows} == {"disc", "rectangle", "triangle", "sun"}


def test_the_model_takes_the_classes_of_the_data_and_keeps_those_it_knows(
    workshop: Workshop,
) -> None:
    assert workshop.train(out="old").exit_code == 0
    make_shapes(6, workshop.folder, 5, "more", kinds=5, labelled=["ring", "disc"])
    workshop.config.write_text((workshop.folder / "old" / "config.yaml").read_text())
    (workshop.folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    result = workshop.train(
        *("--weights", str(workshop.folder / "old" / "model_final.pth"), "--classes", "data"),
        data="more.json",
    )
    assert result.exit_code == 0, told(result)
    assert "it keeps what it knows of disc" in told(result)
    assert load_config(workshop.run / "config.yaml").MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert (workshop.run / "labels.txt").read_text().split() == ["disc", "ring"]


def test_the_old_model_labels_what_the_data_does_not(workshop: Workshop) -> None:
    assert workshop.train(out="old").exit_code == 0
    make_shapes(6, workshop.folder, 5, "more", kinds=5, labelled=["ring"])
    extended = workshop.folder / "extended"
    done = CliRunner().invoke(
        app,
        [
            *("extend", "--weights", str(workshop.folder / "old" / "model_final.pth")),
            *("--add", "ring", "--out", str(extended)),
        ],
    )
    assert done.exit_code == 0, told(done)
    workshop.config.unlink()
    workshop.config = extended / "config.yaml"
    result = workshop.train(
        *("--teacher", str(workshop.folder / "old"), "--teacher-threshold", "0.05"),
        data="more.json",
    )
    assert result.exit_code == 0, told(result)
    kept = json.loads((workshop.run / "pseudo_labels.json").read_text())
    assert kept["classes"] == [*CLASSES, "ring"]
    taught = {found["class"] for some in kept["objects"].values() for found in some}
    assert taught
    assert taught <= {0, 1, 2, 3}


def test_a_repository_that_is_not_there_is_noticed_before_the_training(workshop: Workshop) -> None:
    sentence = refused(workshop.train("--repository", str(workshop.folder / "none")))
    assert "make it first" in sentence
    assert not workshop.run.exists()


def test_a_run_that_saved_nothing_yet_begins_anew(workshop: Workshop) -> None:
    assert workshop.train().exit_code == 0
    for name in ("last.pth", "model_final.pth"):
        (workshop.run / name).unlink()
    result = CliRunner().invoke(app, ["train", "--resume", str(workshop.run), "--device", "cpu"])
    assert result.exit_code == 0, told(result)
    assert "begins anew" in told(result)
    assert (workshop.run / "model_final.pth").is_file()


def test_a_missing_picture_is_found_before_the_first_step(workshop: Workshop) -> None:
    (workshop.folder / "train" / "00002.jpg").unlink()
    sentence = refused(workshop.train())
    assert "00002.jpg" in sentence
    assert not (workshop.run / "metrics.jsonl").exists()


def test_a_diverging_training_says_what_to_lower(workshop: Workshop) -> None:
    result = workshop.train(
        *("SOLVER.BASE_LR", "1e9", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "20")
    )
    assert result.exit_code == 1
    assert "SOLVER.BASE_LR" in told(result)


def test_the_model_becomes_a_version_of_a_repository(workshop: Workshop) -> None:
    root = workshop.folder / "repository"
    root.mkdir()
    result = workshop.train("--repository", str(root), "--name", "shapes")
    assert result.exit_code == 0, told(result)
    listed = CliRunner().invoke(app, ["models", "list", "--root", str(root)])
    assert "shapes" in told(listed)


def test_the_names_of_a_panoptic_models_stuff_go_on(workshop: Workshop) -> None:
    workshop.write_config(
        MODEL__META_ARCHITECTURE="PanopticFPN", MODEL__SEM_SEG_HEAD__NUM_CLASSES=3
    )
    (workshop.folder / "stuff_labels.txt").write_text("things\nsky\nsea\n")
    maps = workshop.folder / "maps"
    maps.mkdir()
    for picture in sorted((workshop.folder / "train").glob("*.jpg")):
        with Image.open(picture) as opened:
            Image.new("L", opened.size, 1).save(maps / f"{picture.stem}.png")
    result = workshop.train("--sem-seg", str(maps), "SOLVER.MAX_ITER", "1")
    assert result.exit_code == 0, told(result)
    assert (workshop.run / "stuff_labels.txt").read_text().split() == ["things", "sky", "sea"]
    (workshop.folder / "stuff_labels.txt").write_text("things\nsky\n")
    sentence = refused(workshop.train("--sem-seg", str(maps), out="other"))
    assert "2 names, but the model has 3 classes (MODEL.SEM_SEG_HEAD.NUM_CLASSES)" in sentence
