"""How well a model finds what a COCO data set says is there: COCO AP of its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.average_precision import Figures, IouType, figures_of, run_coco_evaluation
from models.evaluation.categories import CategoryMap
from models.evaluation.coco_dataset import CocoDataset
from models.evaluation.errors import EvaluationError
from models.evaluation.files import read_picture
from models.evaluation.keypoint_sigmas import checked_sigmas, sigmas_of
from models.evaluation.run_lengths import encode_masks
from models.structures import Boxes, Instances

_FIELDS: dict[IouType, str] = {
    "bbox": "pred_boxes",
    "segm": "pred_masks",
    "keypoints": "pred_keypoints",
}
_TRUTHS: dict[IouType, str] = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


@dataclass(frozen=True)
class CocoResult:
    """What was measured; figures are 0 to 100, None where the data set has nothing to measure them by.

    Attributes:
        figures: per IoU type ("bbox", "segm", "keypoints") by COCO's names; see
            :class:`models.evaluation.average_precision.Figures`.
        per_class: per IoU type the AP by the category's name.
        dataset: its name.
        images: pictures.
        instances: annotated in them.
        detections: that were measured.
        classes_matched_by: "name", or "order" of the category ids.
        classes_left_out: classes of the model that the data set does not know, whose detections
            count for nothing.
        notes: sentences on what a reader of the figures should know.
    """

    figures: dict[str, dict[str, float | None]]
    per_class: dict[str, dict[str, float | None]]
    dataset: str
    images: int
    instances: int
    detections: int
    classes_matched_by: Literal["name", "order"]
    classes_left_out: int
    notes: tuple[str, ...] = ()

    def ap(self, iou_type: str = "bbox") -> float | None:
        """COCO AP, 0 to 100; None if it was not measured."""
        return self.figures.get(iou_type, {}).get("AP")

    def to_dict(self) -> dict[str, Any]:
        """As JSON, figures with three decimals."""
        content = asdict(self) | {"notes": list(self.notes)}
        for key in ("figures", "per_class"):
            content[key] = {
                kind: {n: None if v is None else round(v, 3) for n, v in figures.items()}
                for kind, figures in content[key].items()
            }
        return content


class CocoEvaluator:
    """Collects a model's answers to the pictures of a data set and measures them.

    Args:
        dataset: what is there.
        class_names: of the model, by class id; see :meth:`CategoryMap.between` for how they become
            categories.
        iou_types: what to measure, of "bbox", "segm" and "keypoints"; None for all that both the
            answers and every annotation have.
        keypoint_sigmas: falloff of each keypoint; None for COCO's where there are 17 of them as of a
            person, else one for all of them, which a note in the result tells.
        unknown_categories: see :meth:`CategoryMap.between`.

    Raises:
        EvaluationError: classes and categories do not fit, annotations lack what is to be measured, or
            a sigma is not above 0.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        class_names: Sequence[str],
        iou_types: Sequence[IouType] | None = None,
        *,
        keypoint_sigmas: Sequence[float] | None = None,
        unknown_categories: Literal["refuse", "miss"] = "refuse",
    ) -> None:
        self.categories = CategoryMap.between(
            dataset, class_names, unknown_categories=unknown_categories
        )
        self._dataset = dataset
        self._sizes = {image.id: (image.height, image.width) for image in dataset.images}
        self._sigmas = checked_sigmas(keypoint_sigmas)
        self._sigmas_used, self._sigmas_note = self._sigmas, ""
        self._wanted = iou_types
        for kind in iou_types or ():
            if kind not in _TRUTHS:
                raise EvaluationError(f"{kind!r} is no IoU type; there are {', '.join(_TRUTHS)}.")
            if not self._is_annotated(kind):
                raise EvaluationError(
                    f"{dataset.name} has annotations without {_TRUTHS[kind]}; leave {kind} out."
                )
        self._kinds: set[IouType] = {
            kind for kind in (iou_types or _TRUTHS) if self._is_annotated(kind)
        }
        self._keypoint_numbers = (
            {len(annotation["keypoints"]) // 3 for annotation in dataset.annotations}
            if "keypoints" in self._kinds
            else set()
        )
        # Of an answer without instances some models leave fields out: one that has them decides.
        self._offered: set[IouType] = set(iou_types or ())
        self._results: list[dict[str, Any]] = []
        self._seen: set[int] = set()

    def add(self, image_id: int, instances: Instances) -> None:
        """Take the answer to one picture, with no instances if nothing was found.

        Args:
            image_id: of the data set.
            instances: on the CPU, in pixels of the picture: ``pred_boxes``, ``scores`` and
                ``pred_classes``; ``pred_masks`` soft (R, 1, M, M) or as frames (R, H, W) bool;
                ``pred_keypoints`` (R, K, 3).

        Raises:
            EvaluationError: the picture is unknown or was added before; the answer is to a picture of
                another size, has rotated boxes, numbers that are not finite, classes that the model
                does not have, or lacks what is to be measured.
        """
        if image_id not in self._sizes or image_id in self._seen:
            what = "was added before" if image_id in self._seen else "is not in the data set"
            raise EvaluationError(f"Image {image_id} {what}.")
        name = f"The answer to image {image_id}"
        if instances.image_size != self._sizes[image_id]:
            raise EvaluationError(
                f"{name} is in {instances.image_size}, not in the picture's {self._sizes[image_id]}."
            )
        self._check(instances, name)
        category_ids = self.categories.category_ids
        classes = instances.pred_classes.tolist()
        if classes and not 0 <= min(classes) <= max(classes) < len(category_ids):
            raise EvaluationError(
                f"{name} has classes {min(classes)} to {max(classes)}; the model has "
                f"{len(category_ids)} names."
            )
        known = torch.tensor([category_ids[i] is not None for i in classes], dtype=torch.bool)
        self._results += self._as_results(image_id, instances[known])
        self._seen.add(image_id)

    def _check(self, instances: Instances, name: str) -> None:
        if not isinstance(instances.pred_boxes, Boxes):
            raise EvaluationError(
                f"{name} has rotated boxes, which COCO AP is not defined for; evaluate a model with "
                "upright boxes."
            )
        fields = [instances.pred_boxes.tensor, instances.scores]
        if instances.has("pred_keypoints"):
            fields.append(instances.pred_keypoints)
        if not all(bool(values.isfinite().all()) for values in fields):
            raise EvaluationError(
                f"{name} has numbers that are not finite; the weights are broken."
            )
        for kind in sorted(self._kinds):
            if instances.has(_FIELDS[kind]):
                self._offered.add(kind)
            elif len(instances):
                if self._wanted:
                    raise EvaluationError(
                        f"{name} has no {_FIELDS[kind]}; leave {kind} out for this model."
                    )
                self._kinds.discard(kind)
        if self._has(instances, "keypoints") and len(instances):
            self._check_keypoints(instances.pred_keypoints.shape[1], name)

    def _check_keypoints(self, number: int, name: str) -> None:
        """An instance has as many as an annotation, and as there are sigmas."""
        if self._keypoint_numbers - {number}:
            raise EvaluationError(
                f"{name} has {number} keypoints an instance; {self._dataset.name} has annotations with "
                "another number."
            )
        self._keypoint_numbers = {number}
        self._sigmas_used, self._sigmas_note = sigmas_of(number, self._sigmas)

    def _as_results(self, image_id: int, found: Instances) -> list[dict[str, Any]]:
        """In COCO's format, all kinds in one."""
        boxes = found.pred_boxes.tensor.double()
        corners = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1).tolist()
        masks = encode_masks(found) if self._has(found, "segm") else None
        keypoints = None
        if self._has(found, "keypoints"):
            # COCO's annotations are indices of pixels; answers are coordinates, in which the centre
            # of the first pixel is 0.5 (as Detectron2 has it).
            shift = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
            keypoints = (found.pred_keypoints.double() - shift).flatten(1).tolist()
        results = []
        for i, (class_id, score) in enumerate(
            zip(found.pred_classes.tolist(), found.scores.tolist(), strict=True)
        ):
            result = {
                "image_id": image_id,
                "category_id": self.categories.category_ids[class_id],
                "score": score,
                "bbox": corners[i],
            }
            if masks is not None:
                result["segmentation"] = masks[i]
            if keypoints is not None:
                result["keypoints"] = keypoints[i]
            results.append(result)
        return results

    def result(self) -> CocoResult:
        """Measure; pycocotools computes for a while, most of it in Python.

        Raises:
            EvaluationError: pictures of the data set were not added.
        """
        self._require_all()
        return self._summary(
            {kind: figures_of(self._run(kind), self._dataset, kind) for kind in self._measurable()}
        )

    def _require_all(self) -> None:
        total = len(self._dataset.images)
        if len(self._seen) < total:
            raise EvaluationError(
                f"{total - len(self._seen)} of {total} images have no answer; add one without "
                "instances for a picture in which nothing was found."
            )

    def _measurable(self) -> list[IouType]:
        """What answers and annotations both have, in COCO's order."""
        return [kind for kind in _TRUTHS if kind in self._kinds & self._offered]

    def _run(self, kind: IouType) -> Any:
        """pycocotools's evaluation; one of them takes much memory."""
        return run_coco_evaluation(
            self._dataset, self._results, kind, keypoint_sigmas=self._sigmas_used
        )

    def _summary(self, measured: dict[IouType, Figures]) -> CocoResult:
        names = self._dataset.categories
        return CocoResult(
            figures={kind: figures.overall for kind, figures in measured.items()},
            per_class={
                kind: {names[i]: ap for i, ap in figures.per_category.items()}
                for kind, figures in measured.items()
            },
            dataset=self._dataset.name,
            images=len(self._dataset.images),
            instances=len(self._dataset.annotations),
            detections=len(self._results),
            classes_matched_by=self.categories.matched_by,
            classes_left_out=self.categories.category_ids.count(None),
            notes=(self._sigmas_note,) if self._sigmas_note else (),
        )

    def _is_annotated(self, kind: IouType) -> bool:
        return all(_TRUTHS[kind] in annotation for annotation in self._dataset.annotations)

    def _has(self, found: Instances, kind: IouType) -> bool:
        return kind in self._kinds and found.has(_FIELDS[kind])


def evaluate(
    predict: Callable[[NDArray[np.uint8]], Instances],
    dataset: CocoDataset,
    class_names: Sequence[str],
    *,
    iou_types: Sequence[IouType] | None = None,
    keypoint_sigmas: Sequence[float] | None = None,
    unknown_categories: Literal["refuse", "miss"] = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> CocoResult:
    """Ask a model for every picture of a data set and measure its answers.

    Args:
        predict: answers a picture, (H, W, 3) uint8 RGB; a :class:`models.Predictor` does.
        dataset: the pictures and what is in them.
        class_names, iou_types, keypoint_sigmas, unknown_categories: see :class:`CocoEvaluator`.
        progress: called with the number of pictures done and of all, after each.

    Raises:
        EvaluationError: a picture cannot be read or has another size than the data set says; or as
            :class:`CocoEvaluator`.
    """
    evaluator = CocoEvaluator(
        dataset,
        class_names,
        iou_types,
        keypoint_sigmas=keypoint_sigmas,
        unknown_categories=unknown_categories,
    )
    for done, image in enumerate(dataset.images, start=1):
        evaluator.add(image.id, predict(read_picture(image.path, (image.height, image.width))))
        if progress is not None:
            progress(done, len(dataset.images))
    return evaluator.result()
