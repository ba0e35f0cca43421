"""The options of ``detserve train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WITH_RESUME = {"resume", "device", "threads", "workers"}


def train(
    context: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY VALUE]...",
            help="Changes of the config, such as SOLVER.MAX_ITER 2000.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Detectron2 config.")] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Instead of a config: a model of Detectron2's zoo.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint to start from; default: MODEL.WEIGHTS of the config; none: at random."
        ),
    ] = None,
    train: Annotated[Path | None, typer.Option("--train", help="COCO JSON to learn from.")] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of its pictures; default: beside the JSON, named like it."),
    ] = None,
    val: Annotated[Path | None, typer.Option(help="COCO JSON that AP is measured on.")] = None,
    val_images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of its pictures; default: beside the JSON, named like it, else --images."
        ),
    ] = None,
    val_sem_seg: Annotated[
        Path | None,
        typer.Option(help="Instead of --val: label maps, PNG, that mIoU is measured on."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder; no other option is needed."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="The model's class names, one a line; default: labels.txt beside the config, or the "
            "names of the data."
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON: names of the data to names of the model."),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(
            help="model: the config's classes; data: the model gets the classes of the data, known ones "
            "keep their weights."
        ),
    ] = "model",
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="SOLVER.MAX_ITER, with STEPS and warm-up in proportion."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="SOLVER.IMS_PER_BATCH, with the learning rate in proportion."),
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--rate", help="Factor on the learning rate of a part, such as backbone=0.1; repeat it."
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="A part that does not learn, such as backbone; repeat it."),
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.999.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the old model (config.yaml, model_final.pth, labels.txt): it labels its "
            "classes where the data does not."
        ),
    ] = None,
    teacher_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of what the old model labels.")
    ] = 0.5,
    teach: Annotated[
        list[str] | None,
        typer.Option(
            help="Classes that the old model labels, such as disc,star; default: those without any "
            "label in the data."
        ),
    ] = None,
    sem_seg: Annotated[
        Path | None,
        typer.Option(help="Folder of PNGs with the semantic class of each pixel."),
    ] = None,
    large_scale_jitter: Annotated[
        str | None,
        typer.Option(
            help="Scale of 0.1 to 2, then a crop of this size: 1024x1024; instead of resize and crop."
        ),
    ] = None,
    colour_jitter: Annotated[
        float,
        typer.Option(min=0, help="How far brightness, contrast and saturation go, such as 0.3."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:n.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the CPU; 1 is exact to the bit.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that prepare pictures.")
    ] = None,
    eval_period: Annotated[
        int | None,
        typer.Option(min=1, help="Iterations between evaluations; default: a tenth of all."),
    ] = None,
    checkpoint_period: Annotated[
        int | None,
        typer.Option(
            min=1, help="Iterations between checkpoints; default: a tenth of all, at most."
        ),
    ] = None,
    best_by: Annotated[
        str | None,
        typer.Option(
            help="Figure that model_best.pth is chosen by, such as segm/AP; default: bbox/AP."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many evaluations in a row without a better one."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Add the model to this repository as a version.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the model in the repository.")] = "default",
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
) -> None:
    """Train on a COCO data set: looks at the data, trains, measures AP, writes a model to serve."""
    from service.cli.train import resume_run, start_run
    from service.cli.train_request import TrainRequest

    if resume is not None:
        _refuse_others(context, resume)
        raise typer.Exit(resume_run(resume, device=device, threads=threads, workers=workers))
    request = TrainRequest(
        config=config,
        zoo=zoo,
        weights=weights,
        train=train,
        images=images,
        val=val,
        val_images=val_images,
        val_sem_seg=val_sem_seg,
        out=out,
        labels=labels,
        label_map=label_map,
        classes=classes,
        iterations=iterations,
        batch_size=batch_size,
        rates=tuple(rates or ()),
        freeze=tuple(freeze or ()),
        ema=ema,
        teacher=teacher,
        teacher_threshold=teacher_threshold,
        teach=tuple(name.strip() for names in teach or () for name in names.split(",")),
        sem_seg=sem_seg,
        large_scale_jitter=large_scale_jitter,
        colour_jitter=colour_jitter,
        seed=seed,
        eval_period=eval_period,
        checkpoint_period=checkpoint_period,
        best_by=best_by,
        patience=patience,
        repository=repository,
        name=name,
        plugins=tuple(plugins or ()),
        overrides=tuple(overrides or ()),
    )
    raise typer.Exit(start_run(request, device=device, threads=threads, workers=workers))


def _refuse_others(context: typer.Context, resume: Path) -> None:
    """What is resumed goes on as it was begun; an option that would change nothing is refused."""
    sources = {
        parameter: context.get_parameter_source(str(parameter.name))
        for parameter in context.command.params
        if parameter.name not in _WITH_RESUME
    }
    given = [
        parameter.opts[0] if parameter.param_type_name == "option" else "KEY VALUE"
        for parameter, source in sources.items()
        if source is not None and source.name == "COMMANDLINE"
    ]
    if not given:
        return
    from service.cli.models_tables import fail

    message = (
        f"--resume goes on with a run as it was begun, so {', '.join(given)} would change nothing. Leave "
        "that out; or, to train further from its weights, begin a run of its own: detserve train "
        f"--weights {resume / 'model_final.pth'} --config {resume / 'config.yaml'} --out ANOTHER ..."
    )
    raise typer.Exit(fail(message, 2))
