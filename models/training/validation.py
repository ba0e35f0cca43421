"""How good the model is while it trains, measured with the code that the reload gate uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from models.config import Config
from models.evaluation import (
    CocoDataset,
    CocoEvaluator,
    SemanticDataset,
    SemanticEvaluator,
    read_picture,
)
from models.evaluation.run_lengths import encode_masks
from models.predictor import Predictor
from models.training.distributed import World

ValidationSet = CocoDataset | SemanticDataset
Told = Callable[[int, int], None]

_NOTHING_RIGHT = 1.0
"""AP or IoU; a model that has learnt anything is above it."""

_PER_CLASS = {"sem_seg": "IoU"}


@dataclass(frozen=True)
class Measurement:
    """How good a model is; figures are 0 to 100.

    Attributes:
        figures: such as ``bbox/AP``, ``segm/AP50`` or ``sem_seg/mIoU``; what has no value is left out.
        per_class: per kind (bbox, segm, keypoints, sem_seg) the AP, or IoU, by the class's name; None
            where there is nothing to measure it by.
        detections: that were measured; None of label maps.
    """

    figures: dict[str, float]
    per_class: dict[str, dict[str, float | None]]
    detections: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def lines(self) -> dict[str, float]:
        """All figures for a log, those of classes as ``bbox/AP-disc``."""
        return self.figures | {
            f"{kind}/{_PER_CLASS.get(kind, 'AP')}-{name}": value
            for kind, classes in self.per_class.items()
            for name, value in classes.items()
            if value is not None
        }


def best_figure(dataset: ValidationSet) -> str:
    """What the best checkpoint is chosen by unless somebody says it."""
    return "sem_seg/mIoU" if isinstance(dataset, SemanticDataset) else "bbox/AP"


def measure(
    model: nn.Module,
    cfg: Config,
    dataset: ValidationSet,
    class_names: tuple[str, ...],
    world: World,
    progress: Told | None = None,
) -> Measurement | None:
    """Measure ``model``; the processes share the pictures and the first one has the result.

    The model is in evaluation mode afterwards.

    Args:
        dataset: what AP, or of label maps mIoU, is measured on.
        class_names: of the model's instances, by class id; label maps bring their own.
        progress: is told how many pictures of this process are done, and of all of its own.

    Raises:
        EvaluationError: the data set cannot be used.
    """
    predictor = Predictor(model, cfg)
    if isinstance(dataset, SemanticDataset):
        return _semantic(predictor, cfg, dataset, world, progress)
    mine = []
    part = dataset.images[world.rank :: world.size]
    for done, image in enumerate(part, start=1):
        found = predictor(read_picture(image.path, (image.height, image.width)))
        if found.has("pred_masks"):
            # Frames as large as the picture: of a whole data set they would not fit into memory.
            found.pred_masks = encode_masks(found)
        mine.append((image.id, found))
        if progress is not None:
            progress(done, len(part))
    gathered = world.at_first(mine)
    if not world.is_first:
        return None
    sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS) or None
    evaluator = CocoEvaluator(dataset, class_names, keypoint_sigmas=sigmas)
    for answers in gathered:
        for image_id, instances in answers:
            evaluator.add(image_id, instances)
    result = evaluator.result()
    figures = {
        f"{kind}/{name}": value
        for kind, values in result.figures.items()
        for name, value in values.items()
        if value is not None
    }
    return Measurement(figures, result.per_class, result.detections)


def _semantic(
    predictor: Predictor, cfg: Config, dataset: SemanticDataset, world: World, progress: Told | None
) -> Measurement | None:
    evaluator = SemanticEvaluator(dataset.class_names, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    part = dataset.images[world.rank :: world.size]
    for done, image in enumerate(part, start=1):
        picture = read_picture(image.path)
        labels = predictor.outputs(picture)["sem_seg"].argmax(dim=0)
        evaluator.add(labels, image.read_labels((picture.shape[0], picture.shape[1])), image.name)
        if progress is not None:
            progress(done, len(part))
    everyone = world.at_first(evaluator)
    if not world.is_first:
        return None
    for other in everyone[1:]:
        evaluator.take(other)
    result = evaluator.result()
    return Measurement(
        {f"sem_seg/{name}": v for name, v in result.figures.items() if v is not None},
        {"sem_seg": {name: row["IoU"] for name, row in result.per_class.items()}},
    )


def no_figure(name: str, result: Measurement) -> str:
    """What to say where the best checkpoint is to be chosen by a figure that there is not."""
    if not result.figures:
        return (
            "The validation set has nothing to measure by: no object is annotated in it. COCO's "
            "evaluation would say -1, Detectron2 nan."
        )
    return (
        f"There is no {name} to choose the best checkpoint by; there are "
        f"{', '.join(sorted(result.figures))}."
    )


def why_so_low(result: Measurement, pictures: int) -> str | None:
    """Where to look if a training ends with next to nothing right; None if it does not."""
    finals = [v for name, v in result.figures.items() if name.endswith(("/AP", "/mIoU"))]
    if not finals or max(finals) >= _NOTHING_RIGHT:
        return None
    if result.detections == 0:
        found = f"Nothing was found in the {pictures} validation pictures above the model's score threshold"
    else:
        found = f"Next to nothing is right in the {pictures} validation pictures"
    return (
        f"{found}. Did the losses fall (losses.png), and for long enough? Was the learning rate that of "
        "the batch? Are the objects where samples.png shows them? Did the backbone start from weights? "
        "detserve evaluate tells more."
    )


def forgetting(
    before: Mapping[str, Any] | None, after: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, Any]]:
    """Per kind and class the figure before and after a training, and the change.

    Args:
        before, after: see :attr:`Measurement.per_class`; no ``before`` when the training started from
            nothing.
    """
    rows = []
    for kind, classes in after.items():
        for name, now in classes.items():
            old = (before or {}).get(kind, {}).get(name)
            change = None if now is None or old is None else now - old
            row = {"before": old, "after": now, "change": change}
            rounded = {key: None if v is None else round(v, 3) for key, v in row.items()}
            rows.append({"kind": kind, "class": name, **rounded})
    return rows
