"""All that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.config import Config
from models.errors import CheckpointError
from models.training.data.dataset import TrainingDataset
from models.training.saving import save_checkpoint

LAST, BEST, FINAL = "last.pth", "model_best.pth", "model_final.pth"

# What may differ between the beginning of a training and its resumption.
_FREE_KEYS = ("OUTPUT_DIR", "VIS_PERIOD")
_EXACT_OPTIONS = (
    "seed",
    "learning_rates",
    "ema_decay",
    "large_scale_jitter",
    "colour_jitter",
    "augmentations",
)


@dataclass(frozen=True)
class Best:
    """The best evaluation so far: its figure and the iteration that it was measured after."""

    value: float
    iteration: int


@dataclass(frozen=True)
class RunState:
    """A training after some iterations.

    Attributes:
        iteration: how many are done.
        model: the state dict that is trained.
        trainer: of the optimiser, the scaler, the moving averages.
        ranks: for each process, in the order of ranks, what it alone has: the model's
            ``training_state`` and its part of the log.
        best: the best evaluation, None before the first.
        before: what was measured before the first iteration, as :meth:`Measurement.to_dict` gives it.
        identity: see :func:`identity_of`.
    """

    iteration: int
    model: dict[str, torch.Tensor]
    trainer: dict[str, Any]
    ranks: list[dict[str, Any]]
    best: Best | None
    before: dict[str, Any] | None
    identity: dict[str, str]

    def save(self, folder: Path) -> None:
        """Write ``last.pth``, whole or not at all; Detectron2 reads its weights.

        Raises:
            CheckpointError: it cannot be written.
        """
        best = None if self.best is None else [self.best.value, self.best.iteration]
        content = {
            "model": self.model,
            "iteration": self.iteration - 1,  # of the last one, from 0, as Detectron2 counts
            "trainer": self.trainer,
            "ranks": self.ranks,
            "best": best,
            "before": json.dumps(self.before),
            "identity": self.identity,
        }
        save_checkpoint(folder / LAST, content)

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """Read ``last.pth``.

        Raises:
            CheckpointError: it is not there, or no training wrote it.
        """
        path = folder / LAST
        if not path.is_file():
            raise CheckpointError(
                f"There is no {LAST} in {folder.name}: no training has saved anything there yet. Start "
                "one without --resume.",
                file=LAST,
            )
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            best = content["best"]
            return cls(
                iteration=content["iteration"] + 1,
                model=content["model"],
                trainer=content["trainer"],
                ranks=content["ranks"],
                best=None if best is None else Best(best[0], best[1]),
                before=json.loads(content["before"]),
                identity=content["identity"],
            )
        except Exception as error:  # torch.load raises whatever the bytes lead it to
            raise CheckpointError(
                f"{LAST} in {folder.name} cannot be resumed from: it is damaged or is no file of this "
                "trainer. To train further from some weights, start a new training with --weights.",
                file=LAST,
            ) from error


def identity_of(
    cfg: Config, dataset: TrainingDataset, options: Mapping[str, Any], world_size: int
) -> dict[str, str]:
    """What must be equal for a training to go on exactly, each with its digest or value."""
    values = cfg.to_dict()
    for key in _FREE_KEYS:
        values.pop(key, None)
    values["MODEL"] = {k: v for k, v in values["MODEL"].items() if k not in ("WEIGHTS", "DEVICE")}
    pictures = [
        (image.id, image.path.name, image.height, image.width, image.objects)
        for image in dataset.images
    ]
    exact = {name: options[name] for name in _EXACT_OPTIONS}
    return {
        "config": _digest(values),
        "data": _digest([dataset.class_names, pictures]),
        "options": _digest(exact),
        "processes": str(world_size),
    }


_MEANING = {
    "config": "the config is another one",
    "data": "the training data has changed",
    "options": "the seed, the EMA, the augmentation or the learning rates of parts are others",
    "processes": "the number of processes is another one",
}


def check_identity(state: RunState, identity: Mapping[str, str]) -> None:
    """Refuse to resume something else.

    Raises:
        CheckpointError: says what differs.
    """
    different = [text for key, text in _MEANING.items() if state.identity.get(key) != identity[key]]
    if different:
        raise CheckpointError(
            f"The training cannot be resumed as it was: {'; '.join(different)}. Undo that, or start a "
            "new training from its weights with --weights.",
            different=different,
        )


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
