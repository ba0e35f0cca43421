"""A report on an evaluation, as one HTML file that needs nothing else and asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.detail import DetailedResult
from models.evaluation.panoptic import PanopticResult
from models.evaluation.report.compared import Against, compared_sections
from models.evaluation.report.confusion_matrix import (
    MOST_CLASSES,
    confusion_body,
    left_out,
)
from models.evaluation.report.figures import class_tables, curve_plots, overall_table, tiles
from models.evaluation.report.gallery import LEGEND, Gallery
from models.evaluation.report.maps import panoptic_section, semantic_section
from models.evaluation.report.page import Section, document, text
from models.evaluation.report.tables import facts_table
from models.evaluation.semantic import SemanticResult

WORST = 12
"""Pictures of the gallery of mistakes."""


@dataclass(frozen=True)
class Report:
    """What a report tells; all texts are plain.

    Attributes:
        title: the model's name.
        made_at: when, for people.
        facts: of the model, by name.
        dataset: that its instances were measured with; None with ``detail``.
        detail: what was measured of them; there are pictures if it has kept the answers.
        way: how that was, where there are ``variants``, such as "plain".
        variants: the same model measured in other ways, such as with test-time augmentation.
        against: another model that it was compared with.
        panoptic: what was measured of panoptic maps.
        semantic: the name of a data set, and what was measured of semantic maps with it.
        hints: what may be wrong.
    """

    title: str
    made_at: str
    facts: tuple[tuple[str, str], ...] = ()
    dataset: CocoDataset | None = None
    detail: DetailedResult | None = None
    way: str = ""
    variants: tuple[tuple[str, DetailedResult], ...] = ()
    against: Against | None = None
    panoptic: PanopticResult | None = None
    semantic: tuple[str, SemanticResult] | None = None
    hints: tuple[str, ...] = ()

    def html(self) -> str:
        """The whole file."""
        detail, dataset = self.detail, self.dataset
        sections: list[Section] = []
        top = "".join(f'<p class="note">{text(hint)}</p>' for hint in self.hints)
        if detail is not None and dataset is not None:
            top += tiles(detail)
            if self.against is not None:
                sections += compared_sections(detail, self.against, dataset, self.title)
            sections += _sections(detail, dataset, ((self.way, detail), *self.variants))
        if self.panoptic is not None:
            sections.append(panoptic_section(self.panoptic))
        if self.semantic is not None:
            sections.append(semantic_section(self.semantic[1], self.semantic[0]))
        sections.append(Section("about", "About", facts_table(self._about())))
        return document(
            title=f"Evaluation of {self.title}",
            lead=self._lead(),
            top=top,
            sections=sections,
            foot=f"Made by detserve evaluate on {text(self.made_at)}.",
        )

    def write(self, path: str | Path) -> None:
        """Write the file. Raises :class:`OSError`."""
        Path(path).write_text(self.html(), encoding="utf-8")

    def _lead(self) -> str:
        if self.detail is None:
            names = [self.panoptic.dataset] if self.panoptic is not None else []
            return ", ".join(names + ([self.semantic[0]] if self.semantic is not None else []))
        result = self.detail.result
        return (
            f"{result.dataset}: {result.images:,} images, {result.instances:,} instances; "
            f"{result.detections:,} detections" + (f" ({self.way})" if self.way else "")
        )

    def _about(self) -> list[tuple[str, str]]:
        facts = [("model", self.title), *self.facts]
        if self.detail is not None:
            result = self.detail.result
            facts.append(("data set", result.dataset))
            facts.append(("classes matched by", result.classes_matched_by))
            facts += [("note", note) for note in self.detail.notes]
        return facts


def _sections(
    detail: DetailedResult,
    dataset: CocoDataset,
    ways: tuple[tuple[str, DetailedResult], ...],
) -> list[Section]:
    """What every report on instances has."""
    confusion = detail.confusion
    at = (
        f"of detections that score {confusion.score_threshold:g} or more, matched with instances at an "
        f"IoU of {confusion.iou_threshold:g} or more"
    )
    result = [
        Section(
            "figures",
            "Average precision",
            overall_table(ways),
            "COCO AP, 0 to 100, of all detections above the model's own score threshold: to raise a "
            "threshold cuts the tail of the curve and lowers AP, without the model being any worse. "
            "Small is below 32 x 32 pixels, large from 96 x 96.",
        ),
        Section(
            "classes",
            "Classes",
            class_tables(detail),
            "The best threshold is the score with the highest F1, a good one to serve a class with if "
            "false and missed instances weigh the same. A click on a head sorts.",
        ),
        Section("curves", "Precision and recall", curve_plots(detail)),
    ]
    few = left_out(confusion)
    result.append(
        Section(
            "confusion",
            "Confusion",
            confusion_body(confusion),
            f"Which class was taken for which, {at}. A row is what is there, a column what was found; the "
            "stronger its colour, the larger the share of its row."
            + (
                f" The {MOST_CLASSES} classes with the most mistakes; {few} are left out."
                * bool(few)
            ),
        )
    )
    worst = detail.worst(WORST) if detail.answers else []  # which need not have been kept
    if worst:
        gallery = Gallery(dataset).singles(detail, worst)
        intro = (
            f"The {len(worst)} pictures with the lowest F1, {at}. Solid is found, dashed is there."
        )
        result.append(Section("worst", "Worst pictures", LEGEND + gallery, intro))
    return result
