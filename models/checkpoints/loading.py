"""Loading a weights file into a model: every tensor fits, or nothing is loaded."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.checkpoints.diagnosis import diagnose
from models.checkpoints.reading import Checkpoint, read_checkpoint
from models.errors import CheckpointError

# Detectron2 versions differ in whether these are stored; the config and the model decide them.
_IGNORABLE = re.compile(
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked)$|(^|\.)anchor_generator\.cell_anchors\."
)


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
        return text

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable data."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }


def load_checkpoint(model: nn.Module, path: str | Path) -> LoadReport:
    """Copies a file's tensors into the model, cast to the model's dtypes.

    Names and shapes must be equal on both sides, but for a few that never matter.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; lists what differs by module and
            names the config key that is likely wrong. The model is as it was before.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    wanted: dict[str, torch.Tensor] = {
        name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    given = dict(checkpoint.state_dict)
    filled = _fill_statistics_(given, model, checkpoint)

    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    both = wanted.keys() & given.keys()
    wrong_shape = {name for name in both if wanted[name].shape != given[name].shape}
    ignored = {name for name in missing | unexpected | wrong_shape if _IGNORABLE.search(name)}
    if (missing | unexpected | wrong_shape) - ignored:
        raise diagnose(
            path.name,
            model=_shapes(wanted, ignored),
            file=_shapes(given, ignored),
            matching_heuristics=checkpoint.matching_heuristics,
        )

    loaded = sorted(both - ignored)
    cast = {name: given[name].to(wanted[name].dtype) for name in loaded}
    overflown = [
        name
        for name in loaded
        if cast[name].dtype != given[name].dtype and not bool(cast[name].isfinite().all())
    ]
    if overflown:
        raise CheckpointError(
            f"{path.name} has weights too large for the model's precision, in {overflown[0]}.",
            overflown=overflown,
        )
    with torch.no_grad():
        for name in loaded:
            wanted[name].copy_(cast[name])
    return LoadReport(
        file=path.name,
        kind=checkpoint.kind,
        sha256=checkpoint.sha256,
        size_bytes=checkpoint.size_bytes,
        tensors=len(loaded),
        parameters=sum(wanted[name].numel() for name in loaded),
        ignored=tuple(sorted(ignored)),
        filled=tuple(sorted(filled)),
        iteration=checkpoint.iteration,
    )


def _shapes(tensors: dict[str, torch.Tensor], without: set[str]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items() if name not in without}


def _fill_statistics_(
    given: dict[str, torch.Tensor], model: nn.Module, checkpoint: Checkpoint
) -> list[str]:
    """Adds the running statistics that old files fold into weight and bias; returns their names.

    A file that was trained with group norm has the same names and shapes, and must not pass for
    an old one. So statistics are only added when the file has none at all, is an array file (later
    trainers always store them) and nothing in the model says group norm.
    """
    array_file = checkpoint.kind == "model zoo .pkl" or checkpoint.matching_heuristics
    if not array_file or any(isinstance(module, nn.GroupNorm) for module in model.modules()):
        return []
    if any(name.endswith((".running_mean", ".running_var")) for name in given):
        return []
    filled = []
    for prefix, module in model.named_modules():
        if type(module).__name__ == "FrozenBatchNorm2d" and f"{prefix}.weight" in given:
            weight = given[f"{prefix}.weight"]
            given[f"{prefix}.running_mean"] = torch.zeros_like(weight)
            given[f"{prefix}.running_var"] = torch.ones_like(weight)
            filled += [f"{prefix}.running_mean", f"{prefix}.running_var"]
    return filled
