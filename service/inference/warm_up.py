"""Before a version takes traffic: run it on the shapes that its model's traffic has.

What runs for the first time is slow: kernels are chosen, memory is asked for, CUDA graphs are missing.
Each run is a call of its own on the model's thread, so requests to other versions run in between.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ModelError
from models.execution.probes import probe_pictures
from service.errors import ApiError
from service.inference.detector import Detector, ModelCall, PreparedImage, WarmsUp
from service.inference.device_errors import is_out_of_memory
from service.inference.traffic import TrafficShape

logger = logging.getLogger(__name__)

MOST_SHAPES = 8
BUDGET_S = 1.0
"""Traffic waits for each of these runs: on a CPU batches would take seconds, and save milliseconds."""
DEFAULT_SIDE = 256
"""Of the picture for a model that resizes nothing and had no traffic yet."""


@dataclass(frozen=True)
class WarmedShape:
    """One shape and batch size that a version ran: twice for one picture, once for a batch.

    Attributes:
        height, width: of the picture.
        padded_size: (height, width) of the batch in the version's own preparation.
        batch: pictures in it.
        first_s, second_s: seconds of the two runs; what a first request would have cost, and what the
            next cost. None: it ran once.
    """

    height: int
    width: int
    padded_size: tuple[int, int]
    batch: int
    first_s: float
    second_s: float | None


@dataclass(frozen=True)
class WarmUpReport:
    """What was run.

    Attributes:
        shapes: in the order that they ran in.
        from_traffic: whether they are those of the model's traffic; else it had none yet.
        too_large: batches that ran out of memory, as (padded height, padded width, batch).
        left_out: batches that did not run since the budget was spent.
        recording_s: seconds in the detector's own :meth:`WarmsUp.warm_up`.
    """

    shapes: tuple[WarmedShape, ...]
    from_traffic: bool
    too_large: tuple[tuple[int, int, int], ...]
    left_out: int
    recording_s: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def warm_up(
    detector: Detector,
    shapes: Sequence[TrafficShape],
    *,
    call: ModelCall,
    max_batch_pixels: int | None = None,
    budget_s: float = BUDGET_S,
) -> WarmUpReport:
    """Run ``detector`` on the shapes of traffic: each picture alone, then the largest batches seen.

    A batch that runs out of memory is halved, as it would be under traffic.

    Args:
        detector: loaded, without traffic.
        shapes: of the model's traffic, the most used first; the first 8 count. With none, one square
            picture of the model's own size runs.
        call: takes each run to the model's thread.
        max_batch_pixels: padded pixels that a batch of several never has.
        budget_s: seconds of running after which no further batch is begun.

    Raises:
        ModelError: the model fails, or a single picture does not fit the memory.
        ApiError: ``call`` takes nothing any more.
    """
    # A version that resizes otherwise may bring two shapes to one. The pictures are made once more when
    # they run: all at a time would be much memory.
    by_size: dict[tuple[int, int], TrafficShape] = {}
    for shape in list(shapes[:MOST_SHAPES]) or [_default_shape(detector)]:
        by_size.setdefault(_prepare(detector, shape).padded_size, shape)
    recording_s = 0.0
    if isinstance(detector, WarmsUp):
        started = time.monotonic()
        sizes = sorted(by_size, key=lambda size: -size[0] * size[1]) if shapes else None
        try:
            detector.warm_up(sizes, call=call)
        except ApiError:
            raise
        except Exception as error:  # whatever a model that does not work raises
            raise _failure(error) from error
        recording_s = time.monotonic() - started
    runs = _Runs(detector, call, max_batch_pixels)
    for shape in by_size.values():
        runs.alone(_prepare(detector, shape))
    left_out = 0
    for shape in by_size.values():
        if shape.batch > 1 and runs.seconds > budget_s:
            left_out += 1
        else:
            runs.together(_prepare(detector, shape), shape.batch)
    return WarmUpReport(
        shapes=tuple(runs.done),
        from_traffic=bool(shapes),
        too_large=tuple(runs.too_large),
        left_out=left_out,
        recording_s=recording_s,
    )


class _Runs:
    """The runs of one warm-up, and what came of them."""

    def __init__(self, detector: Detector, call: ModelCall, max_batch_pixels: int | None) -> None:
        self.done: list[WarmedShape] = []
        self.too_large: list[tuple[int, int, int]] = []
        self._detector = detector
        self._call = call
        self._max_batch_pixels = max_batch_pixels
        self.seconds = 0.0

    def alone(self, image: PreparedImage) -> None:
        """Run one picture, twice."""
        self._fits(image, 1)

    def together(self, image: PreparedImage, largest: int) -> None:
        """Run the largest batch that fits, once."""
        if self._max_batch_pixels is not None:
            largest = min(largest, self._max_batch_pixels // image.padded_pixels)
        while largest > 1 and not self._fits(image, largest):
            largest //= 2

    def _fits(self, image: PreparedImage, batch: int) -> bool:
        """Run it; whether there was memory for it."""
        try:
            first_s = self._run(image, batch)
            second_s = self._run(image, batch) if batch == 1 else None
        except ApiError:
            raise
        except Exception as error:  # whatever a model that does not work raises
            if not is_out_of_memory(error) or batch == 1:
                raise _failure(error, image) from error
        else:
            self.done.append(
                WarmedShape(image.height, image.width, image.padded_size, batch, first_s, second_s)
            )
            return True
        height, width = image.padded_size
        self.too_large.append((height, width, batch))
        logger.warning("warm-up: no memory for %d pictures of %dx%d", batch, height, width)
        return False

    def _run(self, image: PreparedImage, batch: int) -> float:
        """Seconds of one run, without the wait for the thread."""

        def timed() -> float:
            started = time.monotonic()
            self._detector.infer([image] * batch)
            return time.monotonic() - started

        seconds = self._call(timed)
        self.seconds += seconds
        return seconds


def _prepare(detector: Detector, shape: TrafficShape) -> PreparedImage:
    height, width = shape.height, shape.width
    whole = np.array([[0, 0, width, height]], dtype=np.float32)
    proposals = whole if detector.description.takes_proposals else None
    try:
        return detector.prepare(_picture(height, width), proposals=proposals)
    except Exception as error:  # as above
        raise _failure(error) from error


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: noise with shapes in it, of which a model rather finds something than in noise
    alone, so that its later parts run too."""
    # To the nearest pixel: quick at any size.
    large = Image.fromarray(_probe()).resize((width, height), Image.Resampling.NEAREST)
    return np.array(large)


@functools.cache
def _probe() -> NDArray[np.uint8]:
    """(H, W, 3) uint8, not to be changed: to draw it takes longer than many a model's run."""
    [picture] = probe_pictures(1)
    return picture


def _default_shape(detector: Detector) -> TrafficShape:
    side = detector.description.min_size or DEFAULT_SIDE
    return TrafficShape(height=side, width=side, padded_size=(side, side), batch=1, count=1)


def _failure(error: Exception, image: PreparedImage | None = None) -> ModelError:
    if is_out_of_memory(error):
        size = "x".join(map(str, image.padded_size)) if image is not None else "the usual size"
        return ModelError(
            f"The warm-up ran out of memory on a single picture ({size} after the resize). Lower "
            "INPUT.MAX_SIZE_TEST, use a larger device, or swap with strategy=in_place, which frees "
            "the current version first."
        )
    logger.error("the warm-up failed", exc_info=error)
    return ModelError(
        f"The model failed its warm-up: {type(error).__name__} on a picture. The server's log has "
        "the reason."
    )
