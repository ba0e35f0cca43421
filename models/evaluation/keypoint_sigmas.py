"""How far a keypoint may lie off: the falloffs that COCO's keypoint AP takes for each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.evaluation.errors import EvaluationError

COCO_KEYPOINTS = 17

UNIFORM_SIGMA = 0.067
"""For keypoints that nobody measured: the mean of COCO's 17 (0.025 of an eye to 0.107 of a hip)."""


def checked_sigmas(sigmas: Sequence[float] | None) -> tuple[float, ...] | None:
    """Falloffs that were given; None where none were, an empty sequence included.

    Raises:
        EvaluationError: one is no number above 0.
    """
    if sigmas is None or not len(sigmas):
        return None
    if not all(math.isfinite(sigma) and sigma > 0 for sigma in sigmas):
        raise EvaluationError(
            f"The sigmas of keypoints are {list(sigmas)}; each is a number above 0, in widths of the "
            "object."
        )
    return tuple(float(sigma) for sigma in sigmas)


def sigmas_of(number: int, given: tuple[float, ...] | None) -> tuple[tuple[float, ...] | None, str]:
    """What ``number`` keypoints are measured with, and a sentence where that is a guess.

    Returns:
        The falloffs, None for COCO's own 17; and "" or what a reader of the AP has to know.

    Raises:
        EvaluationError: another number was given.
    """
    if given is not None:
        if len(given) != number:
            raise EvaluationError(
                f"An instance has {number} keypoints, but there are {len(given)} sigmas; give one for "
                "each keypoint."
            )
        return given, ""
    if number == COCO_KEYPOINTS:
        return None, ""
    return (UNIFORM_SIGMA,) * number, (
        f"The {number} keypoints are not COCO's {COCO_KEYPOINTS}, so each was given the sigma "
        f"{UNIFORM_SIGMA}, the mean of COCO's. Keypoint AP is comparable only with figures of the same "
        "sigmas; give your own for the data set's precision."
    )
