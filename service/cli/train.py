"""``detserve train``: looks at the data, trains, measures, and leaves a model that can be served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn
from rich.table import Table

from models.classes import num_classes
from models.config.class_keys import main_classes_key
from models.config.lazy_tags import LAZY_KEY
from models.errors import ModelError
from models.evaluation import EvaluationError
from models.predictor import Predictor
from models.sidecars import STUFF_LABELS
from models.training import Trainer, TrainingResult
from models.training.data.checks import check_data
from models.training.data.contact_sheet import write_contact_sheet
from models.training.data.dataset import TrainingDataset
from models.training.data.dumped_augmentation import dumped_augmentations
from models.training.data.lazy_dump import is_lazy_file
from models.training.data.mapper import Augmentations
from models.training.distributed import (
    World,
    process_group,
    training_device,
    world_from_environment,
)
from models.training.plots import plot_training
from models.training.progress import Progress
from models.training.pseudo_labels import PseudoLabels, pseudo_labels
from models.training.run_state import BEST, FINAL, LAST
from models.training.saving import write_json, write_text
from service.cli.check_data import show_report
from service.cli.models_offline import NewVersion, add
from service.cli.models_tables import TEXT, console, progress_bar
from service.cli.train_preparation import Prepared, prepare
from service.cli.train_request import TrainRequest
from service.errors import ApiError
from service.plugins import import_plugins, split_paths
from service.repository.labels import ClassNames

DONE, STOPPED, REFUSED = 0, 130, 2
"""Exit codes; a training that was stopped can be resumed."""
DIVERGED = 1

PSEUDO_LABELS = "pseudo_labels.json"


def start_run(
    request: TrainRequest, *, device: str, threads: int | None, workers: int | None
) -> int:
    """Begin a training; 0 when it is done, 130 when it was stopped, 1 if it diverged, 2 if refused."""
    with _told() as told:
        request = request.checked()
        assert request.out is not None, "the request is checked"
        if (request.out / LAST).exists():
            raise ModelError(
                f"{request.out} holds a training already. detserve train --resume {request.out} goes on "
                "with it; take another --out for a new one."
            )
        return _shared_run(request, request.out, device, threads, workers, resume=False)
    return told[0]


def resume_run(folder: Path, *, device: str, threads: int | None, workers: int | None) -> int:
    """Go on with a training; exit codes as of :func:`start_run`."""
    with _told() as told:
        request = TrainRequest.load(folder)
        resume = (folder / LAST).exists()
        if not resume:
            console(stderr=True).print("Nothing had been saved yet, so the run begins anew.")
        return _shared_run(request, folder, device, threads, workers, resume=resume)
    return told[0]


@contextmanager
def _told() -> Iterator[list[int]]:
    """Errors for the operator become one sentence; the exit code is in the list."""
    code = [REFUSED]
    try:
        yield code
    except FloatingPointError as error:
        code[0] = DIVERGED
        console(stderr=True).print(f"error: {error}", style="red", markup=False)
    except (ModelError, EvaluationError, ApiError) as error:
        console(stderr=True).print(f"error: {error}", style="red", markup=False)
    except torch.OutOfMemoryError:
        code[0] = DIVERGED
        console(stderr=True).print(
            "error: The device's memory is not enough. Lower --batch-size (the learning rate follows), "
            "INPUT.MIN_SIZE_TRAIN or INPUT.MAX_SIZE_TRAIN, or set SOLVER.AMP.ENABLED True. What was saved "
            "can be resumed with the same settings alone.",
            style="red",
        )
    except OSError as error:
        console(stderr=True).print(
            f"error: {error.filename or 'A file'} cannot be used: {error.strerror}.",
            style="red",
            markup=False,
        )
    except KeyboardInterrupt:
        code[0] = STOPPED
        console(stderr=True).print("Stopped at once; the last checkpoint can be resumed.")


def _shared_run(
    request: TrainRequest,
    out: Path,
    device: str,
    threads: int | None,
    workers: int | None,
    *,
    resume: bool,
) -> int:
    """The run, together with the other processes if torchrun has started several."""
    if threads is not None:
        torch.set_num_threads(threads)
    import_plugins(split_paths(request.plugins))
    world = world_from_environment()
    with process_group(world, training_device(device, world)):
        return _run(request, out, world, device, workers, resume=resume)


def _run(
    request: TrainRequest,
    out: Path,
    world: World,
    device: str,
    workers: int | None,
    *,
    resume: bool,
) -> int:
    shown = console(stderr=True)
    first = world.is_first
    out.mkdir(parents=True, exist_ok=True)
    prepared = prepare(request, out)
    train = prepared.train
    if first and not resume:
        _look_at_data(request, prepared, out, shown)
        request.save(out)
    if request.teacher is not None:
        file = out / PSEUDO_LABELS
        known = PseudoLabels.load(file) if resume else None
        if known is None and first:
            known = _taught(request, train, device)
            known.save(file)
        labels = world.from_first(known)
        assert labels is not None, "the first process has them"
        train = labels.on(train)
    if first and not resume:
        sheet = write_contact_sheet(train, out / "samples.png", seed=request.seed)
        shown.print(f"Samples of the data: {sheet}", markup=False)
        if prepared.stuff_names:
            stuff = "".join(f"{name}\n" for name in prepared.stuff_names)
            write_text(out / STUFF_LABELS, stuff)
    progress = Progress(
        prepared.cfg.SOLVER.MAX_ITER,
        0,
        batch_size=prepared.cfg.SOLVER.IMS_PER_BATCH,
        console=shown,
    )
    if first:
        for note in prepared.notes:
            progress.note(note)
    trainer = Trainer(
        prepared.cfg,
        train,
        prepared.val,
        output=out,
        weights=None if resume else prepared.weights,
        options=replace(prepared.options, workers=workers),
        device=device,
        augmentations=_augmentations(request, prepared),
        watcher=progress if first else None,
    )
    if resume:
        trainer.resume()
    with progress:
        result = trainer.train()
    return _finished(request, result, out, shown) if first else DONE


def _augmentations(request: TrainRequest, prepared: Prepared) -> Augmentations | None:
    """Those of a dumped lazy config, which the config as it is read does not have."""
    chosen = request.large_scale_jitter is not None or request.colour_jitter > 0
    if LAZY_KEY not in prepared.cfg or request.config is None or chosen:
        return None
    if not is_lazy_file(request.config):  # one that a training wrote: its INPUT counts
        return None
    found: Augmentations = dumped_augmentations(request.config)
    return found


def _taught(request: TrainRequest, train: TrainingDataset, device: str) -> PseudoLabels:
    """What the old model labels."""
    assert request.teacher is not None, "there is one"
    folder = request.teacher
    predictor = Predictor.from_files(folder / "config.yaml", folder / FINAL, device=device)
    names = ClassNames.find(
        None,
        config=folder / "config.yaml",
        num_classes=num_classes(predictor.model),
        key=main_classes_key(predictor.cfg),
    ).names
    with progress_bar(TEXT, BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task("The old model labels", total=len(train.images))
        found = pseudo_labels(
            train,
            predictor,
            names,
            classes=request.teach or None,
            score_threshold=request.teacher_threshold,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    console(stderr=True).print(found.sentence(), markup=False)
    return found


def _look_at_data(request: TrainRequest, prepared: Prepared, out: Path, shown: Console) -> None:
    """Report on the data; errors end it here."""
    train, val = prepared.train, None
    if request.val is not None:
        val = TrainingDataset.load(
            request.val,
            request.pictures_of_val(),
            class_names=train.class_names,
            label_map=prepared.label_map,
        )
    pictures = len(train.images) + (len(val.images) if val is not None else 0)
    with progress_bar(TEXT, BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task("Looking at the data", total=pictures)
        report = check_data(
            train, val, cfg=prepared.cfg, progress=lambda more: bar.update(task, advance=more)
        )
    show_report(report, shown)
    write_json(out / "data.json", report.to_dict())
    report.raise_for_errors()


def _finished(request: TrainRequest, result: TrainingResult, out: Path, shown: Console) -> int:
    """Plots, the table of classes, where the model is; the exit code."""
    if not result.finished:
        shown.print(f"detserve train --resume {out} goes on.", markup=False)
        return STOPPED
    plot_training(out / "metrics.jsonl", out)
    if result.classes:
        write_json(out / "classes.json", result.classes)
        shown.print(classes_table(result.classes))
    if result.best is not None:
        shown.print(
            f"{result.best_by} was best after iteration {result.best.iteration}, "
            f"{result.best.value:.1f}: {out / BEST}",
            markup=False,
        )
    shown.print(
        f"The model: {out / FINAL}, with config.yaml and labels.txt beside it.", markup=False
    )
    if request.repository is None:
        return DONE
    files = NewVersion(weights=out / FINAL, config=out / "config.yaml").with_sidecars()
    return add(request.repository, request.name, None, files, plugins=request.plugins)


def classes_table(rows: list[dict[str, Any]]) -> Table:
    """Per class the AP before and after."""
    table = Table("class", "AP of", title="What was learnt, and what was forgotten")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for row in rows:
        change = row["change"]
        style = "" if change is None or abs(change) < 1 else "green" if change > 0 else "red"
        told = "" if change is None else f"{change:+.1f}"
        cells = ["-" if row[key] is None else f"{row[key]:.1f}" for key in ("before", "after")]
        table.add_row(row["class"], row["kind"], *cells, f"[{style}]{told}[/]" if style else told)
    return table
