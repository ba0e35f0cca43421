"""Class surgery: a trained model gets, loses, renames or reorders classes, by name and without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures import PanopticFPN, build_model
from models.architectures.base import DetectionModel
from models.checkpoints.loading import check_fit
from models.checkpoints.reading import Checkpoint, read_checkpoint
from models.checkpoints.torchvision_files import detect_torchvision
from models.classes.changes import ClassChanges, ClassPlan, plan_classes
from models.classes.config_keys import class_key, masks_are_agnostic, with_class_counts
from models.classes.rows import rearranged, start_score
from models.classes.tensors import ClassTensor, Part, class_tensors, main_part, of_part
from models.config import Config
from models.errors import CheckpointError, ModelError

Weights = nn.Module | Mapping[str, Any] | str | Path

_DROPPED = (
    "The optimiser's state and the iteration of the old training are left behind: their shapes are the "
    "old classes'. Begin a new training from these weights instead of resuming the old one."
)


@dataclass(frozen=True)
class ExtensionReport:
    """What was done.

    Attributes:
        plans: of each part ("things", "stuff") that was changed, where its classes come from.
        tensors: name -> rows before and after, of the tensors that have other rows now.
        notes: sentences that a reader should know.
    """

    plans: Mapping[Part, ClassPlan]
    tensors: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable data."""
        return {
            **{part: plan.to_dict() for part, plan in self.plans.items()},
            "tensors": {name: list(rows) for name, rows in self.tensors.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class ExtendedModel:
    """The model with its new classes.

    Attributes:
        state_dict: all of its tensors by name. Those that no class has rows of are the old ones
            themselves where a state dict was given, copies where a model was.
        model: on the device and in the mode of the model that was given; None if none was.
        cfg: the config that it is built from.
        class_names: K' names, the index is the class id.
        stuff_names: of a panoptic model, the names of its semantic head's classes; () if unknown.
        report: what was done.
    """

    state_dict: dict[str, Tensor]
    model: nn.Module | None
    cfg: Config
    class_names: tuple[str, ...]
    stuff_names: tuple[str, ...]
    report: ExtensionReport


def extend_classes(
    weights: Weights,
    cfg: Config,
    class_names: Sequence[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    keep: Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    reorder: Sequence[str] | None = None,
    stuff_names: Sequence[str] = (),
    stuff: ClassChanges | None = None,
) -> ExtendedModel:
    """Change the classes of a trained model by name; what was given stays as it is.

    Kept classes take their rows with them, wherever they go. Scores, boxes and masks of the old
    classes are the same before and after, up to rounding in float32, unless classes are removed: in
    a softmax the others share what those had. New classes begin as :mod:`models.classes.rows` says:
    they do not answer until they are trained, and learn from the first step on.

    Args:
        weights: a model, its state dict, a checkpoint as ``torch.load`` gives it, or a weights file of
            any kind.
        cfg: the config that the model is built from.
        class_names: its K names, in the order of the ids; of a semantic model those of its stuff.
        add, remove, keep, rename, reorder: see :class:`ClassChanges`.
        stuff_names: of a panoptic model, the names of its semantic head's classes.
        stuff: changes of these; the first of them stands for all things and keeps its place.

    Raises:
        ConfigError, CheckpointError: the config cannot be built, or the weights do not fit it.
        ModelError: the model has no classes, the names do not fit it, or the changes make no sense;
            see :func:`models.classes.changes.plan_classes`.
    """
    described = _described(cfg)
    tensors = class_tensors(described, masks_are_agnostic=masks_are_agnostic(cfg))
    changes = ClassChanges(add, remove, keep, rename or {}, reorder)
    plans = _plans(described, tensors, class_names, changes, stuff_names, stuff)
    old, notes = _fitting(weights, described)
    changed = [tensor for tensor in tensors if tensor.part in plans]
    state = dict(old)
    for tensor in changed:
        state[tensor.name] = rearranged(old[tensor.name], tensor, plans[tensor.part].sources)
    counts = {part: len(plan.names) for part, plan in plans.items()}
    new_cfg = with_class_counts(cfg, counts, tensors)
    _check_result(state, new_cfg)
    main = main_part(tensors)
    names = {main: tuple(class_names)} | {part: plan.names for part, plan in plans.items()}
    return ExtendedModel(
        state_dict=state,
        model=_rebuilt(weights, new_cfg, state) if isinstance(weights, nn.Module) else None,
        cfg=new_cfg,
        class_names=names[main],
        stuff_names=() if main == "stuff" else names.get("stuff", tuple(stuff_names)),
        report=ExtensionReport(
            plans,
            {tensor.name: (len(old[tensor.name]), len(state[tensor.name])) for tensor in changed},
            (*notes, *_notes(plans, changed)),
        ),
    )


def _described(cfg: Config) -> nn.Module:
    """The model that ``cfg`` describes, without memory for its weights."""
    with torch.device("meta"):
        return build_model(cfg)


def _plans(
    model: nn.Module,
    tensors: Sequence[ClassTensor],
    class_names: Sequence[str],
    changes: ClassChanges,
    stuff_names: Sequence[str],
    stuff: ClassChanges | None,
) -> dict[Part, ClassPlan]:
    main = main_part(tensors)
    if (stuff or stuff_names) and main == "stuff":
        raise ModelError(
            "This model has stuff alone, so class_names are its stuff: change them with add, remove, "
            "rename and reorder themselves."
        )
    plans: dict[Part, ClassPlan] = {}
    _check_count(class_names, main, tensors)
    if changes or not stuff:
        plans[main] = plan_classes(class_names, changes)
    if stuff or stuff_names:
        _check_count(stuff_names, "stuff", tensors)
    if stuff:
        plans["stuff"] = plan = plan_classes(stuff_names, stuff)
        if isinstance(model, PanopticFPN) and plan.sources[0] != 0:
            raise ModelError(
                f"The first class of the stuff, {stuff_names[0]!r}, stands for all things in a panoptic "
                "model: it stays where it is and can only be renamed."
            )
    return plans


def _check_count(names: Sequence[str], part: Part, tensors: Sequence[ClassTensor]) -> None:
    count = of_part(tensors, part)[0].num_classes
    if isinstance(names, str) or len(names) != count:
        given = "one text" if isinstance(names, str) else f"a list of {len(names)}"
        raise ModelError(
            f"The names of the {part} are {given}, but the model has {count} classes "
            f"({class_key(part, tensors)}); give a list of one for each, in the order of the ids.",
            names=len(names),
            classes=count,
        )


def _fitting(weights: Weights, described: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by the model's names, every one of them, and what to say of those left behind."""
    notes = []
    if isinstance(weights, str | Path):
        checkpoint, name = read_checkpoint(weights), Path(weights).name
        if checkpoint.kind == "trainer .pth":
            notes.append(_DROPPED)
    else:
        name = "The state dict"
        if isinstance(weights, nn.Module):
            given: Mapping[str, Any] = weights.state_dict()
            name = "The model"
        elif isinstance(weights.get("model"), Mapping):
            given = weights["model"]
            if "optimizer" in weights:
                notes.append(_DROPPED)
        else:
            given = weights
        wrong = [key for key, value in given.items() if not isinstance(value, Tensor)]
        if wrong:
            raise CheckpointError(
                f"{name} has {wrong[0]}, which is no tensor. Give a state dict, or a checkpoint with "
                "one under 'model'."
            )
        checkpoint = Checkpoint(
            state_dict=dict(given),
            kind="PyTorch .pth",
            matching_heuristics=False,
            iteration=None,
            sha256="",
            size_bytes=0,
        )
    if detect_torchvision(checkpoint.state_dict) is not None:
        raise ModelError(
            f"{name} holds a detector of torchvision's, whose classes cannot be changed here. Change "
            "them in torchvision, or take a model of Detectron2's."
        )
    found = check_fit(described, checkpoint, name)
    wanted = found.wanted
    fitting = {
        key: tensor.detach()
        for key, tensor in found.given.items()
        if key in wanted and tensor.shape == wanted[key].shape
    }
    return fitting, notes


def _check_result(state: Mapping[str, Tensor], cfg: Config) -> None:
    """Hold the new tensors against the model that the new config describes."""
    wanted = {key: tensor.shape for key, tensor in _described(cfg).state_dict().items()}
    for key, tensor in state.items():
        if tensor.shape != wanted.get(key):
            raise ModelError(
                f"With the new number of classes the config makes {key} {list(wanted.get(key, ()))}, "
                f"not {list(tensor.shape)}: a part of this model that is not the library's own takes "
                "its number of classes from elsewhere. Change its classes where it is made.",
                tensor=key,
            )


def _rebuilt(old: nn.Module, cfg: Config, state: dict[str, Tensor]) -> nn.Module:
    """A model of its own with these tensors, which become copies in ``state`` too."""
    for key, tensor in state.items():
        state[key] = tensor.clone()
    model = build_model(cfg)
    missing, _ = model.load_state_dict(state, strict=False, assign=True)
    device = next(iter(state.values())).device
    model.to(device)
    if missing:  # of those that never matter: the new model has them from its config
        own = model.state_dict()
        state.update({key: own[key] for key in missing})
    if isinstance(old, DetectionModel) and isinstance(model, DetectionModel):
        model.load_training_state(old.training_state())
    return model.train(old.training)


def _notes(plans: Mapping[Part, ClassPlan], tensors: Sequence[ClassTensor]) -> list[str]:
    notes = []
    roles = {tensor.role: tensor for tensor in tensors}
    for part, plan in plans.items():
        if plan.removed:
            notes.append(_about_removed(part, plan, roles.keys()))
        if not plan.added:
            continue
        scores = next(
            (roles[role] for role in ("softmax", "sigmoid", "dense") if role in roles), None
        )
        if part == "stuff":
            notes.append("New stuff wins no pixel until it is trained.")
        elif scores is not None:
            notes.append(_about_added(plan, scores))
    return notes


def _about_removed(part: Part, plan: ClassPlan, roles: Any) -> str:
    if part == "stuff":
        return "Pixels of the removed stuff become what scored next."
    if "softmax" in roles:
        return (
            "Scores of the classes that stay can only rise: a softmax gives them and the background "
            "what the removed ones had."
        )
    return "Scores of the classes that stay do not change: each has its own sigmoid."


def _about_added(plan: ClassPlan, scores: ClassTensor) -> str:
    highest = start_score(scores, len(plan.added))
    text = f"Until they are trained, new classes have a probability of at most {highest:.2g}"
    if highest < scores.score_threshold:
        return f"{text}, so that none is found (the threshold is {scores.score_threshold:g})."
    return f"{text}, and the model's threshold is {scores.score_threshold:g}: train before serving."
