"""How good answers are, and how far they differ: COCO AP, matching of instances, golden answers."""

from models.evaluation.average_precision import Figures, IouType, average_precision
from models.evaluation.categories import CategoryMap
from models.evaluation.coco import CocoEvaluator, CocoResult, evaluate
from models.evaluation.coco_dataset import CocoDataset, CocoImage
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.golden_answers import (
    GoldenAnswers,
    GoldenComparison,
    GoldenFigure,
    GoldenImage,
    GoldenVerdict,
)
from models.evaluation.golden_file import Tolerance
from models.evaluation.matching import (
    Difference,
    Matching,
    box_overlaps,
    difference,
    match_instances,
)

__all__ = [
    "CategoryMap",
    "CocoDataset",
    "CocoEvaluator",
    "CocoImage",
    "CocoResult",
    "Difference",
    "EvaluationError",
    "Figures",
    "GoldenAnswers",
    "GoldenComparison",
    "GoldenFigure",
    "GoldenImage",
    "GoldenVerdict",
    "IouType",
    "Matching",
    "Tolerance",
    "average_precision",
    "box_overlaps",
    "difference",
    "evaluate",
    "match_instances",
    "read_picture",
]
