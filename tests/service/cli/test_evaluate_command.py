"""detserve evaluate on the embedded model: the figures of Detectron2, the files, the exit codes."""

import json
import shutil
from pathlib import Path

import pytest
import typer
import yaml
from coco_ap import DATA
from typer.testing import CliRunner, Result

from service.cli.evaluate_command import evaluate
from service.settings import PRETRAINED

VAL = DATA / "val.json"
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DETSERVE_REPOSITORY", "DETSERVE_INFERENCE_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def run(out: Path, *arguments: str | Path) -> Result:
    options = ["--device", "cpu", "--out", str(out), *map(str, arguments)]
    return CliRunner().invoke(app, options)


def with_threshold(folder: Path, threshold: float) -> Path:
    """A copy of the embedded model that finds less."""
    folder.mkdir()
    for name in ("labels.txt", "model_final.pth"):
        shutil.copy(PRETRAINED / name, folder / name)
    content = yaml.safe_load((PRETRAINED / "config.yaml").read_text())
    content["MODEL"]["ROI_HEADS"]["SCORE_THRESH_TEST"] = threshold
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_a_model_of_detectron2s_has_detectron2s_ap(tmp_path: Path) -> None:
    result = run(tmp_path, "--model", DATA, "--data", VAL)
    assert result.exit_code == 0, result.output
    expected = json.loads((DATA / "metrics.json").read_text())["plain"]
    content = json.loads((tmp_path / "metrics.json").read_bytes())
    (measured,) = content["instances"]
    assert content["hints"] == []
    for kind in ("bbox", "segm"):
        figures = measured["result"]["figures"][kind]
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
            assert figures[name] == pytest.approx(expected[kind][name], abs=0.1)
        for name, of_class in measured["per_class"][kind].items():
            assert of_class["AP"] == pytest.approx(expected[kind][f"AP-{name}"], abs=0.1)
    assert "69.8" in result.output
    assert "65.2" in result.output

    results = json.loads((tmp_path / "results.json").read_bytes())
    assert len(results) == measured["result"]["detections"]
    assert {*results[0]} == {"image_id", "category_id", "score", "bbox", "segmentation"}
    report = (tmp_path / "report.html").read_text()
    assert report.count("<figure>") == 12
    assert "SHA-256" in report


def test_tta_is_measured_beside_the_plain_model(tmp_path: Path) -> None:
    result = run(tmp_path, "--data", VAL, "--tta", "both", "--max-images", "4", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [one["way"] for one in content["instances"]] == ["plain", "TTA full"]
    assert "curves" not in content["instances"][0]
    plain, tta = (one["result"]["detections"] for one in content["instances"])
    assert plain != tta
    assert (tmp_path / "results-tta-full.json").is_file()
    assert "boxes, TTA full" in (tmp_path / "report.html").read_text()


def test_a_higher_threshold_of_the_confusion_leaves_the_ap_as_it_is(tmp_path: Path) -> None:
    found = []
    for threshold in ("0.1", "0.9"):
        options = ["--data", VAL, "--max-images", "6", "--score-threshold", threshold, "--json"]
        found.append(json.loads(run(tmp_path, *options).stdout)["instances"][0])
    assert found[0]["result"] == found[1]["result"]
    assert found[0]["confusion"]["matrix"] != found[1]["confusion"]["matrix"]


def test_two_models_are_compared_picture_by_picture(tmp_path: Path) -> None:
    other = with_threshold(tmp_path / "strict", 0.97)
    result = run(tmp_path / "out", "--data", VAL, "--max-images", "8", "--against", other)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    comparison = content["against"]["comparison"]
    assert content["against"]["title"] == "strict"
    change = comparison["figures"]["bbox"]["AP"]
    assert change["after"] > change["before"]  # a threshold is no better model, but it shows as one
    assert comparison["better"] + comparison["worse"] + comparison["same"] == 8
    assert comparison["better"] > 0
    assert "Pictures against strict: " in result.output
    assert 'id="better"' in (tmp_path / "out" / "report.html").read_text()


def test_a_model_that_was_taught_less_misses_what_it_does_not_know(tmp_path: Path) -> None:
    content = json.loads(VAL.read_text())
    (star,) = (category for category in content["categories"] if category["name"] == "star")
    star["name"] = "ring"
    (tmp_path / "data.json").write_text(json.dumps(content))
    other = with_threshold(tmp_path / "rings", 0.05)
    (other / "labels.txt").write_text("disc\nrectangle\ntriangle\nring\n")
    data = ["--data", tmp_path / "data.json", "--images", DATA / "val", "--max-images", "8"]
    assert run(tmp_path / "out", *data).exit_code == 2  # alone it has to know them all
    result = run(tmp_path / "out", *data, "--against", other, "--json")
    assert result.exit_code == 0, result.output
    change = json.loads(result.stdout)["against"]["comparison"]["per_class"]["bbox"]["ring"]
    assert change["before"] > change["after"] == 0


def test_a_model_that_finds_nothing_gets_hints(tmp_path: Path) -> None:
    blind = with_threshold(tmp_path / "blind", 0.9999999)
    result = run(tmp_path / "out", "--data", VAL, "--max-images", "3", "--model", blind)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert content["instances"][0]["result"]["figures"]["bbox"]["AP"] == 0
    for part in (
        "Nothing was found in 3 pictures",
        "threshold",
        "Class names",
        "INPUT.FORMAT is BGR",
    ):
        assert any(part in hint for hint in content["hints"]), part
        assert part in result.output
    assert "Nothing was found in 3 pictures" in (tmp_path / "out" / "report.html").read_text()


def test_an_ap_below_the_least_is_1(tmp_path: Path) -> None:
    options = ["--data", VAL, "--max-images", "3"]
    assert run(tmp_path, *options, "--min-ap", "1").exit_code == 0
    result = run(tmp_path, *options, "--min-ap", "99.9")
    assert result.exit_code == 1
    assert "segm AP is " in result.output
    assert "at least 99.9 is required" in result.output
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "There is nothing to measure with: give --data"),
        (["--data", "no.json"], "no.json cannot be read"),
        (["--data", VAL, "--model", "nowhere"], "There is no file or folder nowhere"),
        (["--data", VAL, "--model", "m", "--url", "http://h"], "--model and --url exclude each"),
        (["--data", VAL, "--config", "c.yaml"], "--config needs --weights too"),
        (["--data", VAL, "--zoo", "x"], "--zoo needs --weights too"),
        (["--data", VAL, "--version", "2"], "name it with --url"),
        (["--data", VAL, "--mode", "wild"], "--mode is one of reference, exact, fast"),
        (["--data", VAL, "--tta", "sideways"], "Option tta cannot be 'sideways'"),
        (["--data", VAL, "--tta", "8"], "a short side is 32"),
        (["--data", VAL, "--against-version", "1"], "--against-version needs --against"),
        (["--data", VAL, "--against", "m", "--against-version", "1"], "is of a server"),
        (["--data", VAL, "--url", "ftp://x"], "is not the address of a server"),
        (["--semantic-data", DATA, "--min-ap", "5"], "--min-ap is about instances"),
        (["--semantic-data", DATA], "--semantic-data needs --images"),
        (["--semantic-data", DATA, "--images", DATA / "val"], "has no sem_seg"),
    ],
)
def test_what_cannot_be_measured_is_2(
    tmp_path: Path, arguments: list[str | Path], part: str
) -> None:
    if "has no sem_seg" in part:
        shutil.copy(PRETRAINED / "samples" / "shapes-1.jpg", tmp_path / "00000.jpg")
        labels = tmp_path / "labels"
        labels.mkdir()
        (labels / "00000.png").touch()
        arguments = ["--semantic-data", labels, "--images", tmp_path]
    result = run(tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert part in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_another_data_sets_classes_are_2_and_a_sentence(tmp_path: Path) -> None:
    content = json.loads(VAL.read_text())
    for category in content["categories"]:
        category["name"] = f"my {category['name']}"
    (tmp_path / "data.json").write_text(json.dumps(content))
    data = ["--data", tmp_path / "data.json", "--images", DATA / "val"]
    result = run(tmp_path / "out", *data)
    assert result.exit_code == 2
    assert "data.json has the categories my disc" in result.output
    assert "the model has the classes disc" in result.output


def test_a_folder_that_cannot_be_made_is_2_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path / "file", "--data", VAL)
    assert result.exit_code == 2
    assert "file cannot be written" in result.output
