"""A custom backbone and custom RoI heads in a file of the user's own, through the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from golden import GOLDEN
from live_server import live_server
from plugin_model import SCORE, write_plugin_model

from service.schemas.answers import PredictAnswer

SCENE = GOLDEN / "scene_a.png"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The plug-in, its config and its weights."""
    return write_plugin_model(tmp_path_factory.mktemp("plugin"))


def detserve(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_serve_answers_with_the_parts_of_a_plugin(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    plugin, config, weights = files
    with live_server(
        "--config", config, "--weights", weights, "--import", plugin, cwd=tmp_path
    ) as server:
        response = httpx.post(f"{server.url}/predict", content=SCENE.read_bytes(), timeout=60)
        reloaded = httpx.post(f"{server.url}/reload", json={}, timeout=60)
    assert response.status_code == 200, response.text
    found = PredictAnswer.model_validate(response.json()).predictions[0].instances
    assert found is not None
    assert set(found.scores) == {SCORE}
    assert reloaded.status_code == 200, reloaded.text


def test_predict_answers_with_the_parts_of_a_plugin(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    plugin, config, weights = files
    done = detserve(
        "predict", SCENE, "--config", config, "--weights", weights, "--import", plugin,
        "--out", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "out" / "scene_a.json").read_text())
    assert set(answer["instances"]["scores"]) == {SCORE}
    assert (tmp_path / "out" / "scene_a.png").is_file()


def test_without_the_plugin_its_parts_are_unknown(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, config, weights = files
    done = detserve("serve", "--config", config, "--weights", weights, cwd=tmp_path)
    assert done.returncode == 1
    assert "PluginBackbone" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "code"), [(("serve",), 1), (("predict", SCENE), 2)])
def test_a_broken_plugin_is_told_in_one_sentence(
    tmp_path: Path, command: tuple[str | Path, ...], code: int
) -> None:
    (tmp_path / "broken.py").write_text("def broken(:\n")
    done = detserve(*command, "--import", "broken.py", cwd=tmp_path)
    assert done.returncode == code
    [sentence] = [line for line in done.stderr.splitlines() if line.strip()]
    assert sentence.startswith("error: --import broken.py: SyntaxError: ")
