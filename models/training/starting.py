"""What a training starts from: a checkpoint that fits, but for the layers that must start anew."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.checkpoints.fitting import fit
from models.checkpoints.loading import load_checkpoint
from models.checkpoints.reading import read_checkpoint
from models.errors import CheckpointError

# What depends on the number of classes or of keypoints, so that another data set needs its own.
_LAST_LAYERS = re.compile(
    r"^roi_heads\.box_predictor\.(\d+\.)?(cls_score|bbox_pred)\.(weight|bias)$"
    r"|^roi_heads\.mask_head\.predictor\.(weight|bias)$"
    r"|^roi_heads\.keypoint_head\.score_lowres\.(weight|bias)$"
    r"|^head\.(cls_score|bbox_pred)\.(weight|bias)$"
    r"|^sem_seg_head\.predictor\.(weight|bias)$"
)
_SHOWN = 6


@dataclass(frozen=True)
class Start:
    """What was taken from a file.

    Attributes:
        file: its name.
        loaded: tensors that were taken.
        fresh: tensors of the model that the file does not fill, which start at random.
        left_out: tensors of the file that the model has no place for.
    """

    file: str
    loaded: int
    fresh: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def sentence(self) -> str:
        """For a log."""
        text = f"Starts from {self.file}: {self.loaded} tensors"
        if self.fresh:
            layers = {name.rpartition(".")[0] for name in self.fresh}
            text += f"; {len(layers)} layers start at random: {_listed(layers)}."
        else:
            text += ", all of the model."
        if self.left_out:
            parts = {".".join(name.split(".")[:2]) for name in self.left_out}
            text += f" The model has no place for the file's {_listed(parts)}."
        return text


def load_start(model: nn.Module, weights: Path) -> Start:
    """Fill ``model`` from ``weights``: a detector, or the backbone that most trainings start from.

    Of a detector everything must fit but the last layers, whose shape is the number of classes or of
    keypoints, and whole heads that the file does not have (masks for a detector of boxes). A head that
    the model does not have is left out.

    Raises:
        CheckpointError: the file cannot be read, or other layers differ, which a training would only
            hide: the config describes another model.
    """
    checkpoint = read_checkpoint(weights)
    found = fit(model, checkpoint)
    if found.wrong_shape and not found.only_backbone:
        other = sorted(name for name in found.wrong_shape if not _LAST_LAYERS.search(name))
        if other:
            given, wanted = found.given[other[0]].shape, found.wanted[other[0]].shape
            raise CheckpointError(
                f"{weights.name} is of another model than the config describes: {other[0]} is "
                f"{tuple(given)} there and {tuple(wanted)} here. Take the config that the checkpoint was "
                "trained with, and change its number of classes alone.",
                file=weights.name,
                wrong_shape=other,
            )
    torn = _partly_missing(found.missing - found.ignored, found.loadable)
    if torn and not found.only_backbone:
        raise CheckpointError(
            f"{weights.name} has only a part of {torn[0]}: {', '.join(torn[1][:_SHOWN])} is missing. "
            "Take the config that the checkpoint was trained with.",
            file=weights.name,
            missing=torn[1],
        )
    report = load_checkpoint(model, weights, require="backbone")
    left_out = tuple(sorted(found.unexpected - found.ignored))
    return Start(weights.name, report.tensors, report.uninitialised, left_out)


def frozen_at_random(model: nn.Module) -> str | None:
    """A sentence on what will stay at its random numbers, of a model without weights; None: nothing."""
    frozen = {
        name.rpartition(".")[0] for name, p in model.named_parameters() if not p.requires_grad
    }
    if not frozen:
        return None
    return (
        f"The model starts at random, and {len(frozen)} {'layer is' if len(frozen) == 1 else 'layers are'} "
        f"frozen so: {_listed(frozen)}. Let them learn (MODEL.BACKBONE.FREEZE_AT 0), or start from weights."
    )


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")


def _partly_missing(missing: frozenset[str], loadable: list[str]) -> tuple[str, list[str]] | None:
    """A head that the file has in parts, and what it lacks; last layers are no part."""
    present = {_head(name) for name in loadable}
    for name in sorted(missing):
        head = _head(name)
        if head in present and not _LAST_LAYERS.search(name):
            return head, sorted(other for other in missing if _head(other) == head)
    return None


def _head(name: str) -> str:
    """The part of a model that is there as a whole or not at all."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "roi_heads" else parts[0]


def plain_batch_norms(model: nn.Module) -> nn.Module:
    """``model`` with plain batch norm where it is synchronised: for one process the two are equal.

    PyTorch synchronises between GPUs alone, and its layer refuses a CPU.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            plain = nn.BatchNorm2d(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
            )
            plain.load_state_dict(child.state_dict())
            plain.train(child.training)
            setattr(model, name, plain)
        else:
            plain_batch_norms(child)
    return model


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Batch norms whose parameters do not learn: their statistics must not move either.

    Those move without any gradient, so a frozen part would change all the same.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.affine
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]


def finite(model: nn.Module) -> bool:
    """Whether every number of the model is finite."""
    tensors = [
        t for t in model.state_dict().values() if torch.is_tensor(t) and t.is_floating_point()
    ]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
