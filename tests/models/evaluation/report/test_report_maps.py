"""Panoptic and semantic figures in a report."""

from models.evaluation.panoptic import PanopticResult
from models.evaluation.report import Report
from models.evaluation.semantic import SemanticResult

PANOPTIC = PanopticResult(
    figures={
        group: {"PQ": 40.0, "SQ": 80.0, "RQ": 50.0, "classes": 1} for group in ("all", "things")
    }
    | {"stuff": {"PQ": None, "SQ": None, "RQ": None, "classes": 0}},
    per_class={"<b>cat": {"PQ": 40.0, "SQ": 80.0, "RQ": 50.0, "TP": 1, "FP": 2, "FN": 0}},
    dataset="panoptic.json",
    images=3,
)
SEMANTIC = SemanticResult(
    figures={"mIoU": 45.0, "fwIoU": 47.0, "mACC": 60.0, "pACC": 62.5},
    per_class={
        "road": {"IoU": 45.0, "ACC": 60.0, "pixels": 8},
        "sky": {"IoU": None, "ACC": None, "pixels": 0},
    },
    class_names=("road", "sky"),
    confusion=((5, 3), (0, 0)),
    images=3,
    ignored=1234,
)


def test_panoptic_figures_are_a_section_of_their_own() -> None:
    html = Report("x", "today", panoptic=PANOPTIC).html()
    assert 'id="panoptic"' in html
    assert 'id="figures"' not in html
    assert "&lt;b&gt;cat" in html
    assert "PQ of things" in html


def test_semantic_figures_tell_what_was_taken_for_what() -> None:
    html = Report("x", "today", semantic=("labels", SEMANTIC)).html()
    assert 'id="semantic"' in html
    assert "labels, 3 images. 1,234 pixels do not count" in html
    assert "road → sky" in html
    assert "37.5 %" in html
