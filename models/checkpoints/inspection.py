"""What a weights file or a config is, and whether the two fit, without serving anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from models.checkpoints.loading import check_fit
from models.checkpoints.reading import Checkpoint, read_checkpoint
from models.checkpoints.recognition import ModelFacts, recognise
from models.config import Config
from models.config.lazy import target_name
from models.config.lazy_tags import LAZY_KEY
from models.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class CheckpointFacts:
    """A weights file.

    Attributes:
        file, kind, sha256, size_bytes, iteration: as :class:`~models.checkpoints.Checkpoint` has them.
        tensors: how many.
        parameters: how many numbers these are.
        dtypes: their types, sorted.
        model: what the tensors are of.
    """

    file: str
    kind: str
    sha256: str
    size_bytes: int
    iteration: int | None
    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    model: ModelFacts

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-serialisable data."""
        return {**dataclasses.asdict(self), "dtypes": list(self.dtypes)}


@dataclasses.dataclass(frozen=True)
class ConfigFacts:
    """A config.

    Attributes:
        meta_architecture, backbone, roi_heads, proposal_generator: what it names.
        depth, norm: of a ResNet; None if the config does not say.
        num_classes: classes of instances; None if it has none.
        num_stuff_classes: classes of the semantic head; None without one.
        num_keypoints: 0 without a keypoint head.
        masks: it predicts masks.
        input_format, min_size, max_size: what images become.
        score_threshold, nms_threshold, max_detections: of the answer; None for Detectron2's own.
        datasets: names of the data sets it was trained on.
        unknown_keys: keys that Detectron2 itself does not have.
    """

    meta_architecture: str
    backbone: str
    roi_heads: str
    proposal_generator: str
    depth: int | None
    norm: str | None
    num_classes: int | None
    num_stuff_classes: int | None
    num_keypoints: int
    masks: bool
    input_format: str
    min_size: int
    max_size: int
    score_threshold: float | None
    nms_threshold: float | None
    max_detections: int
    datasets: tuple[str, ...]
    unknown_keys: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-serialisable data."""
        values = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


@dataclasses.dataclass(frozen=True)
class FitFacts:
    """Whether a file fills a model.

    Attributes:
        fits: every tensor of the model is in the file and the other way round.
        message: why not, in words; empty if it fits.
        missing, unexpected: tensors that only the model, only the file has.
        wrong_shape: tensors of different shapes, as ``{"name", "model", "file"}``.
        ignored: tensors of one side that do not matter.
    """

    fits: bool
    message: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[dict[str, Any], ...]
    ignored: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON-serialisable data."""
        values = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def inspect_checkpoint(path: str | Path) -> CheckpointFacts:
    """What a weights file holds.

    Raises:
        CheckpointError: it cannot be read.
    """
    return describe_checkpoint(read_checkpoint(path), Path(path).name)


def describe_checkpoint(checkpoint: Checkpoint, name: str) -> CheckpointFacts:
    """As :func:`inspect_checkpoint`, for a file that was read."""
    tensors = checkpoint.state_dict.values()
    return CheckpointFacts(
        file=name,
        kind=checkpoint.kind,
        sha256=checkpoint.sha256,
        size_bytes=checkpoint.size_bytes,
        iteration=checkpoint.iteration,
        tensors=len(tensors),
        parameters=sum(tensor.numel() for tensor in tensors),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        model=recognise(checkpoint),
    )


def inspect_config(cfg: Config) -> ConfigFacts:
    """What a config describes."""
    model = cfg.MODEL
    architecture = model.META_ARCHITECTURE
    has_instances = architecture not in ("ProposalNetwork", "SemanticSegmentor")
    has_semantics = architecture in ("PanopticFPN", "SemanticSegmentor")
    is_dense = architecture in ("RetinaNet", "FCOS")
    section = model[architecture.upper()] if is_dense and architecture.upper() in model else None
    heads = section if section is not None else model.ROI_HEADS
    return ConfigFacts(
        meta_architecture=architecture,
        num_classes=heads.NUM_CLASSES if has_instances else None,
        num_stuff_classes=model.SEM_SEG_HEAD.NUM_CLASSES if has_semantics else None,
        num_keypoints=model.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS if model.KEYPOINT_ON else 0,
        masks=bool(model.MASK_ON),
        input_format=cfg.INPUT.FORMAT,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        datasets=tuple(cfg.DATASETS.TRAIN),
        unknown_keys=tuple(k for k in cfg.unknown_keys if not k.startswith(f"{LAZY_KEY}.")),
        **(
            _lazy_parts(cfg[LAZY_KEY])
            if LAZY_KEY in cfg
            else {
                "backbone": model.BACKBONE.NAME,
                "roi_heads": "" if is_dense else model.ROI_HEADS.NAME,
                "proposal_generator": "" if is_dense else model.PROPOSAL_GENERATOR.NAME,
                "depth": model.RESNETS.DEPTH,
                "norm": model.RESNETS.NORM,
                "score_threshold": float(heads.SCORE_THRESH_TEST),
                "nms_threshold": float(heads.NMS_THRESH_TEST),
            }
        ),
    )


def _lazy_parts(lazy: Config) -> dict[str, Any]:
    """What a config that was dumped from Python keeps in another place."""
    parts = {
        name: target_name(lazy[name].to_dict()) if name in lazy else ""
        for name in ("backbone", "roi_heads", "proposal_generator")
    }
    if "backbone.bottom_up" in lazy:
        parts["backbone"] += f" on {target_name(lazy['backbone.bottom_up'].to_dict())}"
    norm = lazy.get("backbone.bottom_up.norm") or lazy.get("backbone.bottom_up.stages.norm")
    predictor = lazy.get("roi_heads.box_predictor")
    thresholds = {}
    for name, key in (
        ("score_threshold", "test_score_thresh"),
        ("nms_threshold", "test_nms_thresh"),
    ):
        value = lazy.get(key)
        if value is None and isinstance(predictor, Config):
            value = predictor.get(key)
        thresholds[name] = float(value) if isinstance(value, int | float) else None
    return {
        **parts,
        **thresholds,
        "depth": lazy.get("backbone.bottom_up.stages.depth"),
        "norm": norm if isinstance(norm, str) else None,
    }


def inspect_fit(model: nn.Module, checkpoint: Checkpoint, name: str) -> FitFacts:
    """Whether a file that was read fills a model, which stays as it is.

    Args:
        model: what :func:`models.build_model` built.
        checkpoint: what the file holds.
        name: the file's name, for the message.
    """
    try:
        found = check_fit(model, checkpoint, name)
    except CheckpointError as error:
        details = error.details
        return FitFacts(
            fits=False,
            message=error.message,
            missing=tuple(details.get("missing", ())),
            unexpected=tuple(details.get("unexpected", ())),
            wrong_shape=tuple(details.get("wrong_shape", ())),
            ignored=(),
        )
    return FitFacts(
        fits=True,
        message="",
        missing=(),
        unexpected=(),
        wrong_shape=(),
        ignored=tuple(sorted(found.ignored)),
    )
