"""What ``detserve train`` was asked for, kept in the folder of the run so that it can be resumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ConfigError, ModelError
from models.training.saving import write_json
from service.repository.disk.names import check_name

FILE = "run.json"
CLASS_MODES = ("model", "data")

_PATHS = (
    "config",
    "train",
    "images",
    "val",
    "val_images",
    "val_sem_seg",
    "labels",
    "label_map",
    "teacher",
)
_MORE_PATHS = ("sem_seg", "repository", "out")


@dataclass(frozen=True)
class TrainRequest:
    """The options of ``detserve train`` that belong to the run and not to the machine.

    Attributes are named after the options; see :mod:`service.cli.train_command`.
    """

    config: Path | None
    zoo: str | None
    weights: str | None
    train: Path | None
    images: Path | None
    val: Path | None
    val_images: Path | None
    val_sem_seg: Path | None
    out: Path | None
    labels: Path | None
    label_map: Path | None
    classes: str
    iterations: int | None
    batch_size: int | None
    rates: tuple[str, ...]
    freeze: tuple[str, ...]
    ema: float | None
    teacher: Path | None
    teacher_threshold: float
    teach: tuple[str, ...]
    sem_seg: Path | None
    large_scale_jitter: str | None
    colour_jitter: float
    seed: int
    eval_period: int | None
    checkpoint_period: int | None
    best_by: str | None
    patience: int | None
    repository: Path | None
    name: str
    plugins: tuple[Path, ...]
    overrides: tuple[str, ...]

    def checked(self) -> TrainRequest:
        """The request with absolute paths, once it makes sense.

        Raises:
            ModelError: an option is missing or contradicts another.
        """
        if self.train is None:
            raise ModelError("Say what to learn from: --train data.json with --images FOLDER.")
        if self.out is None:
            raise ModelError("Say where the run goes: --out FOLDER.")
        if (self.config is None) == (self.zoo is None):
            raise ModelError("Name the model: either --config config.yaml or --zoo NAME.")
        if self.val_sem_seg is not None and (self.val is not None or self.val_images is None):
            raise ModelError(
                "--val-sem-seg goes with --val-images, the folder of its pictures, and without --val."
            )
        if not self.measures:
            for option, given in (
                ("--eval-period", self.eval_period),
                ("--best-by", self.best_by),
                ("--patience", self.patience),
            ):
                if given is not None:
                    raise ModelError(
                        f"{option} is about evaluations, and there are none without --val val.json (or "
                        "--val-sem-seg): pictures that are not learnt from."
                    )
        if self.repository is not None:  # else all of the training would pass before it is noticed
            check_name("model", self.name)
            if not self.repository.is_dir():
                raise ModelError(
                    f"There is no folder {self.repository} for --repository; make it first."
                )
        if self.teacher is None and self.teach:
            raise ModelError(
                "--teach names what the old model labels; --teacher FOLDER says which it is."
            )
        if self.classes not in CLASS_MODES:
            raise ModelError(f"--classes is one of {', '.join(CLASS_MODES)}, not {self.classes!r}.")
        absolute = {
            name: path.absolute()
            for name in (*_PATHS, *_MORE_PATHS)
            if (path := getattr(self, name)) is not None
        }
        weights = str(Path(self.weights).absolute()) if self.weights else self.weights
        plugins = tuple(path.absolute() for path in self.plugins)
        return dataclasses.replace(self, **absolute, weights=weights, plugins=plugins)

    @property
    def measures(self) -> bool:
        """Whether there is something to measure the model with."""
        return self.val is not None or self.val_sem_seg is not None

    def pictures_of_val(self) -> Path | None:
        """The folder of the validation pictures; None lets the reader find it beside the JSON.

        Those of training, unless a folder beside the JSON is named like it.
        """
        if self.val_images is not None or self.val is None:
            return self.val_images
        return None if self.val.with_suffix("").is_dir() else self.images

    def learning_rates(self) -> dict[str, float]:
        """``--rate`` and ``--freeze`` as factors by the beginning of parameters' names.

        Raises:
            ConfigError: one is not of the form PART=FACTOR, or a part is named twice.
        """
        factors: dict[str, float] = {}
        for text in (*self.rates, *(f"{part}=0" for part in self.freeze)):
            part, equals, number = text.rpartition("=")
            try:
                factor = float(number)
            except ValueError:
                equals, factor = "", 0.0
            if not equals or not part:
                raise ConfigError(f"--rate {text!r} is not of the form PART=FACTOR: backbone=0.1.")
            if part in factors:
                raise ConfigError(f"--rate or --freeze names {part!r} twice.")
            factors[part] = factor
        return factors

    def jitter_size(self) -> tuple[int, int] | None:
        """``--large-scale-jitter`` as (height, width).

        Raises:
            ConfigError: it is not of the form HEIGHTxWIDTH.
        """
        if self.large_scale_jitter is None:
            return None
        height, _, width = self.large_scale_jitter.partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise ConfigError(
                f"--large-scale-jitter {self.large_scale_jitter!r} is not of the form HEIGHTxWIDTH, "
                "such as 1024x1024."
            )
        return int(height), int(width)

    def save(self, folder: Path) -> None:
        """Write ``run.json``."""
        content = {
            key: _plain(value) for key, value in dataclasses.asdict(self).items() if key != "out"
        }
        write_json(folder / FILE, content)

    @classmethod
    def load(cls, folder: Path) -> TrainRequest:
        """Read ``run.json``.

        Raises:
            ModelError: the folder holds no run.
        """
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(**_with_paths(content), out=folder.absolute())
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(
                f"{folder} holds no run to resume: {FILE} is missing or damaged. A run begins with "
                "detserve train --out."
            ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _with_paths(content: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(content)
    for name in (*_PATHS, "sem_seg", "repository"):
        values[name] = None if values[name] is None else Path(values[name])
    values["plugins"] = tuple(Path(path) for path in values["plugins"])
    for name in ("rates", "freeze", "teach", "overrides"):
        values[name] = tuple(values[name])
    return values
