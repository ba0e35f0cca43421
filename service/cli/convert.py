"""``detserve convert``: a data set of another format as COCO JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from models.training.data.conversion import CocoBuilder

convert = typer.Typer(
    name="convert",
    help="Make COCO JSON of a data set in another format, Pascal VOC or YOLO.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_Source = Annotated[Path, typer.Argument(metavar="SRC", show_default=False)]
_Out = Annotated[Path, typer.Option("--out", help="The JSON to write.", show_default=False)]
_Images = Annotated[
    Path | None,
    typer.Option(help="Folder of the pictures, where it is not the usual one.", show_default=False),
]


@convert.command()
def voc(
    source: _Source,
    out: _Out,
    split: Annotated[
        str | None,
        typer.Option(help="List in ImageSets, such as train; default: all.", show_default=False),
    ] = None,
    images: _Images = None,
    difficult: Annotated[
        Literal["ignore", "keep", "drop"],
        typer.Option(
            help="Difficult objects: neither learned nor measured, kept as others, or left out."
        ),
    ] = "ignore",
    zero_based: Annotated[
        bool, typer.Option("--zero-based", help="Coordinates start from 0, not from 1 as in VOC.")
    ] = False,
) -> None:
    """Convert a Pascal VOC folder: Annotations, JPEGImages, ImageSets, SegmentationObject."""
    # Imported here, so that --help of the whole does not wait for it.
    from models.training.data.voc import convert_voc

    raise typer.Exit(
        _run(
            lambda: convert_voc(
                source, split=split, images=images, difficult=difficult, zero_based=zero_based
            ),
            out,
        )
    )


@convert.command()
def yolo(
    source: _Source,
    out: _Out,
    split: Annotated[str, typer.Option(help="Key of data.yaml: train, val or test.")] = "train",
    images: _Images = None,
) -> None:
    """Convert a YOLO data set: data.yaml, pictures, labels; boxes, polygons or keypoints."""
    from models.training.data.yolo import convert_yolo

    raise typer.Exit(_run(lambda: convert_yolo(source, split=split, images=images), out))


def _run(read: Callable[[], CocoBuilder], out: Path) -> int:
    """Convert, write, and read back what was written; the exit code."""
    from models.errors import ModelError
    from models.training.data.dataset import TrainingDataset
    from service.cli.models_tables import fail, say

    try:
        builder = read()
        builder.write(out)
        TrainingDataset.load(out, builder.images_folder)
    except ModelError as error:
        return fail(error.message)
    say(
        f"{out}: {builder.num_images} pictures, {builder.num_objects} objects of "
        f"{len(builder.class_names)} classes ({', '.join(builder.class_names[:20])})."
    )
    say(f"Look at it: detserve check-data --train {out} --images {builder.images_folder}")
    return 0
