"""detserve and detserve serve: what they say, and with which code they end."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import Serve
from typer.testing import CliRunner, Result

from service import __version__
from service.cli import serve as serve_command
from service.cli.main import app
from service.settings import PRETRAINED, Settings


@pytest.fixture(autouse=True)
def _as_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings from around, and the logging of the process as it was."""
    for field in Settings.model_fields:
        monkeypatch.delenv(f"DETSERVE_{field.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def detserve(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_version_is_told_without_loading_pytorch() -> None:
    code = (
        "import sys, atexit; sys.argv = ['detserve', '--version'];"
        "atexit.register(lambda: print('torch' in sys.modules));"
        "from service.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(serve_command.__file__).parents[2],
    )
    assert done.stdout.split() == [__version__, "False"]


def test_without_a_command_the_commands_are_listed() -> None:
    output = detserve().output
    assert "serve" in output
    assert "predict" in output


def test_help_of_serve_lists_every_setting() -> None:
    result = detserve("serve", "--help")
    assert result.exit_code == 0
    for field in set(Settings.model_fields) - {"plugins"}:
        assert f"--{field.replace('_', '-')}" in result.output
    assert "--import" in result.output


def test_an_unknown_flag_is_2() -> None:
    result = detserve("serve", "--nope", "1")
    assert result.exit_code == 2
    assert "--nope" in result.output


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--port", "http"], "--port: "),
        (["--max_queue=0"], "--max-queue: "),
        (["--config", "config.yaml"], "--config needs --weights too"),
        (["--log-level", "loud"], "log-level"),
        (["--device", "cuda[/]:x"], "cuda[/]:x"),
    ],
)
def test_a_bad_value_is_2_with_the_name_of_its_flag(arguments: list[str], part: str) -> None:
    result = detserve("serve", *arguments)
    assert result.exit_code == 2
    assert part in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("config", "weights", "missing"),
    [
        ("nope[red].yaml", str(PRETRAINED / "model_final.pth"), "nope[red].yaml"),
        (str(PRETRAINED / "config.yaml"), "nope[red].pth", "nope[red].pth"),
    ],
)
def test_a_missing_file_is_1_with_one_sentence(config: str, weights: str, missing: str) -> None:
    result = detserve("serve", "--config", config, "--weights", weights, "--device", "cpu")
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert missing in lines[0]


def test_serve_hands_the_settings_on_and_drains_on_request(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve()
    given: dict[str, Any] = {}

    def run_server(app: Any, **options: Any) -> int:
        given.update(options, app=app)
        options["ready_banner"]("http://127.0.0.1:8123")
        options["on_drain"]()
        return 0

    monkeypatch.setattr(serve_command, "serve", run_server)
    monkeypatch.setattr(serve_command, "Runtime", lambda settings: served.runtime)
    monkeypatch.setattr(served.runtime, "load", lambda: None)
    assert (
        serve_command.run(["--port", "8123", "--drain-delay-s", "5", "--header-timeout-s=3"]) == 0
    )
    assert (given["port"], given["drain_delay_s"], given["head_timeout_s"]) == (8123, 5, 3)
    assert given["app"].state.runtime is served.runtime
    assert served.runtime.draining
    banner = capsys.readouterr().err
    assert "FakeRCNN, Fake-1 FPN, 4 classes, on cpu" in banner
    assert "http://127.0.0.1:8123/predict" in banner
