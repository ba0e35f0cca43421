"""All that ``detserve evaluate`` has found out, and the files that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from models.evaluation import CocoDataset, DetailedResult
from models.evaluation.panoptic import PanopticResult
from models.evaluation.report import Against, Report
from models.evaluation.semantic import SemanticResult
from service import __version__
from service.cli.evaluate_sources import Subject

REPORT, METRICS, RESULTS = "report.html", "metrics.json", "results.json"

_LONG = ("curves", "images")
"""Of a detailed result: what a program that asked for JSON finds in the file."""


@dataclass
class Outcome:
    """What was measured.

    Attributes:
        subject: the model.
        way: how it was measured first, such as "plain".
        dataset: that its instances were measured with; None with ``ways`` empty.
        ways: what was measured of them, by how; the first one is for the report.
        against: the model that it was compared with.
        panoptic: of its panoptic maps.
        semantic: the name of a data set, and what was measured of its semantic maps.
        hints: what may be wrong.
    """

    subject: Subject
    way: str
    dataset: CocoDataset | None = None
    ways: list[tuple[str, DetailedResult]] = field(default_factory=list)
    against: Against | None = None
    panoptic: PanopticResult | None = None
    semantic: tuple[str, SemanticResult] | None = None
    hints: list[str] = field(default_factory=list)

    @property
    def detail(self) -> DetailedResult | None:
        """What was measured of instances, in the first way."""
        return self.ways[0][1] if self.ways else None

    def to_dict(self, *, short: bool = False) -> dict[str, Any]:
        """As JSON; ``short`` is without curves and single pictures."""
        content: dict[str, Any] = {
            "detserve": __version__,
            "model": {"title": self.subject.title, **dict(self.subject.facts)},
            "ap_measured_above_score": self.subject.score_threshold,
        }
        if self.ways:
            content["instances"] = [
                {"way": name, **_without(detail.to_dict(), _LONG if short else ())}
                for name, detail in self.ways
            ]
        if self.against is not None:
            content["against"] = {
                "title": self.against.title,
                **_without(self.against.detail.to_dict(), _LONG if short else ()),
                "comparison": _without(
                    self.against.comparison.to_dict(), ("images",) if short else ()
                ),
            }
        if self.panoptic is not None:
            content["panoptic"] = self.panoptic.to_dict()
        if self.semantic is not None:
            name, semantic = self.semantic
            content["semantic"] = {"dataset": name, **semantic.to_dict()}
        content["hints"] = self.hints
        return content

    def write(self, out: Path) -> None:
        """Write the files into a folder. Raises :class:`OSError`."""
        (out / METRICS).write_bytes(orjson.dumps(self.to_dict(), option=orjson.OPT_INDENT_2))
        for name, detail in self.ways:
            way = "" if name == self.way else "-" + name.replace(" ", "-").lower()
            path = (out / RESULTS).with_stem(f"results{way}")
            path.write_bytes(orjson.dumps(detail.coco_results()))
        self.report().write(out / REPORT)

    def report(self) -> Report:
        """The report, made now."""
        several = len(self.ways) > 1 or self.way != "plain"
        now = datetime.now(UTC)
        return Report(
            title=self.subject.title,
            made_at=f"{now.day} {now:%B %Y, %H:%M} UTC",
            facts=(
                *self.subject.facts,
                ("own score threshold", f"{self.subject.score_threshold:g}"),
                ("detserve", __version__),
            ),
            dataset=self.dataset,
            detail=self.detail,
            way=self.way if several else "",
            variants=tuple(self.ways[1:]),
            against=self.against,
            panoptic=self.panoptic,
            semantic=self.semantic,
            hints=tuple(self.hints),
        )


def _without(content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}
