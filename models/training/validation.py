"""How good the model is while it trains, measured with the code that the reload gate uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from models.config import Config
from models.evaluation import (
    CocoDataset,
    CocoEvaluator,
    SemanticDataset,
    SemanticEvaluator,
    read_picture,
)
from models.predictor import Predictor
from models.training.distributed import World

ValidationSet = CocoDataset | SemanticDataset
Told = Callable[[int, int], None]

_PER_CLASS = {"sem_seg": "IoU"}


@dataclass(frozen=True)
class Measurement:
    """How good a model is; figures are 0 to 100.

    Attributes:
        figures: such as ``bbox/AP``, ``segm/AP50`` or ``sem_seg/mIoU``; what has no value is left out.
        per_class: per kind (bbox, segm, keypoints, sem_seg) the AP, or IoU, by the class's name; None
            where there is nothing to measure it by.
    """

    figures: dict[str, float]
    per_class: dict[str, dict[str, float | None]]

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
        picture = read_picture(image.path, (image.height, image.width))
        mine.append((image.id, predictor(picture).to("cpu")))
        if progress is not None:
            progress(done, len(part))
    gathered = world.gather(mine)
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
    return Measurement(figures, result.per_class)


def _semantic(
    predictor: Predictor, cfg: Config, dataset: SemanticDataset, world: World, progress: Told | None
) -> Measurement | None:
    mine = []
    part = dataset.images[world.rank :: world.size]
    for done, image in enumerate(part, start=1):
        picture = read_picture(image.path)
        scores = predictor.outputs(picture)["sem_seg"]
        labels = scores.argmax(dim=0).cpu().numpy().astype(np.int32)
        mine.append((labels, image.read_labels((picture.shape[0], picture.shape[1])), image.name))
        if progress is not None:
            progress(done, len(part))
    gathered = world.gather(mine)
    if not world.is_first:
        return None
    evaluator = SemanticEvaluator(dataset.class_names, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    for answers in gathered:
        for labels, truth, name in answers:
            evaluator.add(labels, truth, name)
    result = evaluator.result()
    return Measurement(
        {f"sem_seg/{name}": v for name, v in result.figures.items() if v is not None},
        {"sem_seg": {name: row["IoU"] for name, row in result.per_class.items()}},
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
