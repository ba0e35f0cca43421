"""The gate: a validation set in COCO's format that a new version has to pass before it takes traffic.

Pictures go to the model's thread one by one, so requests are answered in between. Figures are kept as
long as their version is loaded, so that those of the current one are measured once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError
from models.evaluation import CocoDataset, evaluate
from models.evaluation.average_precision import IouType
from models.structures import Instances
from service.errors import Unprocessable
from service.inference.detector import Detector, ModelCall
from service.repository.model_settings import Gate
from service.repository.version import ModelVersion
from service.security import resolve_under

Measured = dict[tuple[str, IouType], dict[str, Any]]
"""Figures by the content of the validation set and by what was compared."""
Figures = WeakKeyDictionary[Detector, Measured]
"""What was measured, by the detector itself: the same weights may run with another config."""

MOST_FIGURES = 32
"""Sets whose figures are kept of a detector."""

Whose = Literal["new", "current"]
_OUTPUTS: dict[str, IouType] = {"keypoints": "keypoints", "masks": "segm", "instances": "bbox"}
"""What of a model is compared unless the gate says it, the finest first."""


@dataclass(frozen=True)
class GateRun:
    """A gate with its files, which are under the root that the request may name.

    Attributes:
        gate: what is required.
        dataset: the annotations.
        images: folder of the pictures; None: beside the annotations.
    """

    gate: Gate
    dataset: Path
    images: Path | None

    @classmethod
    def under(cls, gate: Gate, folder: Path, root: Path) -> GateRun:
        """``gate`` with its paths, which are relative to ``folder`` and lie under ``root``.

        Raises:
            Forbidden: ``path_outside_root``.
        """
        dataset = resolve_under(root, str(folder / gate.dataset))
        images = None if gate.images is None else resolve_under(root, str(folder / gate.images))
        return cls(gate, dataset, images)

    def run(
        self,
        detector: Detector,
        current: ModelVersion | None,
        *,
        call: ModelCall,
        progress: Callable[[int, int], None],
        known: Figures,
    ) -> dict[str, Any]:
        """The table of figures of ``detector``, beside those of the current version if they matter.

        Args:
            detector: of the new version.
            current: the version to be compared with; None without.
            call: takes each picture to the model's thread.
            progress: is told of the pictures done, and of all.
            known: what was measured before; gets what is measured now.

        Raises:
            Unprocessable: ``gate_impossible``: the set cannot be used with this model.
        """
        gate = self.gate
        against = current.detector if current is not None and gate.max_drop is not None else None
        sides: list[tuple[Detector, Whose]] = [(detector, "new")]
        if against is not None:
            sides.insert(0, (against, "current"))
        key = (self._content(), self._kinds(*sides)[0])
        pending = [side for side in sides if key not in known.get(side[0], {})]
        for place, (one, whose) in enumerate(pending):

            def told(done: int, of: int, place: int = place) -> None:
                progress(place * of + done, len(pending) * of)

            _keep(known, one, self._measured(one, whose, [key], call, told))
        progress(1, 1)
        found = known[detector][key]
        before = known[against][key] if against is not None else None
        kind = key[1]
        ap = found["figures"][kind]["AP"]
        before_ap = before["figures"][kind]["AP"] if before is not None else None
        failures = []
        if gate.min_ap is not None and (ap is None or ap < gate.min_ap):
            failures.append(f"{kind} AP is {_told(ap)}; at least {gate.min_ap:g} is required")
        if before is not None and (ap is None or before_ap is None):
            failures.append(
                f"{kind} AP is not measurable: {self.dataset.name} has nothing to measure it by"
            )
        elif gate.max_drop is not None and before is not None and against is not None:
            new = _classes_that_are_new(before["per_class"][kind], against)
            old_ap, new_ap = (_without(side, kind, new) for side in (before, found))
            drop = round(old_ap - new_ap, 3)  # as exact as figures are told
            if drop > gate.max_drop:
                which = " of the classes that the current version knows" if new else ""
                failures.append(
                    f"{kind} AP{which} drops by {drop:.2f}, from {_told(old_ap)} to {_told(new_ap)}; at "
                    f"most {gate.max_drop:g} is allowed"
                )
        return {
            "passed": not failures,
            "failures": failures,
            "iou_type": kind,
            "min_ap": gate.min_ap,
            "max_drop": gate.max_drop,
            "ap": ap,
            "current_ap": before_ap,
            "candidate": found,
            "current": before,
        }

    def measure(self, version: ModelVersion, *, call: ModelCall, known: Figures) -> None:
        """Measure the current version while it is there still, where it will be compared with.

        All that it has is measured: the new one is not known yet, and may have less.

        Raises:
            Unprocessable: ``gate_impossible``.
        """
        if self.gate.max_drop is None:
            return
        detector, content = version.detector, self._content()
        keys = [(content, kind) for kind in self._kinds((detector, "current"))]
        missing = [key for key in keys if key not in known.get(detector, {})]
        if missing:
            found = self._measured(detector, "current", missing, call, lambda done, of: None)
            _keep(known, detector, found)

    @staticmethod
    def require_passed(table: dict[str, Any]) -> None:
        """Raise :class:`Unprocessable` ``gate_failed`` with the figures, unless they are good enough."""
        if not table["passed"]:
            raise Unprocessable(
                "gate_failed",
                f"The new version did not pass the gate: {'; '.join(table['failures'])}. The old one "
                "goes on.",
                gate=table,
            )

    def _kinds(self, *sides: tuple[Detector, Whose]) -> list[IouType]:
        """What can be compared of all of them, the finest first; what the gate names is all there is."""
        kinds = list(_OUTPUTS.values())
        for detector, whose in sides:
            description = detector.description
            if description.takes_proposals or "instances" not in description.outputs:
                remedy = "the gate" if whose == "new" else "max_drop"
                raise Unprocessable(
                    "gate_impossible",
                    f"The {whose} version is a kind of model that has no instances of its own to "
                    f"measure AP by; leave {remedy} out.",
                )
            kinds = [
                kind
                for output, kind in _OUTPUTS.items()
                if kind in kinds and output in description.outputs
            ]
        return kinds if self.gate.iou_type is None else [self.gate.iou_type]

    def _measured(
        self,
        detector: Detector,
        whose: Whose,
        keys: Sequence[tuple[str, IouType]],
        call: ModelCall,
        progress: Callable[[int, int], None],
    ) -> Measured:
        """The figures of ``detector`` for all ``keys``, from one pass."""

        def predict(pixels: NDArray[np.uint8]) -> Instances:
            prepared = detector.prepare(pixels)
            found = call(lambda: detector.infer([prepared]))[0].instances
            assert found is not None, "a model with instances answers with them"
            return found

        kinds = [kind for _, kind in keys]
        try:
            dataset = CocoDataset.load(self.dataset, self.images)
            if self.gate.max_images is not None:
                dataset = dataset.subset(self.gate.max_images)
            names = detector.description.class_names
            result = evaluate(
                predict,
                dataset,
                names,
                iou_types=kinds,
                # The new version may have been taught classes that the current one does not know.
                unknown_categories="refuse" if whose == "new" else "miss",
                progress=progress,
            )
        except ModelError as error:
            raise Unprocessable(
                "gate_impossible",
                f"The gate cannot be run on the {whose} version: {error.message}",
                **error.details,
            ) from None
        return dict.fromkeys(keys, result.to_dict())

    def _content(self) -> str:
        """What tells the set from another, without a look inside, and what of it is used."""
        try:
            found = self.dataset.stat()
        except OSError as error:
            raise Unprocessable(
                "gate_impossible",
                f"The annotations {self.dataset.name} cannot be read: {error.strerror}.",
            ) from None
        file = (self.dataset, found.st_ino, found.st_size, found.st_mtime_ns)
        return repr((file, self.images, self.gate.max_images))


def _classes_that_are_new(per_class: dict[str, Any], current: Detector) -> set[str]:
    """Classes of the set that the current version does not know: it has nothing to lose there."""
    known = set(current.description.class_names)
    return set(per_class) - known if known & set(per_class) else set()


def _without(table: dict[str, Any], kind: str, left_out: set[str]) -> float:
    """The AP of a side, of all classes but those."""
    if not left_out:
        ap: float = table["figures"][kind]["AP"]
        return ap
    rest = [v for name, v in table["per_class"][kind].items() if name not in left_out]
    return fmean(value for value in rest if value is not None)


def _keep(known: Figures, detector: Detector, found: Measured) -> None:
    kept = known.setdefault(detector, {})
    kept.update(found)
    while len(kept) > MOST_FIGURES:
        del kept[next(iter(kept))]


def _told(ap: float | None) -> str:
    return "not measurable" if ap is None else f"{ap:.2f}"
