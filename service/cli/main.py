"""The ``detserve`` command; each subcommand is a thin layer over the packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import __version__
from service.cli.bench import bench
from service.cli.check_data import check_data
from service.cli.convert import convert
from service.cli.evaluate_command import evaluate
from service.cli.extend import extend
from service.cli.models import models
from service.cli.train_command import train

app = typer.Typer(
    name="detserve",
    help="The production server for Detectron2 models, without Detectron2.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
    add_help_option=False,
)
def serve(context: typer.Context) -> None:
    """Serve a model over HTTP; without arguments the embedded one. See detserve serve --help."""
    # Imported here, so that --help of the whole does not wait for PyTorch.
    from service.cli.serve import run

    raise typer.Exit(run(context.args))


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(help="Image files, folders, patterns.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the answers.")] = Path(
        "predictions"
    ),
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Take the folders in folders too.")
    ] = False,
    coco: Annotated[
        Path | None, typer.Option(help="File for the results of all images, as COCO JSON.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Detectron2 config; default: the embedded model.")
    ] = None,
    zoo: Annotated[
        str | None,
        typer.Option(help="Instead of a config: a model of Detectron2's zoo."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint of that config or zoo model.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:n.")] = "auto",
    mode: Annotated[str, typer.Option(help="reference, exact or fast.")] = "exact",
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score; default: the model's own.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="Instances per image at most.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these classes, names or ids.")
    ] = None,
    tta: Annotated[
        str,
        typer.Option(help="Test-time augmentation: none, flip, full, or sizes such as 400,600."),
    ] = "none",
    class_thresholds: Annotated[
        str | None,
        typer.Option(help="Least scores of single classes, such as disc:0.7,star:0.4."),
    ] = None,
    nms_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="IoU above which a box of the same class is suppressed."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="The part that the model sees, x1,y1,x2,y2 in pixels."),
    ] = None,
    tiles: Annotated[
        str,
        typer.Option(help="Large images in tiles: none, auto, WxH or WxH,overlap in pixels."),
    ] = "none",
    masks: Annotated[str, typer.Option(help="rle, polygon, png, bitmap or none.")] = "rle",
    boxes: Annotated[str, typer.Option(help="xyxy, xywh or normalized.")] = "xyxy",
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="Outputs beside boxes and masks: keypoints, sem_seg, panoptic, proposals, or none; "
            "default: all."
        ),
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write no annotated pictures.")
    ] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
) -> None:
    """Predict without a server: writes DIR/NAME.json and an annotated DIR/NAME.png for each image."""
    from service.cli.predict import run

    options = {
        "score_threshold": score_threshold,
        "max_detections": max_detections,
        "classes": classes or None,
        "tta": tta,
        "class_thresholds": class_thresholds,
        "nms_threshold": nms_threshold,
        "region": region,
        "tiles": tiles,
        "masks": masks,
        "boxes": boxes,
        "include": ",".join(include) if include else None,
    }
    raise typer.Exit(
        run(
            images,
            out=out,
            config=config,
            zoo_name=zoo,
            weights=weights,
            labels=labels,
            device=device,
            mode=mode,
            options=options,
            plugins=plugins or (),
            recursive=recursive,
            coco=coco,
            pictures=not no_pictures,
        )
    )


@app.command()
def download(
    name: Annotated[
        str | None, typer.Argument(help="A model of Detectron2's zoo.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the file.")] = Path(),
    list_models: Annotated[
        bool, typer.Option("--list", help="Show the models and their published figures.")
    ] = False,
) -> None:
    """Fetch the published weights of a zoo model, for serve and predict with --zoo."""
    from service.cli.download import run, show_list

    raise typer.Exit(show_list() if list_models else run(name, out=out))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint, or a config.", show_default=False)],
    config: Annotated[
        Path | None, typer.Option(help="A config that the checkpoint has to fit.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
) -> None:
    """Show what a checkpoint or config is and whether they fit; exits with 0, 1 (no) or 2 (unreadable)."""
    from service.cli.inspect import run

    raise typer.Exit(run(file, config=config, as_json=json, plugins=plugins or ()))


app.command()(bench)
app.command()(train)
app.command()(evaluate)
app.command()(extend)
app.command(name="check-data")(check_data)
app.add_typer(convert)
app.add_typer(models)


def main() -> None:
    """Entry point of the ``detserve`` command."""
    app()
