"""detserve predict: a JSON and a picture for every image, and its exit codes."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from service.cli import predict as predict_command
from service.cli.main import app
from service.schemas.answers import InstancesAnswer
from service.settings import PRETRAINED

SAMPLES = sorted((PRETRAINED / "samples").glob("*.jpg"))


def predict(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", "--device", "cpu", *map(str, arguments)])


def test_two_samples_become_two_answers_and_two_pictures(tmp_path: Path) -> None:
    assert len(SAMPLES) == 2
    result = predict(*SAMPLES, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{sample.stem}.{kind}" for sample in SAMPLES for kind in ("json", "png")
    }
    for sample in SAMPLES:
        answer = json.loads((tmp_path / f"{sample.stem}.json").read_bytes())
        instances = InstancesAnswer.model_validate(answer["instances"])
        assert instances.masks is not None
        assert len(instances.scores) == len(instances.masks) > 0
        with Image.open(sample) as original, Image.open(tmp_path / f"{sample.stem}.png") as drawn:
            size = {"width": original.width, "height": original.height}
            assert answer["image"] == {"name": sample.name, "path": str(sample)} | size
            assert drawn.size == original.size
            assert list(drawn.convert("RGB").tobytes()) != list(original.convert("RGB").tobytes())


def test_a_broken_file_is_1_and_the_others_are_answered(tmp_path: Path) -> None:
    broken = tmp_path / "broken[red].jpg"
    broken.write_bytes(SAMPLES[0].read_bytes()[:200])
    good = tmp_path / "good[red].jpg"
    shutil.copy(SAMPLES[0], good)
    result = predict(broken, tmp_path / "missing.jpg", good, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "good[red].json",
        "good[red].png",
    }
    assert "broken[red].jpg: The JPEG image" in result.output
    assert "good[red].jpg: " in result.output
    assert "missing.jpg: No such file or directory" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--config", "config.yaml"], "--config needs --weights too"),
        (["--config", "no.yaml", "--weights", "no.pth"], "no.yaml"),
        (["--classes", "car"], "no class 'car'"),
        (["--score-threshold", "0.000001"], "below the model's own"),
        (["--score-threshold", "2"], "--score-threshold"),
    ],
)
def test_what_cannot_even_begin_is_2(tmp_path: Path, arguments: list[str], part: str) -> None:
    result = predict(SAMPLES[0], "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert part in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = predict(SAMPLES[0], "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be made" in result.output


def test_options_filter_as_over_http(tmp_path: Path) -> None:
    options = ["--max-detections", "1", "--classes", "0", "--classes", "star"]
    assert predict(SAMPLES[0], "--out", tmp_path, *options).exit_code == 0
    answer = json.loads((tmp_path / f"{SAMPLES[0].stem}.json").read_bytes())
    assert len(answer["instances"]["scores"]) <= 1


def test_a_folder_is_predicted_and_told_in_cocos_form(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    (shots / "deep").mkdir(parents=True)
    shutil.copy(SAMPLES[0], shots / "000017.jpg")
    shutil.copy(SAMPLES[1], shots / "deep" / "5.jpg")
    (shots / "notes.txt").touch()
    out, coco = tmp_path / "out", tmp_path / "new" / "results.json"
    result = predict(shots, "--out", out, "--coco", coco, "--recursive")
    assert result.exit_code == 0, result.output
    assert {path.stem for path in out.iterdir()} == {"000017", "5"}
    results = json.loads(coco.read_bytes())
    for image_id, stem in ((17, "000017"), (5, "5")):
        instances = json.loads((out / f"{stem}.json").read_bytes())["instances"]
        of_image = [found for found in results if found["image_id"] == image_id]
        assert [found["score"] for found in of_image] == instances["scores"]
        assert [found["segmentation"] for found in of_image] == instances["masks"]
    assert "image_id is the number in a file's name" in result.output


def test_coco_results_of_nothing_are_an_empty_list(tmp_path: Path) -> None:
    coco = tmp_path / "results.json"
    options = ["--out", tmp_path / "out", "--coco", coco, "--score-threshold", "1"]
    result = predict(SAMPLES[0], *options)
    assert result.exit_code == 0, result.output
    assert json.loads(coco.read_bytes()) == []


def test_a_folder_without_images_is_2(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    result = predict(tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--recursive" in result.output


def test_no_image_is_overwritten(tmp_path: Path) -> None:
    with Image.open(SAMPLES[0]) as image:
        image.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = predict(tmp_path, "--out", tmp_path)
    assert result.exit_code == 2
    assert "would overwrite" in result.output
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_coco_file_that_cannot_be_written_is_2(tmp_path: Path) -> None:
    result = predict(SAMPLES[0], "--out", tmp_path / "out", "--coco", tmp_path)
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_images_of_one_name_do_not_overwrite_each_other() -> None:
    paths = [Path(name) for name in ("a/x.jpg", "b/x.png", "x-2.jpg", "c/x.bmp")]
    assert predict_command._unique_stems(paths) == ["x", "x-2", "x-2-2", "x-3"]
