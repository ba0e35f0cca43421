"""A model whose config comes from the zoo: settings, serving, reloading, the command line."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from models import Config, ConfigError, load_config, zoo
from models.zoo import ZooModel
from service.cli.main import app
from service.repository.orders import Wanted, files
from service.repository.source import ModelSource
from service.runtime import Runtime
from service.settings import PRETRAINED, Settings

WEIGHTS = PRETRAINED / "model_final.pth"
SAMPLE = PRETRAINED / "samples" / "shapes-1.jpg"


class SmallModel(ZooModel):
    """The embedded model, as if it were one of the zoo."""

    def config(self) -> Config:
        return load_config(PRETRAINED / "config.yaml")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> ZooModel:
    model = SmallModel("Shapes/small", "Shapes/small.yaml", "GeneralizedRCNN", "", "", ())
    monkeypatch.setattr(zoo, "get", lambda name: {"small": model}[name])
    return model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zoo": "x", "weights": "w.pkl", "config": "c.yaml"}, "exclude each other"),
        ({"zoo": "x"}, "--zoo needs --weights too"),
        ({"config": "c.yaml"}, "--config needs --weights"),
    ],
)
def test_settings_that_name_no_whole_model_are_refused(
    values: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**values)


def test_a_zoo_model_is_served_and_reloaded(small: ZooModel) -> None:
    runtime = Runtime(Settings(zoo="small", weights=WEIGHTS, threads=1, device="cpu"))
    try:
        runtime.load()
        served = runtime.repository.get()
        assert served.name == "small"
        assert served.current.detector.description.config_file == "Shapes/small"
        assert served.current.detector.description.class_names[0] == "class_0"
        assert runtime.model_root == PRETRAINED.resolve()
        wanted = Wanted(runtime.model_root)
        source = served.shelf.candidate("1").source
        job = runtime.repository.start(served, "reload", lambda: files(served, source, wanted))
        assert job.finished.wait(60)
        assert (job.state, job.version, job.error) == ("succeeded", "2", None)
        other = ModelSource(PRETRAINED / "config.yaml", WEIGHTS)
        job = runtime.repository.start(served, "reload", lambda: files(served, other, wanted))
        assert job.finished.wait(60)
        assert served.current.detector.description.config_file == "config.yaml"
        assert served.current.detector.description.class_names[0] == "disc"
    finally:
        runtime.close()


def test_an_unknown_zoo_model_is_told_at_the_start() -> None:
    runtime = Runtime(Settings(zoo="mask_rcnn_R_50", weights=WEIGHTS, threads=1, device="cpu"))
    try:
        with pytest.raises(ConfigError, match="Did you mean"):
            runtime.load()
    finally:
        runtime.close()


def predict(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["predict", str(SAMPLE), *map(str, arguments)])
    return result.exit_code, " ".join(result.output.split())


def test_predict_takes_a_zoo_model(small: ZooModel, tmp_path: Path) -> None:
    labels = PRETRAINED / "labels.txt"
    code, output = predict(
        "--zoo", "small", "--weights", WEIGHTS, "--labels", labels, "--out", tmp_path
    )
    assert code == 0, output
    answer = json.loads((tmp_path / "shapes-1.json").read_text())
    assert "disc" in answer["instances"]["class_names"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--zoo", "x"), "--zoo needs --weights too"),
        (("--zoo", "x", "--config", "c", "--weights", "w"), "exclude each other"),
        (("--zoo", "mask_rcnn_R_50", "--weights", WEIGHTS), "Did you mean"),
        (("--zoo", "mask_rcnn_R_50_FPN_3x", "--weights", WEIGHTS), "error:"),
    ],
)
def test_predict_says_what_is_missing(arguments: tuple[str | Path, ...], message: str) -> None:
    code, output = predict(*arguments)
    assert code == 2
    assert message in output
