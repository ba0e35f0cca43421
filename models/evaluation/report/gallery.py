"""Pictures with what is there and what was found: the worst ones, and those that two models differ in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.detail import DetailedResult, ImageVerdict
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.report.page import text
from models.evaluation.report.pictures import Mark, picture_svg

_KEYS = (
    ("right", "found, and right"),
    ("false", "found, but nothing is there"),
    ("confused", "found as another class"),
    ("missed dashed", "missed"),
    ("truth dashed", "what is there, by the data set"),
)

LEGEND = (
    '<ul class="legend">'
    + "".join(
        f'<li><svg viewBox="0 0 38 16"><rect class="frame {kind}" x="3" y="3" width="32" height="10"/>'
        f"</svg>{text(name)}</li>"
        for kind, name in _KEYS
    )
    + "</ul>"
)
"""What the frames mean, as HTML: solid is found, dashed is annotated."""


class Gallery:
    """Draws pictures of a data set with the answers to them.

    Args:
        dataset: the pictures and what is in them.
    """

    def __init__(self, dataset: CocoDataset) -> None:
        self._names = dataset.categories
        self._images = {image.id: image for image in dataset.images}
        self._truths: dict[int, list[dict[str, Any]]] = {}
        for annotation in dataset.annotations:
            self._truths.setdefault(annotation["image_id"], []).append(annotation)

    def singles(self, detail: DetailedResult, verdicts: Sequence[ImageVerdict]) -> str:
        """A grid of pictures with what is right and wrong in each."""
        figures = "".join(self._figure(detail, verdict, "") for verdict in verdicts)
        return f'<div class="gallery">{figures}</div>'

    def pair(
        self,
        first: DetailedResult,
        second: DetailedResult,
        image_id: int,
        *,
        names: tuple[str, str],
        said: str,
    ) -> str:
        """One picture with the answers of two models side by side; ``said`` is plain text above them."""
        both = ""
        for detail, name in zip((first, second), names, strict=True):
            verdict = next(v for v in detail.images if v.image_id == image_id)
            both += self._figure(detail, verdict, name)
        return f'<div class="pair"><p>{text(said)}</p>{both}</div>'

    def _figure(self, detail: DetailedResult, verdict: ImageVerdict, name: str) -> str:
        counts = (
            (verdict.true_positives, "right"),
            (verdict.confused, "confused"),
            (verdict.false_positives, "false"),
            (verdict.false_negatives, "missed"),
        )
        said = ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing"
        file = verdict.path.name
        head = f"{name}: " if name else f"{file} "
        image = self._images[verdict.image_id]
        try:
            pixels = read_picture(image.path, (image.height, image.width))
            drawn = picture_svg(pixels, self._marks(detail, verdict), title=file)
        except EvaluationError as error:  # it was there when it was measured; the report goes on
            drawn = f"<p>{text(error.message)}</p>"
        return (
            f"<figure>{drawn}<figcaption><b>{text(head)}</b>{text(said)}; F1 {verdict.goodness:.2f}"
            "</figcaption></figure>"
        )

    def _marks(self, detail: DetailedResult, verdict: ImageVerdict) -> list[Mark]:
        """What is there below what was found, mistakes on top."""
        truths = self._truths.get(verdict.image_id, [])
        answers = detail.answers.get(verdict.image_id, ())
        names = self._names
        marks = [Mark("crowd", t["bbox"], "crowd") for t in truths if t["iscrowd"]]
        below, right, wrong = [], [], []
        for match in verdict.matches:
            truth, answer = truths[match.truth], answers[match.detection]
            label = f"{names[answer['category_id']]} {answer['score']:.2f}"
            below.append(Mark("truth", truth["bbox"]))
            mask = answer.get("segmentation")
            if match.same_class:
                right.append(Mark("right", answer["bbox"], label, mask))
            else:
                label = f"{label}, is {names[truth['category_id']]}"
                wrong.append(Mark("confused", answer["bbox"], label, mask))
        for place in verdict.false:
            answer = answers[place]
            label = f"{names[answer['category_id']]} {answer['score']:.2f}"
            wrong.append(Mark("false", answer["bbox"], label, answer.get("segmentation")))
        for place in verdict.missed:
            truth = truths[place]
            wrong.append(Mark("missed", truth["bbox"], names[truth["category_id"]]))
        return marks + right + below + wrong
