"""``detserve check-data``: a report for people and programs, a sheet of samples, an exit code."""

import json
from pathlib import Path

import pytest
import typer
from training_files import TrainingFiles, paint
from typer.testing import CliRunner

from service.cli.check_data import check_data


@pytest.fixture
def files(tmp_path: Path) -> TrainingFiles:
    """A data set whose JSON is written."""
    files = TrainingFiles(tmp_path)
    paint(files.folder / "set" / "one.png", 1)
    paint(files.folder / "set" / "two.png", 2, size=(70, 50))
    files.read()
    return files


def run(*arguments: str | Path) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(check_data)
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


def test_the_report_and_the_sheet(files: TrainingFiles) -> None:
    out = files.folder / "out"
    code, output = run("--train", files.path, "--val", files.path, "--out", out)
    assert code == 0
    assert "cat │ 1 (1) │ 1 (1)" in output
    assert "warning [picture-in-both] set.json: Pictures are in the training set too" in output
    assert (out / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((out / "data-report.json").read_text())
    assert report["val"]["objects"] == 3


def test_errors_are_shown_and_end_with_1(files: TrainingFiles) -> None:
    files.first["bbox"] = [900, 10, 5, 5]
    files.read()
    code, output = run("--train", files.path, "--out", files.folder / "out", "--quick")
    assert code == 1
    assert (
        "error [box-outside] set.json: Boxes lie outside of their pictures. (1: annotation 0"
        in output
    )


def test_the_answer_for_programs(files: TrainingFiles) -> None:
    code, output = run("--train", files.path, "--out", files.folder / "out", "--json")
    assert code == 0
    assert json.loads(output)["train"]["instances"] == {"dog": 2, "cat": 1}


def test_classes_and_a_label_map_come_from_files(files: TrainingFiles) -> None:
    names, label_map = files.folder / "names.txt", files.folder / "map.yaml"
    names.write_text("animal\ncat\n")
    options = ("--train", files.path, "--out", files.folder / "out", "--classes", names)
    code, output = run(*options)
    assert code == 2
    assert "objects of the classes dog, which the model does not have" in output
    label_map.write_text("dog: animal\n")
    code, output = run(*options, "--label-map", label_map)
    assert code == 0
    assert "animal │ 2 (2)" in output


def test_the_config_is_compared(files: TrainingFiles) -> None:
    config = files.folder / "config.yaml"
    config.write_text("MODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 5\n")
    options = ("--train", files.path, "--out", files.folder / "out", "--config", config)
    code, output = run(*options)
    assert code == 1
    assert "MODEL.ROI_HEADS.NUM_CLASSES is 5" in output


def test_what_cannot_be_read_or_written_ends_with_2(files: TrainingFiles) -> None:
    code, output = run("--train", files.folder / "missing.json")
    assert code == 2
    assert "missing.json cannot be read" in output
    code, output = run("--train", files.path, "--out", files.path / "folder")
    assert code == 2
    assert "cannot be written" in output
