"""What each version answers to each picture, and whether an answer under load agrees with it.

Batches differ, and so does rounding: boxes, scores and masks may be off by a little. Two versions
must differ by more than that in every picture, so that each picture tells who answered it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

BOX_PX, SCORE, MASK_IOU = 0.05, 1e-3, 0.99
"""What rounding may change: a coordinate of a box and a score at most, the IoU of two masks at least."""

Kind = Literal[
    "refused", "incomplete", "unknown", "mixed", "misnamed", "different", "untimely", "swap"
]


@dataclass(frozen=True)
class Problem:
    """What must not be.

    Attributes:
        kind: ``refused``: no answer, or another status than 200. ``incomplete``: a picture lacks its
            instances. ``unknown``: a version that there is not. ``mixed``: pictures of one request
            agree with different versions. ``misnamed``: all agree with a version that the answer does
            not name. ``different``: a picture agrees with no version. ``untimely``: the version was
            not current at any time between the request and its answer. ``swap``: a swap failed.
        text: what was seen.
    """

    kind: Kind
    text: str


@dataclass(frozen=True)
class Found:
    """The instances of one picture: boxes (R, 4) in pixels, scores (R,), classes and COCO masks."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: tuple[int, ...]
    masks: tuple[dict[str, Any], ...] | None

    @classmethod
    def of(cls, instances: Mapping[str, Any]) -> Self:
        """From ``instances`` of the JSON of ``POST /predict``. Raises KeyError for what is none."""
        masks = instances.get("masks")
        return cls(
            boxes=np.array(instances["pred_boxes"], dtype=np.float64).reshape(-1, 4),
            scores=np.array(instances["scores"], dtype=np.float64),
            classes=tuple(instances["pred_classes"]),
            masks=tuple(masks) if masks is not None else None,
        )

    def difference(self, other: Self) -> str | None:
        """Why this is not ``other`` but for rounding; None when it is. The order does not matter."""
        if len(self.classes) != len(other.classes):
            return f"{len(self.classes)} instances, not {len(other.classes)}"
        if (self.masks is None) != (other.masks is None):
            return "masks in one of two"
        free = list(range(len(self.classes)))
        for wanted in range(len(other.classes)):
            match = next((mine for mine in free if self._is_same(mine, other, wanted)), None)
            if match is None:
                box = [round(side, 2) for side in other.boxes[wanted].tolist()]
                return (
                    f"no counterpart of class {other.classes[wanted]}, score "
                    f"{other.scores[wanted]:.4f}, box {box}"
                )
            free.remove(match)
        return None

    def _is_same(self, mine: int, other: Self, theirs: int) -> bool:
        return (
            self.classes[mine] == other.classes[theirs]
            and abs(self.scores[mine] - other.scores[theirs]) <= SCORE
            and float(np.abs(self.boxes[mine] - other.boxes[theirs]).max()) <= BOX_PX
            and self._has_same_mask(mine, other, theirs)
        )

    def _has_same_mask(self, mine: int, other: Self, theirs: int) -> bool:
        if self.masks is None or other.masks is None:
            return True
        mask, wanted = self.masks[mine], other.masks[theirs]
        if mask == wanted:  # nearly always, and much cheaper
            return True
        return float(coco_masks.iou([mask], [wanted], [0])[0, 0]) >= MASK_IOU


@dataclass(frozen=True)
class VersionAnswers:
    """What one version answers.

    Attributes:
        label: its name.
        sha256: of its weights.
        found: by the names of pictures.
    """

    label: str
    sha256: str
    found: Mapping[str, Found]


Versions = Mapping[str, VersionAnswers]
"""By their labels."""


def check_answer(
    answer: Mapping[str, Any],
    pictures: Sequence[str],
    versions: Versions,
    current: Collection[str],
) -> Problem | None:
    """What is wrong with the JSON of one answer; None when nothing is.

    Args:
        answer: of ``POST /predict``.
        pictures: names of what was sent, in order.
        versions: what each version answers to each of them.
        current: labels that were current at any time between the request and its answer.
    """
    label = answer["model"]["version"]
    if label not in versions:
        return Problem("unknown", f"the answer names version {label!r}")
    predictions = answer["predictions"]
    if len(predictions) != len(pictures) or any("instances" not in one for one in predictions):
        return Problem(
            "incomplete", f"{len(pictures)} pictures, and in answer {predictions!r:.300}"
        )
    named = versions[label]
    agreeing: list[str] = []
    for picture, prediction in zip(pictures, predictions, strict=True):
        found = Found.of(prediction["instances"])
        others = (version for version in versions.values() if version is not named)
        who = next(
            (
                version.label
                for version in (named, *others)
                if found.difference(version.found[picture]) is None
            ),
            None,
        )
        if who is None:
            why = found.difference(named.found[picture])
            return Problem("different", f"{picture} by version {label}: {why}")
        agreeing.append(who)
    if len(set(agreeing)) > 1:
        return Problem("mixed", f"{pictures} were answered by versions {agreeing}")
    if agreeing and agreeing[0] != label:
        return Problem("misnamed", f"version {agreeing[0]} answered, the answer names {label}")
    if answer["model"]["weights_sha256"] != named.sha256:
        return Problem("misnamed", f"the answer of version {label} names the weights of another")
    if label not in current:
        return Problem("untimely", f"version {label} answered while {sorted(current)} was current")
    return None


def look_alike(versions: Versions) -> list[str]:
    """Pictures that do not tell two of the versions apart: they agree but for rounding."""
    alike: list[str] = []
    listed = list(versions.values())
    for place, version in enumerate(listed):
        for other in listed[place + 1 :]:
            alike += [
                name
                for name, found in version.found.items()
                if found.difference(other.found[name]) is None
            ]
    return alike
