"""The options of ``detserve evaluate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[
        Path | None, typer.Option(help="What is there: annotations in COCO's format (JSON).")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pictures; default: the one named like the JSON, or the JSON's own."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder of a model, of a version or of a training; with --repository MODEL or "
            "MODEL/VERSION in it. Default: the embedded model."
        ),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Model repository; default: DETSERVE_REPOSITORY.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Detectron2 config of --weights.")] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Instead of a config: a model of Detectron2's zoo.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint of that config or zoo model.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line.")] = None,
    url: Annotated[
        str | None,
        typer.Option(help="A running server instead, such as http://127.0.0.1:8000."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="Model on the server; default: the first one served.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version on the server; default: the current one.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="The server's token; default: DETSERVE_INFERENCE_TOKEN, which no process list shows."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another model, named as with --model or --url, to be compared picture by picture."
        ),
    ] = None,
    against_version: Annotated[
        str | None, typer.Option(help="Its version, where --against is a server.")
    ] = None,
    tta: Annotated[
        str,
        typer.Option(
            help="Test-time augmentation: none, flip, full, sizes such as 400,600, or both: without "
            "and with full, side by side."
        ),
    ] = "none",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:n.")] = "auto",
    mode: Annotated[str, typer.Option(help="reference, exact or fast.")] = "exact",
    out: Annotated[
        Path,
        typer.Option(help="Folder for report.html, metrics.json and results.json (COCO's form)."),
    ] = Path("evaluation"),
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many pictures, by id.")
    ] = None,
    score_threshold: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Least score in the confusion matrix and the pictures. AP is always measured at the "
            "model's own threshold: a higher one lowers it.",
        ),
    ] = 0.5,
    iou: Annotated[float, typer.Option(min=0.01, max=1, help="Least IoU of a match there.")] = 0.5,
    panoptic_data: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="JSON DIR",
            help="Panoptic annotations in COCO's format, and the folder of their PNGs, for PQ.",
        ),
    ] = None,
    semantic_data: Annotated[
        Path | None,
        typer.Option(help="Folder of label PNGs, named like the pictures in --images, for mIoU."),
    ] = None,
    min_ap: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Exit with 1 if the AP of --data is lower, 0 to 100."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--import", help="Python files of yours that register components."),
    ] = None,
) -> None:
    """Measure a model, or a running server, and write a report; exits with 0, 1 (AP too low) or 2."""
    from service.cli.evaluate import Choice, Settings, run

    folder = repository or os.environ.get("DETSERVE_REPOSITORY")
    choice = Choice(
        model=model,
        repository=Path(folder) if folder else None,
        config=config,
        zoo_name=zoo,
        weights=weights,
        labels=labels,
        url=url,
        model_name=model_name,
        version=version,
        token=token or os.environ.get("DETSERVE_INFERENCE_TOKEN"),
        device=device,
        mode=mode,
    )
    settings = Settings(
        data=data,
        images=images,
        panoptic_data=panoptic_data,
        semantic_data=semantic_data,
        max_images=max_images,
        tta=tta,
        score_threshold=score_threshold,
        iou_threshold=iou,
        against=against,
        against_version=against_version,
        out=out,
        min_ap=min_ap,
        as_json=json,
        plugins=tuple(plugins or ()),
    )
    raise typer.Exit(run(choice, settings))
