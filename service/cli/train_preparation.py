"""From the options of ``detserve train`` to a config, data and weights that fit each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import zoo
from models.architectures import PanopticFPN, build_model
from models.classes import extend_classes, num_classes
from models.classes.config_keys import with_class_counts
from models.classes.tensors import class_tensors, main_part
from models.config import Config, load_config
from models.config.class_keys import main_classes_key, stuff_classes_key
from models.config.loading import with_overrides
from models.errors import ConfigError, ModelError
from models.evaluation import CocoDataset, SemanticDataset
from models.metadata import DatasetMetadata, metadata_for
from models.training.data.classes import read_label_map
from models.training.data.dataset import TrainingDataset
from models.training.data.lazy_dump import is_lazy_file
from models.training.lazy_solver import solver_of_lazy
from models.training.options import TrainingOptions
from models.training.saving import save_checkpoint
from models.training.schedule import with_scaled_learning_rate
from models.training.validation import ValidationSet
from service.cli.train_notes import notes_on
from service.cli.train_request import TrainRequest
from service.repository.labels import ClassNames
from service.repository.sidecars import with_sidecars

START = "start.pth"


@dataclass(frozen=True)
class Prepared:
    """What a :class:`models.training.Trainer` takes.

    Attributes:
        label_map: names of the data to names of the model.
        stuff_names: of a panoptic model's semantic head; () where nobody knows them.
        notes: what was changed or chosen, sentences.
    """

    cfg: Config
    train: TrainingDataset
    val: ValidationSet | None
    weights: Path | None
    options: TrainingOptions
    label_map: dict[str, str]
    stuff_names: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(request: TrainRequest, out: Path) -> Prepared:
    """Read everything and make it fit.

    Args:
        request: checked.
        out: folder of the run, which gets weights whose classes had to be rearranged.

    Raises:
        ModelError: with a sentence that says why not.
    """
    assert request.train is not None, "the request is checked"
    notes: list[str] = []
    cfg, source = _config(request, notes)
    cfg = _scheduled(cfg, request, notes)
    notes += notes_on(cfg, request)
    weights = _weights(request, cfg, source)
    label_map = {} if request.label_map is None else read_label_map(request.label_map)
    names, stuff_names = _model_names(request, cfg, source)
    if request.classes == "data":
        train = _load(request, None, label_map)
        cfg, weights = _with_classes_of(train, cfg, weights, names, out, notes)
    else:
        train = _load(request, names, label_map)
    val: ValidationSet | None = None
    if request.val_sem_seg is not None and request.val_images is not None:
        val = SemanticDataset.load(
            request.val_sem_seg, request.val_images, class_names=train.class_names
        )
    if request.val is not None:
        val = _with_names(CocoDataset.load(request.val, request.pictures_of_val()), label_map)
    options = TrainingOptions(
        seed=request.seed,
        learning_rates=request.learning_rates(),
        ema_decay=request.ema,
        eval_period=request.eval_period,
        checkpoint_period=request.checkpoint_period,
        best_by=request.best_by,
        patience=request.patience,
        large_scale_jitter=request.jitter_size(),
        colour_jitter=request.colour_jitter,
    )
    return Prepared(cfg, train, val, weights, options, label_map, stuff_names, tuple(notes))


def _load(
    request: TrainRequest, names: Sequence[str] | None, label_map: dict[str, str]
) -> TrainingDataset:
    assert request.train is not None, "the request is checked"
    return TrainingDataset.load(
        request.train,
        request.images,
        class_names=names,
        label_map=label_map,
        sem_seg=request.sem_seg,
    )


def _with_names(val: CocoDataset, label_map: Mapping[str, str]) -> CocoDataset:
    """The data set with the model's names; categories that become one are one."""
    named: dict[str, int] = {}
    numbers: dict[int, int] = {}
    for number, name in val.categories.items():
        numbers[number] = named.setdefault(label_map.get(name, name), number)
    return dataclasses.replace(
        val,
        categories={number: name for name, number in named.items()},
        annotations=tuple(
            {**annotation, "category_id": numbers[annotation["category_id"]]}
            for annotation in val.annotations
        ),
    )


def _config(request: TrainRequest, notes: list[str]) -> tuple[Config, Path | None]:
    """The config, and the file that it comes from if it is one."""
    if request.zoo is not None:
        return with_overrides(zoo.get(request.zoo).config(), request.overrides), None
    assert request.config is not None, "the request is checked"
    if not is_lazy_file(request.config):
        return load_config(request.config, request.overrides), request.config
    # Its solver is described in its own way, under other keys than those of the YAML configs.
    solver = solver_of_lazy(request.config)
    notes += solver.untold
    return load_config(request.config, [*solver.overrides(), *request.overrides]), request.config


def _scheduled(cfg: Config, request: TrainRequest, notes: list[str]) -> Config:
    """The config with the wanted batch and length, and what follows from them."""
    overridden = request.overrides[::2]
    batch = request.batch_size
    if batch is None and "SOLVER.IMS_PER_BATCH" in overridden:
        batch = cfg.SOLVER.IMS_PER_BATCH
        original = _config(_without(request, "SOLVER.IMS_PER_BATCH"), [])[0].SOLVER.IMS_PER_BATCH
        cfg = cfg.override("SOLVER.IMS_PER_BATCH", original)
    if batch is not None and batch != cfg.SOLVER.IMS_PER_BATCH:
        if "SOLVER.BASE_LR" in overridden:  # the operator has chosen
            cfg = cfg.override("SOLVER.IMS_PER_BATCH", batch)
        else:
            before = cfg.SOLVER
            cfg = with_scaled_learning_rate(cfg, batch)
            notes.append(
                f"The learning rate follows the batch: {before.BASE_LR:g} for {before.IMS_PER_BATCH} "
                f"pictures becomes {cfg.SOLVER.BASE_LR:g} for {batch}. SOLVER.BASE_LR sets it."
            )
    if request.iterations is not None:
        cfg = _with_length(cfg, request.iterations, overridden)
        notes.append(
            f"{request.iterations} iterations: the rate falls at {list(cfg.SOLVER.STEPS)}, after a "
            f"warm-up of {cfg.SOLVER.WARMUP_ITERS}."
        )
    return cfg


def _without(request: TrainRequest, key: str) -> TrainRequest:
    pairs = zip(request.overrides[::2], request.overrides[1::2], strict=True)
    kept = tuple(text for pair in pairs if pair[0] != key for text in pair)
    return dataclasses.replace(request, overrides=kept)


def _with_length(cfg: Config, iterations: int, overridden: Sequence[str]) -> Config:
    factor = iterations / cfg.SOLVER.MAX_ITER
    if "SOLVER.STEPS" not in overridden:
        steps = tuple(round(step * factor) for step in cfg.SOLVER.STEPS)
        cfg = cfg.override("SOLVER.STEPS", tuple(sorted({step for step in steps if step > 0})))
    if "SOLVER.WARMUP_ITERS" not in overridden:
        # A short training needs a warm-up all the same, but not one that never ends.
        warmup = min(cfg.SOLVER.WARMUP_ITERS, iterations // 10)
        cfg = cfg.override("SOLVER.WARMUP_ITERS", warmup)
    return cfg.override("SOLVER.MAX_ITER", iterations)


def _weights(request: TrainRequest, cfg: Config, source: Path | None) -> Path | None:
    if request.weights is not None:
        return Path(request.weights) if request.weights else None
    named: str = cfg.MODEL.WEIGHTS
    if not named:
        return None
    if "://" in named:
        raise ModelError(
            f"MODEL.WEIGHTS is {named}, which is not fetched. Fetch it (detserve download has the zoo's "
            'models) and give --weights FILE, or start at random with MODEL.WEIGHTS "".'
        )
    path = Path(named)
    return path if path.is_absolute() or source is None else source.parent / path


def _model_names(
    request: TrainRequest, cfg: Config, source: Path | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The names of the model's classes, None where nobody knows them; of a panoptic model also those of
    its stuff."""
    metadata = metadata_for(cfg)
    with torch.device("meta"):
        model = build_model(cfg)
    semantic = cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor"
    if isinstance(model, PanopticFPN) and source is not None:
        metadata = with_sidecars(
            metadata,
            source.parent,
            num_stuff_classes=num_classes(model, "stuff"),
            num_keypoints=0,  # those of the data are trained
            stuff_key=stuff_classes_key(cfg),
        )
    known = metadata if metadata is not None else DatasetMetadata("")
    found = ClassNames.find(
        request.labels,
        config=source,
        num_classes=num_classes(model),
        known=known.stuff_classes if semantic else known.thing_classes,
        source=known.source,
        key=main_classes_key(cfg),
    )
    stuff_names = known.stuff_classes if isinstance(model, PanopticFPN) else ()
    return None if found.source == "placeholder" else found.names, stuff_names


def _with_classes_of(
    train: TrainingDataset,
    cfg: Config,
    weights: Path | None,
    names: tuple[str, ...] | None,
    out: Path,
    notes: list[str],
) -> tuple[Config, Path | None]:
    """The model with the classes of the data; what it knows of them it keeps, found by name."""
    wanted = train.class_names
    if names == wanted:
        return cfg, weights
    common = [name for name in names or () if name in wanted]
    if weights is None or not common:
        notes.append(
            f"The model gets the {len(wanted)} classes of the data ({_listed(wanted)})"
            + (
                "; it knew none of them by name, so its last layers start at random."
                if weights
                else "."
            )
        )
        return _counted(cfg, len(wanted)), weights
    assert names is not None, "some are common"
    extended = extend_classes(
        weights,
        cfg,
        names,
        keep=common,
        add=[name for name in wanted if name not in common],
        reorder=wanted,
    )
    path = out / START
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, {"model": dict(extended.state_dict)})
    notes.append(
        f"The model gets the {len(wanted)} classes of the data ({_listed(wanted)}); it keeps what it "
        f"knows of {_listed(common)}."
    )
    if gone := [name for name in names if name not in wanted]:
        notes.append(
            f"It loses {_listed(gone)}, which the data does not have; detserve extend --add gives a model "
            "new classes beside its old ones."
        )
    return extended.cfg, path


def _counted(cfg: Config, count: int) -> Config:
    with torch.device("meta"):
        model: Any = build_model(cfg)
    tensors = class_tensors(model)
    if not tensors:
        raise ConfigError("A proposal network has no classes; leave --classes data out.")
    return with_class_counts(cfg, {main_part(tensors): count}, tensors)


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
