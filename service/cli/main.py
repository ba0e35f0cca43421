"""The ``detserve`` command; each subcommand is a thin layer over the packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import __version__

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
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the answers.")] = Path(
        "predictions"
    ),
    config: Annotated[
        Path | None, typer.Option(help="Detectron2 config; default: the embedded model.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint of that config.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:n.")] = "auto",
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score; default: the model's own.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="Instances per image at most.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these classes, names or ids.")
    ] = None,
) -> None:
    """Predict without a server: writes DIR/NAME.json and an annotated DIR/NAME.png for each image."""
    from service.cli.predict import run

    options = {
        "score_threshold": score_threshold,
        "max_detections": max_detections,
        "classes": classes or None,
    }
    raise typer.Exit(
        run(
            images,
            out=out,
            config=config,
            weights=weights,
            labels=labels,
            device=device,
            options=options,
        )
    )


def main() -> None:
    """Entry point of the ``detserve`` command."""
    app()
