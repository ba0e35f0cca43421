"""From answers to figures for ``detserve evaluate``, and what may be wrong where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models.evaluation import CocoDataset, DetailedEvaluator, DetailedResult, EvaluationError
from models.evaluation.panoptic import PanopticEvaluator, PanopticResult
from models.evaluation.panoptic_dataset import PanopticDataset
from models.evaluation.semantic import SemanticEvaluator, SemanticResult
from models.evaluation.semantic_dataset import SemanticDataset
from service.cli.evaluate_sources import AnswerSource, Picture, Subject

Progress = Callable[[int, int], None]
"""Is told the pictures done, and of all."""

_NOTHING_RIGHT = 1.0
"""AP: a model that was trained for these classes and gets its pictures as then is far above it."""

_USUAL_THRESHOLD = 0.05
"""Of scores, in Detectron2's configs of COCO."""

_NAMES = 8


def measure(
    source: AnswerSource,
    dataset: CocoDataset,
    *,
    tta: str,
    score_threshold: float,
    iou_threshold: float,
    progress: Progress,
    compared: bool = False,
) -> DetailedResult:
    """COCO AP of a model's instances, in detail.

    Args:
        source: the model.
        dataset: what is there.
        tta: see :meth:`AnswerSource.answers`.
        score_threshold, iou_threshold: of the confusion and the pictures; AP is of all answers.
        compared: with another model, of which one may know classes that the other one just misses.

    Raises:
        EvaluationError: the model finds no instances, or cannot be measured with this data set.
        ApiError: the model has no such test-time augmentation.
    """
    subject = source.subject
    require_instances(subject)
    evaluator = DetailedEvaluator(
        dataset,
        subject.class_names,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        unknown_categories="miss" if compared else "refuse",
    )
    pictures = [Picture(image.path, (image.height, image.width)) for image in dataset.images]
    found = source.answers(pictures, tta)
    for done, (image, answer) in enumerate(zip(dataset.images, found, strict=True), start=1):
        assert answer.instances is not None, "a model with instances answers with them"
        evaluator.add(image.id, answer.instances)
        progress(done, len(dataset.images))
    return evaluator.detailed_result()


def measure_panoptic(
    source: AnswerSource, dataset: PanopticDataset, *, progress: Progress
) -> PanopticResult:
    """Panoptic quality of a model's maps.

    Raises:
        EvaluationError: the model has none, or its classes are not those of the data set.
    """
    subject = source.subject
    _require_output(subject, "panoptic_seg", "--panoptic-data")
    evaluator = PanopticEvaluator(dataset, subject.class_names, subject.stuff_class_names)
    pictures = [Picture(image.path, (image.height, image.width)) for image in dataset.images]
    found = source.answers(pictures, "none")
    for done, (image, answer) in enumerate(zip(dataset.images, found, strict=True), start=1):
        assert answer.panoptic_seg is not None, "a model with panoptic maps answers with them"
        evaluator.add(image.id, answer.panoptic_seg)
        progress(done, len(dataset.images))
    return evaluator.result()


def measure_semantic(
    source: AnswerSource, dataset: SemanticDataset, *, progress: Progress
) -> SemanticResult:
    """IoU and accuracy of a model's semantic maps.

    Raises:
        EvaluationError: the model has none, or a label map has other classes.
    """
    _require_output(source.subject, "sem_seg", "--semantic-data")
    evaluator = SemanticEvaluator(dataset.class_names)
    found = source.answers([Picture(image.path) for image in dataset.images], "none")
    for done, (image, answer) in enumerate(zip(dataset.images, found, strict=True), start=1):
        assert answer.sem_seg is not None, "a model with semantic maps answers with them"
        height, width = answer.sem_seg.shape
        evaluator.add(answer.sem_seg, image.read_labels((height, width)), image.name)
        progress(done, len(dataset.images))
    return evaluator.result()


def _require_output(subject: Subject, output: str, option: str) -> None:
    if output not in subject.outputs:
        raise EvaluationError(
            f"This model answers with {', '.join(subject.outputs)} and has no {output}; leave {option} "
            "out."
        )


def require_instances(subject: Subject) -> None:
    """Raise :class:`EvaluationError` for a model that finds no instances of its own."""
    if subject.takes_proposals:
        raise EvaluationError(
            "This model takes its proposals with each picture, and a data set has none; measure one "
            "that makes its own."
        )
    if "instances" not in subject.outputs:
        remedy = (
            "give --semantic-data in the place of --data"
            if "sem_seg" in subject.outputs
            else "measure a detector that is built on it"
        )
        raise EvaluationError(
            f"This model answers with {', '.join(subject.outputs)} and no instances, so that it has no "
            f"AP; {remedy}."
        )


def hints(detail: DetailedResult, subject: Subject, dataset: CocoDataset) -> list[str]:
    """What lowers the figures without need, and what to look at where a model finds nothing, or nothing
    right; empty where it does."""
    result = detail.result
    cut = []
    if subject.score_threshold > _USUAL_THRESHOLD:
        cut.append(
            f"AP is measured above {subject.score_threshold:g}, the model's own score threshold, which "
            f"cuts off what scores less: it is lower than with the usual {_USUAL_THRESHOLD:g}. Lower "
            f"{subject.score_threshold_key} in the model's config, and ask for higher scores when serving."
        )
    best = max((figures.get("AP") or 0.0 for figures in result.figures.values()), default=0.0)
    if not dataset.annotations or best >= _NOTHING_RIGHT:
        return cut
    if result.detections == 0:
        first = (
            f"Nothing was found in {result.images} pictures. The model's own score threshold is "
            f"{subject.score_threshold:g}; with one that is too high nothing is left to measure."
        )
    else:
        first = (
            f"{result.detections} detections, and next to none is right. Do the pictures and the "
            "annotations belong together (--images)?"
        )
    found = [*cut, first]
    found.append(
        f"Class names: the model has {_listed(subject.class_names)}; the data set has "
        f"{_listed(list(dataset.categories.values()))}. They were matched by "
        f"{result.classes_matched_by}, and names in another order than that of the training mix up all "
        "classes."
    )
    if subject.input_format:
        found.append(
            f"Channel order: INPUT.FORMAT is {subject.input_format}. A model that was trained with the "
            "other order finds little; so does one whose PIXEL_MEAN and PIXEL_STD are not those of its "
            "training."
        )
    coverage = dict(subject.facts).get("checkpoint")
    found.append(
        (f"Checkpoint: it filled {coverage}. " if coverage else "")
        + "Weights that were never trained fit just as well: is it the file that the training left?"
    )
    return found


def finest(detail: DetailedResult) -> tuple[str, float | None]:
    """The IoU type that says most of a model, as the gate of a reload takes it, and its AP."""
    kind = next(k for k in ("keypoints", "segm", "bbox") if k in detail.result.figures)
    return kind, detail.result.ap(kind)


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
