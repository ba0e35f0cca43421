"""``detserve check-data``: what is in a data set and what is wrong with it, before it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from models.training.data.checks import DataReport

SOUND, FAULTY, UNREADABLE = 0, 1, 2

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def check_data(
    train: Annotated[Path, typer.Option(help="COCO JSON to train on.", show_default=False)],
    images: Annotated[
        Path | None,
        typer.Option(help="Its pictures; default: the folder named like the JSON, else its own."),
    ] = None,
    val: Annotated[Path | None, typer.Option(help="COCO JSON to measure with.")] = None,
    val_images: Annotated[
        Path | None,
        typer.Option(help="Its pictures; default: the folder named like the JSON, else --images."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Detectron2 config that is to be trained.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="The model's class names, one a line; default: the data's.")
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON: names in the data to names in the model."),
    ] = None,
    sem_seg: Annotated[
        Path | None, typer.Option(help="Folder of semantic maps of the training set, PNG.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for contact-sheet.png and data-report.json.")
    ] = Path("data-check"),
    samples: Annotated[int, typer.Option(min=1, help="Pictures on the contact sheet.")] = 16,
    seed: Annotated[int, typer.Option(help="Of their choice.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not decode pictures to find look-alikes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Answer with JSON.")] = False,
) -> None:
    """Report what a data set holds and what is wrong with it; exits with 0, 1 (errors) or 2 (unreadable)."""
    # Imported here, so that --help of the whole does not wait for PyTorch.
    from models.config import load_config
    from models.errors import ModelError
    from models.training.data.checks import check_data as check
    from models.training.data.classes import read_class_names, read_label_map
    from models.training.data.contact_sheet import write_contact_sheet
    from models.training.data.dataset import TrainingDataset
    from models.training.saving import write_json
    from service.cli.models_tables import TEXT, fail, print_json, progress_bar

    try:
        cfg = load_config(config) if config is not None else None
        names = read_class_names(classes) if classes is not None else None
        mapping = read_label_map(label_map) if label_map is not None else None
        to_train = TrainingDataset.load(
            train, images, class_names=names, label_map=mapping, sem_seg=sem_seg
        )
        to_measure = None
        if val is not None:
            to_measure = TrainingDataset.load(
                val,
                val_images or (None if val.with_suffix("").is_dir() else images),
                class_names=to_train.class_names,
                label_map=mapping,
            )
        sets = [to_train] if to_measure is None else [to_train, to_measure]
        with progress_bar(TEXT) as bar:
            total = sum(len(one.images) for one in sets)
            task = bar.add_task("Looking at pictures", total=total)
            report = check(
                to_train,
                to_measure,
                cfg=cfg,
                find_look_alikes=not quick,
                progress=lambda count: bar.update(task, advance=count),
            )
        sheet = write_contact_sheet(to_train, out / "contact-sheet.png", number=samples, seed=seed)
        write_json(out / "data-report.json", report.to_dict())
    except ModelError as error:
        raise typer.Exit(fail(error.message, UNREADABLE)) from None
    except OSError as error:
        raise typer.Exit(fail(f"{out} cannot be written: {error.strerror}.", UNREADABLE)) from None
    if json:
        print_json(report.to_dict())
    else:
        show_report(report)
        typer.echo(f"Samples of the data: {sheet}")
    raise typer.Exit(FAULTY if report.refuses else SOUND)


def show_report(report: DataReport, shown: Console | None = None) -> None:
    """Print what the data holds, each class, and each finding.

    Args:
        report: of one data set or two.
        shown: where to; None for standard output.
    """
    from rich.markup import escape
    from rich.table import Table

    from service.cli.models_tables import console

    shown = shown or console()
    sets = [report.train] if report.val is None else [report.train, report.val]
    holdings = Table("", *(escape(one.name) for one in sets), title="Data", title_justify="left")
    rows = {
        "pictures": [str(one.images) for one in sets],
        "without objects": [str(one.empty_images) for one in sets],
        "objects": [str(one.objects) for one in sets],
        "crowds": [str(one.crowds) for one in sets],
        "with masks": [str(one.with_masks) for one in sets],
        "with keypoints": [str(one.with_keypoints) for one in sets],
        "small, medium, large": [" ".join(map(str, one.sizes.values())) for one in sets],
        "sides in pixels": [f"{one.image_sizes[0]} to {one.image_sizes[1]}" for one in sets],
    }
    for name, values in rows.items():
        holdings.add_row(name, *values)
    shown.print(holdings)
    counts = Table("class", title="Objects (pictures)", title_justify="left")
    for one in sets:
        counts.add_column(escape(one.name), justify="right")
    for name in report.train.instances:
        values = [f"{o.instances.get(name, 0)} ({o.pictures.get(name, 0)})" for o in sets]
        counts.add_row(escape(name), *values)
    shown.print(counts)
    for finding in report.findings:
        color = _COLORS[finding.severity]
        shown.print(f"[{color}]{finding.severity}[/] \\[{finding.code}] {escape(str(finding))}")
    if not report.findings:
        shown.print("Nothing was found that is wrong.")
