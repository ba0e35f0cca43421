"""detserve bench from end to end: our own server on the embedded model, and the flags."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from service.bench import command
from service.bench.parsing import BenchOptions
from service.cli.main import app
from service.settings import Settings


def test_the_embedded_model_is_measured_and_its_server_ended(tmp_path: Path) -> None:
    names = {f"DETSERVE_{name.upper()}" for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    arguments = [
        "bench", "--concurrency", "2", "--rate", "20", "--requests", "6", "--warmup", "0",
        "--server-option", "threads=1", "--server-option", "device=cpu",
        "--option", "score_threshold=0.5", "--json", "out.json", "--svg", "out.svg",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(command.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "2 clients" in done.stdout
    document = json.loads((tmp_path / "out.json").read_text())
    [target] = document["targets"]
    assert target["build"]["version"] == document["client"]["detserve"]
    assert target["models"][0]["arch"] == "GeneralizedRCNN"
    assert target["first_answer"]["instances"] > 0
    for level in target["levels"]:
        assert level["requests"] == {"ok": 6, "refused": 0, "errors": 0, "unsent": 0}
        server = level["server"]
        assert set(server["stages_ms_per_image"]) >= {"decode", "queue", "inference", "encode"}
        assert sum(server["batch_size"]["histogram"].values()) > 0
        assert server["cpu_ms_per_image"] > 0
        assert 0 < server["rss_bytes"] <= server["peak_bytes"]
    assert ElementTree.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")


def test_help_lists_every_flag() -> None:
    result = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    for flag in ("--config", "--rate", "--max-outstanding", "--server-option", "--pid", "--svg"):
        assert flag in result.output


def test_each_flag_says_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[BenchOptions] = []

    def run(options: BenchOptions) -> int:
        given.append(options)
        return 7

    monkeypatch.setattr(command, "run", run)
    arguments = (
        "http://a http://b --config c --zoo z --weights w --server-option o=1 --concurrency 1 "
        "--rate 2 --arrivals uniform --max-outstanding 3 --duration 4 --requests 5 --warmup 6 "
        "--rounds 7 --timeout 8 --images i --sizes s --option p=1 --body raw --path /p --field f "
        "--header h:1 --name n --pid 9 --seed 10 --json j --svg v"
    )
    result = CliRunner().invoke(app, ["bench", *arguments.split()])
    assert result.exit_code == 7
    assert given == [
        BenchOptions(
            urls=["http://a", "http://b"],
            config=Path("c"),
            zoo="z",
            weights=Path("w"),
            server_options=["o=1"],
            concurrency="1",
            rate="2",
            arrivals="uniform",
            max_outstanding=3,
            duration_s=4.0,
            requests=5,
            warmup_s=6.0,
            rounds=7,
            timeout_s=8.0,
            images=[Path("i")],
            sizes="s",
            options=["p=1"],
            bodies=["raw"],
            paths=["/p"],
            fields=["f"],
            headers=["h:1"],
            names=["n"],
            pids=[9],
            seed=10,
            json=Path("j"),
            svg=Path("v"),
        )
    ]


def test_without_flags_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[BenchOptions] = []
    monkeypatch.setattr(command, "run", lambda options: given.append(options) or 0)
    assert CliRunner().invoke(app, ["bench"]).exit_code == 0
    assert given == [BenchOptions(urls=[], server_options=[], images=[], options=[], bodies=[],
                                  paths=[], fields=[], headers=[], names=[], pids=[])]  # fmt: skip
