"""A sheet of annotated samples: a look at it shows what no check can, such as boxes in wrong places."""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from models.evaluation.errors import EvaluationError
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.drawing import draw_annotations

TILE = 320
"""Pixels of a sample's side."""

_CAPTION = 18
_GAP = 6
_PAPER = (245, 245, 245)
_INK = (40, 40, 40)


def choose_samples(dataset: TrainingDataset, number: int, *, seed: int = 0) -> list[TrainingImage]:
    """Pictures in which every class occurs if so many can do it; the rest at random.

    Args:
        dataset: pictures with objects are taken first.
        number: at most so many.
        seed: of the choice; the same gives the same.
    """
    order = list(dataset.images)
    random.Random(seed).shuffle(order)
    chosen: list[TrainingImage] = []
    classes = {i.id: {thing.class_id for thing in i.objects} for i in order}
    wanted = set().union(*classes.values())
    while wanted and len(chosen) < number:
        # The picture with most of the classes that are not there yet; of equals the first at random.
        best = max(order, key=lambda image: len(classes[image.id] & wanted))
        wanted -= classes[best.id]
        chosen.append(best)
    taken = {image.id for image in chosen}
    rest = [image for image in order if image.id not in taken]
    rest.sort(key=lambda image: not image.objects)
    return chosen + rest[: max(0, number - len(chosen))]


def contact_sheet(dataset: TrainingDataset, *, number: int = 16, seed: int = 0) -> Image.Image:
    """A grid of annotated samples with their file names, RGB; what cannot be read says so.

    Args:
        dataset: see :func:`choose_samples` for which pictures.
        number: of samples, at most.
        seed: of the choice.

    Raises:
        ValueError: ``number`` is not positive.
    """
    if number < 1:
        raise ValueError(f"A contact sheet has one sample or more, not {number}.")
    samples = choose_samples(dataset, number, seed=seed)
    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    wide, tall = TILE + _GAP, TILE + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * tall + _GAP), _PAPER)
    for index, image in enumerate(samples):
        left, top = _GAP + index % columns * wide, _GAP + index // columns * tall
        sheet.paste(_tile(dataset, image), (left, top))
    return sheet


def write_contact_sheet(
    dataset: TrainingDataset, path: Path, *, number: int = 16, seed: int = 0
) -> Path:
    """Write :func:`contact_sheet` as a PNG to ``path``, which comes back; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(dataset, number=number, seed=seed).save(path, format="PNG")
    return path


def _tile(dataset: TrainingDataset, image: TrainingImage) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE + _CAPTION), _PAPER)
    draw = ImageDraw.Draw(tile)
    caption = f"{image.path.name}  {image.width}x{image.height}"
    font = ImageFont.load_default(size=12)
    draw.text((0, TILE + 1), caption, fill=_INK, font=font)
    try:
        picture = draw_annotations(dataset, image, TILE)
    except EvaluationError:
        draw.rectangle((0, 0, TILE - 1, TILE - 1), outline=_INK)
        draw.text((10, TILE // 2), "cannot be read", fill=_INK, font=font)
    else:
        tile.paste(picture, ((TILE - picture.width) // 2, (TILE - picture.height) // 2))
    return tile
