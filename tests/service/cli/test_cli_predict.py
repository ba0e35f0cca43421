"""detserve predict: a JSON and a picture for every image, and its exit codes."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from small_models import write_small_model
from typer.testing import CliRunner, Result

from service.app import create_app
from service.cli import predict as predict_command
from service.cli.main import app
from service.runtime import Runtime
from service.schemas.answers import InstancesAnswer
from service.settings import PRETRAINED, Settings

SAMPLES = sorted((PRETRAINED / "samples").glob("*.jpg"))


def predict(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", "--device", "cpu", *map(str, arguments)])


def served(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a server on the embedded model answers to the first sample with these options."""

    async def ask(runtime: Runtime) -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(create_app(runtime))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = []
            for options in requests:
                files = {"images": SAMPLES[0].read_bytes()}
                response = await client.post("/predict", params=options, files=files, timeout=60)
                assert response.status_code == 200, response.text
                answers.append(response.json()["predictions"][0])
            return answers

    runtime = Runtime(Settings(_env_file=None, device="cpu"))
    try:
        runtime.load()
        return asyncio.run(ask(runtime))
    finally:
        runtime.close()


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
        (["--class-thresholds", "car:0.5"], "no class 'car'"),
        (["--class-thresholds", "disc"], "Option class_thresholds cannot be 'disc'"),
        (["--nms-threshold", "1.5"], "--nms-threshold"),
        (["--region", "5,5,1,1"], "Option region cannot be '5,5,1,1'"),
        (["--tiles", "8x8"], "the sides of a tile are 32"),
        (["--masks", "soft"], "Option masks cannot be 'soft'"),
        (["--boxes", "polar"], "Option boxes cannot be 'polar'"),
        (["--include", "keypoints", "--include", "names"], "Option include cannot be 'names'"),
        (["--coco", "results.json", "--boxes", "xywh"], "--coco needs --boxes xyxy"),
        (["--coco", "results.json", "--masks", "polygon"], "--coco needs --boxes xyxy"),
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


def test_answers_are_the_servers(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = [
        {"class_thresholds": "disc:0.99,star:0.5", "masks": "png"},
        {"nms_threshold": 0.9, "boxes": "xywh", "masks": "polygon", "include": "none"},
        {"region": "20,10,150,140", "boxes": "normalized", "masks": "none"},
        {"tiles": "96x96,32", "region": "0,0,200,161", "max_detections": 5},
    ]
    for number, (options, answer) in enumerate(zip(requests, served(requests), strict=True)):
        out = tmp_path / str(number)
        given = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        result = predict(SAMPLES[0], "--out", out, *given)
        assert result.exit_code == 0, result.output
        found = json.loads((out / f"{SAMPLES[0].stem}.json").read_bytes())
        assert found["instances"]["scores"]
        assert found["instances"] == answer["instances"]
        assert found.get("tiles") == answer.get("tiles")


def test_include_chooses_the_outputs(tmp_path: Path) -> None:
    config, weights = write_small_model("panoptic", tmp_path)
    assert config is not None
    model = ["--config", config, "--weights", weights, "--tiles", "96x96"]
    refused = predict(SAMPLES[0], "--out", tmp_path / "out", *model)
    assert refused.exit_code == 2
    assert "The panoptic maps of tiles cannot be put together" in refused.output
    chosen = ["--include", "sem_seg", "--include", "keypoints", "--no-pictures"]
    result = predict(SAMPLES[0], "--out", tmp_path / "out", *model, *chosen)
    assert result.exit_code == 0, result.output
    answer = json.loads((tmp_path / "out" / f"{SAMPLES[0].stem}.json").read_bytes())
    assert set(answer) == {"model", "image", "instances", "sem_seg", "tiles"}


def test_a_region_outside_is_an_error_of_that_image_alone(tmp_path: Path) -> None:
    sizes = {}
    for sample in SAMPLES:
        with Image.open(sample) as image:
            sizes[sample] = image.width
    small, large = sorted(SAMPLES, key=sizes.__getitem__)
    region = f"--region={sizes[small]},0,{sizes[large]},100"
    result = predict(small, large, "--out", tmp_path, region)
    assert result.exit_code == 1
    assert {path.name for path in tmp_path.iterdir()} == {f"{large.stem}.json", f"{large.stem}.png"}


def test_the_picture_shows_what_is_asked_for(tmp_path: Path) -> None:
    drawn = []
    for masks in ("rle", "none"):
        out = tmp_path / masks
        assert predict(SAMPLES[0], "--out", out, "--masks", masks).exit_code == 0
        with Image.open(out / f"{SAMPLES[0].stem}.png") as picture:
            drawn.append(picture.tobytes())
        answer = json.loads((out / f"{SAMPLES[0].stem}.json").read_bytes())
        assert ("masks" in answer["instances"]) == (masks == "rle")
    assert drawn[0] != drawn[1]


def test_without_pictures_there_are_answers_alone(tmp_path: Path) -> None:
    with Image.open(SAMPLES[0]) as image:
        image.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    result = predict(tmp_path, "--out", tmp_path, "--no-pictures")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.json"}
    assert (tmp_path / "a.png").read_bytes() == before
    assert ".png\n" not in result.output


def test_more_images_than_are_in_flight_are_told_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_command, "IN_FLIGHT", 2)
    shots = tmp_path / "shots"
    shots.mkdir()
    for number in range(5):
        shutil.copy(SAMPLES[number % 2], shots / f"{number}.jpg")
    (shots / "2.jpg").write_bytes(b"")
    coco = tmp_path / "results.json"
    result = predict(shots, "--out", tmp_path / "out", "--coco", coco, "--tiles", "auto")
    assert result.exit_code == 1
    assert {path.stem for path in (tmp_path / "out").iterdir()} == set("0134")
    order = [found["image_id"] for found in json.loads(coco.read_bytes())]
    assert order == sorted(order)
    assert set(order) == {0, 1, 3, 4}
    told = [line for line in result.output.splitlines() if line.startswith(str(shots))]
    assert [line.split(":")[0] for line in told] == [str(shots / f"{n}.jpg") for n in range(5)]


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
