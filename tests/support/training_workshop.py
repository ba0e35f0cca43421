"""A folder with a config, data to learn from and data to judge by, and ``detserve`` run on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_training import tiny_shapes, tiny_training_config
from typer.testing import CliRunner, Result

from service.cli.main import app


class Workshop:
    """``base.yaml``, ``train.json`` with six pictures of shapes and ``val.json`` with two."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "base.yaml"
        self.write_config()
        tiny_shapes(folder)
        tiny_shapes(folder, 2, seed=2, name="val")

    def write_config(self, **changes: Any) -> None:
        """The config with changes; keys have ``__`` for ``.``."""
        keys = {key.replace("__", "."): value for key, value in changes.items()}
        self.config.write_text(tiny_training_config(keys).dump())

    def train(self, *more: object, out: str = "run", data: str = "train.json") -> Result:
        """``detserve train`` with further arguments."""
        return detserve(
            *("train", "--config", self.config, "--train", self.folder / data),
            *("--out", self.folder / out, "--device", "cpu", *more),
        )

    def change(self, name: str, change: Any) -> None:
        """Let ``change`` change the content of a COCO file."""
        path = self.folder / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    @property
    def run(self) -> Path:
        """Where a training goes."""
        return self.folder / "run"


def detserve(*arguments: object) -> Result:
    """``detserve`` with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(result: Result) -> str:
    """All that was printed, in one line."""
    return " ".join((result.output + result.stderr).split())


def done(result: Result) -> str:
    """What was printed by a command that succeeded."""
    assert result.exit_code == 0, told(result)
    return told(result)


def refused(result: Result) -> str:
    """What was printed by a command that refused, with a sentence and no traceback."""
    assert result.exit_code == 2, told(result)
    assert "Traceback" not in told(result)
    return told(result)
