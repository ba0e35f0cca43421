"""What ``detserve evaluate`` measures: a model that answers pictures, here or on a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.inference.detector import Prediction


@dataclass(frozen=True)
class Subject:
    """Who answers.

    Attributes:
        title: for people, such as ``shapes, version 2``.
        class_names: of its instances, by class id.
        stuff_class_names: of its semantic map.
        outputs: see :class:`service.inference.detector.ModelDescription`.
        score_threshold: the model's own: it computes nothing at or below.
        score_threshold_key: of its config, that sets it.
        input_format: channel order that it was trained on.
        has_tta: whether there is test-time augmentation for it.
        takes_proposals: whether it needs boxes with each picture.
        facts: more for people, by name.
    """

    title: str
    class_names: tuple[str, ...]
    stuff_class_names: tuple[str, ...]
    outputs: tuple[str, ...]
    score_threshold: float
    input_format: str
    has_tta: bool
    takes_proposals: bool
    facts: tuple[tuple[str, str], ...] = ()
    score_threshold_key: str = "SCORE_THRESH_TEST"


@dataclass(frozen=True)
class Picture:
    """A file, and the (height, width) that the data set says it has; None where it does not say."""

    path: Path
    size: tuple[int, int] | None = None


class AnswerSource(Protocol):
    """A model that answers pictures."""

    @property
    def subject(self) -> Subject:
        """What it is."""

    def answers(self, pictures: Sequence[Picture], tta: str) -> Iterator[Prediction]:
        """An answer for each picture, in their order, in pixels of the picture and in full precision.

        All that the model finds is answered: its own thresholds, and no others.

        Args:
            pictures: read when their turn comes.
            tta: test-time augmentation: "none", "flip", "full", or sizes such as "400,600".

        Raises:
            ModelError, ApiError: with a sentence that says why there is no answer.
        """

    def close(self) -> None:
        """Let go of the model, or of the connection."""
