"""Loading a weights file into a model: every tensor fits, or nothing is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from models.checkpoints.diagnosis import diagnose
from models.checkpoints.fitting import Fit, fit
from models.checkpoints.reading import Checkpoint, read_checkpoint
from models.errors import CheckpointError

Require = Literal["all", "backbone"]


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    Attributes:
        file: name of the file.
        kind: what kind of file it is, as :class:`~models.checkpoints.Checkpoint` says.
        sha256: hexadecimal digest of the file.
        size_bytes: size of the file.
        tensors: how many tensors were copied into the model.
        parameters: how many numbers these are.
        ignored: tensors that the file or the model has alone and that do not matter.
        filled: running statistics that the file lacks because they are folded into its weights.
        iteration: the training step, where the file says so.
        uninitialised: the model's tensors that stayed as they were; none when all was required.
    """

    file: str
    kind: str
    sha256: str
    size_bytes: int
    tensors: int
    parameters: int
    ignored: tuple[str, ...]
    filled: tuple[str, ...]
    iteration: int | None
    uninitialised: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for a log."""
        parts = [self.kind, f"{self.size_bytes / 1e6:.1f} MB", f"sha256 {self.sha256[:12]}"]
        if self.iteration is not None:
            parts.append(f"iteration {self.iteration}")
        text = f"{self.file} ({', '.join(parts)}): loaded {self.tensors} tensors"
        text += f", {self.parameters / 1e6:.2f} M numbers"
        if self.ignored:
            text += f"; ignored {len(self.ignored)}"
        if self.filled:
            text += f"; {len(self.filled)} running statistics set to 0 and 1"
        if self.uninitialised:
            text += f"; {len(self.uninitialised)} of the model's tensors are not in the file"
        return text

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable data."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }


def load_checkpoint(model: nn.Module, path: str | Path, *, require: Require = "all") -> LoadReport:
    """Copies a file's tensors into the model, cast to the model's dtypes.

    Names and shapes must be equal on both sides, but for a few that never matter. Files with
    Caffe2's names, and those that ask for it (ImageNet backbones), are matched by suffix first.

    Args:
        model: what the file is loaded into.
        path: the file.
        require: "all" fills the whole model. "backbone" is for starting a training: the backbone
            has to be filled, the rest takes what fits by name and shape, and what the file does
            not fill stays as it is and is listed in :attr:`LoadReport.uninitialised`.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; lists what differs by module and
            names the config key that is likely wrong. The model is as it was before.
    """
    checkpoint = read_checkpoint(path)
    found = check_fit(model, checkpoint, Path(path).name, require=require)
    loaded = found.loadable
    _copy_(found, loaded, Path(path).name)
    differing = found.missing | found.unexpected | found.wrong_shape
    uninitialised = (found.missing | found.wrong_shape) - found.ignored
    return LoadReport(
        file=Path(path).name,
        kind=checkpoint.kind,
        sha256=checkpoint.sha256,
        size_bytes=checkpoint.size_bytes,
        tensors=len(loaded),
        parameters=sum(found.wanted[name].numel() for name in loaded),
        ignored=tuple(sorted(differing - uninitialised)),
        filled=found.filled,
        iteration=checkpoint.iteration,
        uninitialised=tuple(sorted(uninitialised)),
    )


def check_fit(
    model: nn.Module, checkpoint: Checkpoint, name: str, *, require: Require = "all"
) -> Fit:
    """How a file that was read fits a model, which stays as it is.

    Args:
        model, require: as in :func:`load_checkpoint`.
        checkpoint: what the file holds.
        name: the file's name, for messages.

    Raises:
        CheckpointError: it does not fit.
    """
    try:
        found = fit(model, checkpoint)
    except CheckpointError as error:
        message = f"{name} does not fit the model. {error.message}"
        raise CheckpointError(message, file=name, **error.details) from None
    if require == "backbone":
        if found.backbone_problems:
            raise _misfit(found, name, found.backbone | found.backbone_problems)
        return found
    if not found.problems:
        return found
    if found.only_backbone and checkpoint.matching_heuristics:
        missing = sorted(found.missing - found.ignored)
        raise CheckpointError(
            f"{name} is a backbone, not a detector: it has weights for the backbone and none for "
            f"the other {len(missing)} tensors of the model; nothing was loaded. Training starts "
            "from such a file; serve the checkpoint that training wrote, such as model_final.pth.",
            file=name,
            missing=missing,
        )
    raise _misfit(found, name, found.wanted.keys() | found.given.keys())


def _misfit(found: Fit, name: str, among: frozenset[str] | set[str]) -> CheckpointError:
    shown = among - found.ignored
    return diagnose(
        name,
        model={key: tuple(t.shape) for key, t in found.wanted.items() if key in shown},
        file={key: tuple(t.shape) for key, t in found.given.items() if key in shown},
    )


def _copy_(found: Fit, names: list[str], file: str) -> None:
    """Copies these tensors into the model, all of them or none.

    Raises:
        CheckpointError: a value is too large for the model's precision.
    """
    cast = {name: found.given[name].to(found.wanted[name].dtype) for name in names}
    overflown = [
        name
        for name in names
        if cast[name].dtype != found.given[name].dtype and not bool(cast[name].isfinite().all())
    ]
    if overflown:
        raise CheckpointError(
            f"{file} has weights too large for the model's precision, in {overflown[0]}.",
            overflown=overflown,
        )
    with torch.no_grad():
        for name in names:
            found.wanted[name].copy_(cast[name])
