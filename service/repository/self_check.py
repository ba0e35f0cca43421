"""Before a version takes traffic: does it answer at all, with numbers that can be, and as it should?

A model may hide that its weights are damaged: scores of NaN are above no threshold, so it just finds
nothing. So its weights are looked through, not its answers alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ModelError
from models.evaluation.golden_answers import GoldenAnswers, GoldenImage
from models.execution.deviation import Deviation
from models.structures import Boxes, Instances
from service.errors import ApiError
from service.images.decoding import decode_image
from service.images.limits import ImageLimits
from service.inference.detector import Detector, KnowsItsNumbers, ModelCall, Prediction
from service.inference.device_errors import is_out_of_memory
from service.settings import PRETRAINED

logger = logging.getLogger(__name__)

SAMPLES = ("shapes-1.jpg", "shapes-2.jpg")
NOISE_SIDE, DEFAULT_SIDE = 512, 256
"""Of the noise picture: at most, since the check shall be quick, and for a model that resizes nothing."""
GOLDEN_BYTES = 64 << 20
"""Of one picture at most, as a request's body may hold."""
BEYOND_PX = 1.0
"""What rounding may take a box beyond the edge of its picture."""

FAST_MATCHED, FAST_SCORE, FAST_PIXELS = 0.3, 0.1, 0.1
"""Half precision and the fast resize: share of instances with a counterpart at least, difference of
their scores and share of other pixels at most. Trained weights stay far within (0.98, 0.012); random
ones, whose boxes tie, were seen at 0.5."""
FEW_INSTANCES = 10
"""Of fewer a share says little."""


@dataclass(frozen=True)
class CheckedPicture:
    """One picture that a version answered.

    Attributes:
        name: ``noise``, or the file's.
        height, width: in pixels.
        found: instances, or proposals of a model that gives no more.
        seconds: of the run.
    """

    name: str
    height: int
    width: int
    found: int
    seconds: float


@dataclass(frozen=True)
class SelfCheckReport:
    """What a version that passed has shown.

    Attributes:
        pictures: those that it answered.
        weights_checked: whether its weights were looked through: a detector may not let us.
        deviation: of its fast execution path from the reference, measured at load; None where that
            is what it runs, or it was not measured.
        golden: how its answers to its golden pictures compare, as
            :meth:`models.evaluation.golden_answers.GoldenVerdict.to_dict` tells; None without any.
    """

    pictures: tuple[CheckedPicture, ...]
    weights_checked: bool
    deviation: dict[str, Any] | None
    golden: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def self_check(
    detector: Detector, *, call: ModelCall, golden: Path | None = None
) -> SelfCheckReport:
    """Run ``detector`` on noise, on pictures of things and on its golden ones, and look at its numbers.

    Args:
        detector: loaded, without traffic.
        call: takes each run to the model's thread.
        golden: the version's folder, if it ships golden answers.

    Raises:
        ModelError: it fails, holds or answers numbers that are not finite, answers with boxes outside
            of a picture, runs too far from the reference, or does not give its golden answers.
        ApiError: ``call`` takes nothing any more.
    """
    deviation = detector.description.execution.get("deviation")
    if deviation is not None:
        _check_deviation(Deviation(**deviation), detector.description.execution)
    answers = GoldenAnswers.load(golden) if golden is not None else None
    if isinstance(detector, KnowsItsNumbers):
        damaged = call(detector.not_finite)
        if damaged is not None:
            raise ModelError(
                f"The model failed its self-check: its weights hold numbers that are not finite, in "
                f"{damaged} first. The weights are damaged, or the training diverged.",
                tensor=damaged,
            )
    pictures = [_checked(detector, name, pixels, call)[0] for name, pixels in _pictures(detector)]
    verdict = None
    if answers is not None:
        of_golden, verdict = _check_golden(detector, answers, call)
        pictures += of_golden
    return SelfCheckReport(
        pictures=tuple(pictures),
        weights_checked=isinstance(detector, KnowsItsNumbers),
        deviation=deviation,
        golden=verdict,
    )


def _pictures(detector: Detector) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and (H, W, 3) uint8 RGB pixels."""
    side = min(detector.description.min_size or DEFAULT_SIDE, NOISE_SIDE)
    yield "noise", np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for name in SAMPLES:
        data = (PRETRAINED / "samples" / name).read_bytes()
        yield name, decode_image(data, ImageLimits()).pixels


def _check_golden(
    detector: Detector, answers: GoldenAnswers, call: ModelCall
) -> tuple[list[CheckedPicture], dict[str, Any]]:
    """The pictures that were answered, and the table of figures. Raises :class:`ModelError`."""
    if detector.description.takes_proposals:
        raise ModelError(
            "The version ships golden answers, and its model takes proposals, which these have not. "
            "Leave golden.json out."
        )
    pictures, comparisons = [], []
    for image in answers.images:
        picture, prediction = _checked(detector, image.name, _golden_pixels(image), call)
        if prediction.instances is None:
            raise ModelError(
                "The version ships golden answers, which are of instances, and its model answers none. "
                "Leave golden.json out."
            )
        pictures.append(picture)
        comparisons.append(answers.compare(image.name, prediction.instances))
    verdict = answers.verdict(comparisons)
    if not verdict.holds:
        missed = ", ".join(
            f"{figure.name} is {figure.value:.4g} ({figure.bound.replace('_', ' ')} {figure.limit:.4g})"
            for figure in verdict.figures
            if not figure.holds
        )
        raise ModelError(
            f"The model does not give the golden answers that its version ships: {missed}. Either the "
            "weights or golden.json are not what they should be.",
            golden=verdict.to_dict(),
        )
    return pictures, verdict.to_dict()


def _golden_pixels(image: GoldenImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, as a request's picture is decoded."""
    try:
        with image.path.open("rb") as file:
            data = file.read(GOLDEN_BYTES + 1)
        if len(data) > GOLDEN_BYTES:
            raise ModelError(
                f"The golden picture {image.name!r} is larger than {GOLDEN_BYTES} bytes."
            )
        return decode_image(data, ImageLimits()).pixels
    except OSError as error:
        raise ModelError(
            f"The golden picture {image.name!r} cannot be read: {error.strerror}."
        ) from error
    except ApiError as error:
        raise ModelError(f"The golden picture {image.name!r}: {error.message}") from error


def _checked(
    detector: Detector, name: str, pixels: NDArray[np.uint8], call: ModelCall
) -> tuple[CheckedPicture, Prediction]:
    """Run one picture. Raises :class:`ModelError` for an answer that cannot be."""
    height, width = pixels.shape[:2]
    prediction, seconds = _predict(detector, pixels, call)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in _numbers(prediction)):
        raise ModelError(
            "The model failed its self-check: it answers with numbers that are not finite. "
            "The weights are damaged, or the training diverged.",
            picture=name,
        )
    found, proposed = prediction.instances, prediction.proposals
    boxes: Any = None
    if found is not None:
        boxes = found.pred_boxes
    elif proposed is not None:
        boxes = proposed.proposal_boxes
    # Rotated boxes may reach out of a picture.
    if isinstance(boxes, Boxes) and not _is_within(boxes.tensor, height, width):
        raise ModelError(
            "The model failed its self-check: it answers with boxes outside of the picture. Does the "
            "config belong to these weights?",
            picture=name,
        )
    number = 0 if boxes is None else len(boxes)
    return CheckedPicture(name, height, width, number, seconds), prediction


def _predict(
    detector: Detector, pixels: NDArray[np.uint8], call: ModelCall
) -> tuple[Prediction, float]:
    """The answer, and the seconds that it took."""
    height, width = pixels.shape[:2]
    whole = np.array([[0, 0, width, height]], dtype=np.float32)
    proposals = whole if detector.description.takes_proposals else None

    def run() -> tuple[Prediction, float]:
        started = time.monotonic()
        [prediction] = detector.infer([image])
        return prediction, time.monotonic() - started

    try:
        image = detector.prepare(pixels, proposals=proposals)
        return call(run)
    except ApiError:
        raise
    except Exception as error:  # whatever a model that does not work raises
        if is_out_of_memory(error):
            raise ModelError(
                f"The model failed its self-check: one picture ({height}x{width}) does not fit the "
                "device's memory beside the current version. Reload with strategy=in_place, or use "
                "a larger device."
            ) from error
        logger.error("the self-check failed", exc_info=error)
        raise ModelError(
            f"The model failed its self-check: {type(error).__name__} on a test picture. "
            "The server's log has the reason."
        ) from error


def _numbers(prediction: Prediction) -> Iterator[Tensor]:
    """All tensors of floating-point numbers in an answer."""
    values: list[Any] = [prediction.sem_seg, prediction.found_scores]
    for part in (prediction.instances, prediction.proposals):
        if isinstance(part, Instances):
            values += part.get_fields().values()
    for value in values:
        tensor = getattr(value, "tensor", value)
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            yield tensor


def _is_within(boxes: Tensor, height: int, width: int) -> bool:
    if len(boxes) == 0:
        return True
    sides = boxes.new_tensor([width, height, width, height])
    return bool(((boxes >= -BEYOND_PX) & (boxes <= sides + BEYOND_PX)).all())


def _check_deviation(deviation: Deviation, execution: dict[str, Any]) -> None:
    """Raises :class:`ModelError` for an execution path that is too far from the reference."""
    # The promise of the exact mode is about the model, not about a faster resize in front of it.
    if execution.get("mode") == "exact" and execution.get("resize") != "fast":
        holds = deviation.is_exact
    else:
        few = deviation.instances < FEW_INSTANCES
        holds = (
            (few or (deviation.matched >= FAST_MATCHED and deviation.score <= FAST_SCORE))
            and deviation.pixels <= FAST_PIXELS
        )  # fmt: skip
    if not holds:
        raise ModelError(
            f"The model failed its self-check: in mode {execution.get('mode')} its answers are too far "
            f"from the reference ({deviation.matched:.0%} of the instances have a counterpart, scores "
            f"differ by {deviation.score:.2g}). Serve it with mode=reference, or mode=exact if it "
            "runs in fast.",
            deviation=deviation.to_dict(),
        )
