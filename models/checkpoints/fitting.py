"""Which tensors of a file go where in a model, and which stay over on either side."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from models.checkpoints.matching import match_by_suffix
from models.checkpoints.reading import Checkpoint

# Detectron2 versions differ in whether these are stored; the config, the model and (of a federated
# loss, which training alone needs) the data decide them.
_IGNORABLE = re.compile(
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked|fed_loss_cls_weights)$"
    r"|(^|\.)anchor_generator\.cell_anchors\."
)
# The classifier over ImageNet's classes; and a bias that old ResNet-50 files have before a norm.
_CLASSIFIER = re.compile(
    r"(stem\.)?(fc|fc1000|linear|pred|head\.fc)\.(weight|bias)|stem\.conv1\.bias"
)
# A stage of a residual network (res2), or of a RegNet (s1).
_STAGE = re.compile(r"(?:^|\.)(stem|res\d|s\d)\.")
# Offsets start at zero in a deformable convolution, so that it starts as the plain one it was.
_STARTS_AT_ZERO = re.compile(r"\.conv2_offset\.(weight|bias)$")


@dataclasses.dataclass(frozen=True)
class Fit:
    """A file laid over a model; names are the model's.

    Attributes:
        wanted: the model's own tensors.
        given: the file's tensors.
        missing: what only the model has.
        unexpected: what only the file has.
        wrong_shape: what both have in different shapes.
        ignored: those of the three sets above that never matter.
        filled: running statistics that were added to ``given``, since the file's weights hold them.
    """

    wanted: Mapping[str, torch.Tensor]
    given: Mapping[str, torch.Tensor]
    missing: frozenset[str]
    unexpected: frozenset[str]
    wrong_shape: frozenset[str]
    ignored: frozenset[str]
    filled: tuple[str, ...]

    @property
    def problems(self) -> frozenset[str]:
        """What keeps the file from filling the whole model."""
        return (self.missing | self.unexpected | self.wrong_shape) - self.ignored

    @property
    def loadable(self) -> list[str]:
        """What both have in equal shapes, sorted."""
        return sorted(self.wanted.keys() & self.given.keys() - self.wrong_shape - self.ignored)

    @property
    def backbone(self) -> frozenset[str]:
        """The model's tensors that an ImageNet backbone file holds."""
        bottom_up = _bottom_up(self.wanted)
        return frozenset(name for name in self.wanted if name.startswith(bottom_up))

    @property
    def backbone_problems(self) -> frozenset[str]:
        """What keeps the file from filling the model's backbone."""
        backbone = self.backbone
        stages = _stages(backbone)
        deeper = {name for name in self.unexpected if _stages([name]) & stages}
        lacking = {name for name in self.missing & backbone if not _STARTS_AT_ZERO.search(name)} | (
            self.wrong_shape & backbone
        )
        return frozenset((lacking | deeper) - self.ignored)

    @property
    def only_backbone(self) -> bool:
        """Whether the file has weights for the model's backbone and for nothing else in it."""
        loadable = frozenset(self.loadable)
        return bool(loadable) and loadable <= self.backbone and bool(self.missing - self.backbone)


def fit(model: nn.Module, checkpoint: Checkpoint) -> Fit:
    """Lay a file over a model; neither is changed.

    Raises:
        CheckpointError: the file asks for matching by suffix, and that is ambiguous.
    """
    wanted = {
        name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    given = dict(checkpoint.state_dict)
    if checkpoint.matching_heuristics:
        full_names = match_by_suffix(model=wanted, file=given)
        given = {
            full_names.get(name) or _likely_name(name, wanted): tensor
            for name, tensor in given.items()
        }
    filled = _fill_statistics_(given, model, checkpoint)
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    wrong_shape = {
        name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape
    }
    ignored = {name for name in missing | unexpected | wrong_shape if _IGNORABLE.search(name)}
    if checkpoint.matching_heuristics:
        ignored |= {name for name in unexpected if _CLASSIFIER.fullmatch(name)}
    return Fit(
        wanted=wanted,
        given=given,
        missing=frozenset(missing),
        unexpected=frozenset(unexpected),
        wrong_shape=frozenset(wrong_shape),
        ignored=frozenset(ignored),
        filled=tuple(sorted(filled)),
    )


def _bottom_up(names: Iterable[str]) -> tuple[str, ...]:
    """Prefixes of the residual network: below a pyramid, or with its last stage in the RoI heads."""
    if any(name.startswith("backbone.bottom_up.") for name in names):
        return ("backbone.bottom_up.",)
    return ("backbone.", "roi_heads.res5.")


def _likely_name(name: str, wanted: Iterable[str]) -> str:
    """What a short name that nothing takes would be in full, for messages that name modules."""
    if _STAGE.match(name) and not _CLASSIFIER.fullmatch(name):
        return _bottom_up(wanted)[0] + name
    return name


def _stages(names: Iterable[str]) -> set[str]:
    return {match[1] for name in names if (match := _STAGE.search(name))}


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
