"""``detserve extend``: the options; :mod:`service.cli.extending` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def extend(
    weights: Annotated[
        Path, typer.Option("--weights", help="Checkpoint of the trained model.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the new files; nothing is overwritten."),
    ],
    config: Annotated[
        Path | None, typer.Option(help="Its config; default: config.yaml beside the weights.")
    ] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Instead of a config: a model of Detectron2's zoo.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Its class names, one a line; default: labels.txt beside the config."),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="New classes, such as scratch,dent.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Classes that go.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Instead of --remove: the only classes that stay.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="New names, such as car=vehicle,bike=bicycle.")
    ] = None,
    reorder: Annotated[
        list[str] | None, typer.Option(help="All classes of the new model in their order.")
    ] = None,
    stuff_labels: Annotated[
        Path | None,
        typer.Option(
            help="Of a panoptic model: names of the semantic head's classes; default: "
            "stuff_labels.txt beside the config."
        ),
    ] = None,
    add_stuff: Annotated[list[str] | None, typer.Option(help="As --add, of the stuff.")] = None,
    remove_stuff: Annotated[list[str] | None, typer.Option(help="As --remove.")] = None,
    rename_stuff: Annotated[list[str] | None, typer.Option(help="As --rename.")] = None,
    reorder_stuff: Annotated[list[str] | None, typer.Option(help="As --reorder.")] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
) -> None:
    """Add, remove, rename and reorder classes of a trained model by name; the others answer as before.

    Writes OUT/config.yaml, OUT/model_final.pth and OUT/labels.txt, to train further or to serve. A list
    has commas between the names; an option may come several times.
    """
    # Imported here, so that --help of the whole does not wait for PyTorch.
    from service.cli.extending import Asked, run

    raise typer.Exit(
        run(
            weights,
            out=out,
            config=config,
            zoo_name=zoo,
            labels=labels,
            stuff_labels=stuff_labels,
            things=Asked(add or (), remove or (), keep, rename or (), reorder),
            stuff=Asked(
                add_stuff or (), remove_stuff or (), None, rename_stuff or (), reorder_stuff
            ),
            plugins=plugins or (),
        )
    )
