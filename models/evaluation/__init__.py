"""How good answers are, and how far they differ: COCO AP, matching of instances, golden answers."""

from models.evaluation.average_precision import Figures, IouType, average_precision
from models.evaluation.categories import CategoryMap
from models.evaluation.coco import CocoEvaluator, CocoResult, evaluate
from models.evaluation.coco_dataset import CocoDataset, CocoImage
from models.evaluation.comparison import Change, Comparison, ImageChange, compare
from models.evaluation.detail import (
    BestThreshold,
    Confusion,
    Curve,
    DetailedResult,
    ImageVerdict,
    Match,
)
from models.evaluation.detailed_evaluation import DetailedEvaluator, evaluate_in_detail
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
from models.evaluation.panoptic import PanopticEvaluator, PanopticResult, evaluate_panoptic
from models.evaluation.panoptic_dataset import PanopticDataset, PanopticImage, PanopticSegment
from models.evaluation.semantic import SemanticEvaluator, SemanticResult, evaluate_semantic
from models.evaluation.semantic_dataset import SemanticDataset, SemanticImage

__all__ = [
    "BestThreshold",
    "CategoryMap",
    "Change",
    "CocoDataset",
    "CocoEvaluator",
    "CocoImage",
    "CocoResult",
    "Comparison",
    "Confusion",
    "Curve",
    "DetailedEvaluator",
    "DetailedResult",
    "Difference",
    "EvaluationError",
    "Figures",
    "GoldenAnswers",
    "GoldenComparison",
    "GoldenFigure",
    "GoldenImage",
    "GoldenVerdict",
    "ImageChange",
    "ImageVerdict",
    "IouType",
    "Match",
    "Matching",
    "PanopticDataset",
    "PanopticEvaluator",
    "PanopticImage",
    "PanopticResult",
    "PanopticSegment",
    "SemanticDataset",
    "SemanticEvaluator",
    "SemanticImage",
    "SemanticResult",
    "Tolerance",
    "average_precision",
    "box_overlaps",
    "compare",
    "difference",
    "evaluate",
    "evaluate_in_detail",
    "evaluate_panoptic",
    "evaluate_semantic",
    "match_instances",
    "read_picture",
]
