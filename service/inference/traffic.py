"""What pictures a model really gets: the shapes that a next version is warmed up on."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from service.inference.detector import PreparedImage

logger = logging.getLogger(__name__)

MOST_SHAPES = 64
HALVE_AFTER = 100_000
"""Pictures after which all counts are halved, so that what comes now outweighs what came last year."""
LARGEST_SIDE = 1 << 20
LARGEST_BATCH = 1 << 16


@dataclass(frozen=True)
class TrafficShape:
    """Pictures that run at one padded size.

    Attributes:
        height, width: of one of them as a viewer shows it, the latest.
        padded_size: (height, width) of the batches that they ran in.
        batch: images of the largest of these batches.
        count: of pictures; old ones weigh less.
    """

    height: int
    width: int
    padded_size: tuple[int, int]
    batch: int
    count: int


class TrafficShapes:
    """The shapes of one model's traffic; of any thread.

    Args:
        most_shapes: how many are kept; a new one takes the place of the least used, and of these of
            the one that was not seen for longest.
    """

    def __init__(self, *, most_shapes: int = MOST_SHAPES) -> None:
        self._most_shapes = most_shapes
        self._lock = threading.Lock()
        # Of each padded size; the one that was seen last is the last.
        self._shapes: dict[tuple[int, int], TrafficShape] = {}
        self._pictures = 0

    def add(self, batch: Sequence[PreparedImage]) -> None:
        """Count a batch that ran. Those of test-time augmentation are left out: their views have sizes
        of their own."""
        plain = [image for image in batch if not image.views]
        if not plain:
            return
        last = plain[-1]
        with self._lock:
            known = self._shapes.pop(last.padded_size, None)
            if known is None and len(self._shapes) >= self._most_shapes:
                # The first of equals is the one that was not seen for longest.
                least = min(self._shapes.values(), key=lambda shape: shape.count)
                del self._shapes[least.padded_size]
            self._shapes[last.padded_size] = TrafficShape(
                height=last.height,
                width=last.width,
                padded_size=last.padded_size,
                batch=max(len(plain), known.batch if known else 0),
                count=len(plain) + (known.count if known else 0),
            )
            self._pictures += len(plain)
            if self._pictures >= HALVE_AFTER:
                self._pictures = 0
                self._shapes = {
                    size: replace(shape, count=(shape.count + 1) // 2)
                    for size, shape in self._shapes.items()
                }

    def most_common(self, number: int) -> list[TrafficShape]:
        """At most ``number`` shapes, the most used first, and of these the one that was seen last."""
        with self._lock:
            latest_first = reversed(self._shapes.values())
            return sorted(latest_first, key=lambda shape: -shape.count)[:number]

    def to_json(self) -> str:
        """All that :meth:`from_json` needs."""
        with self._lock:
            shapes = [asdict(shape) for shape in self._shapes.values()]
        return json.dumps({"shapes": shapes})

    @classmethod
    def from_json(cls, text: str | bytes, *, most_shapes: int = MOST_SHAPES) -> TrafficShapes:
        """What was kept; nothing, and a line in the log, where ``text`` is damaged."""
        traffic = cls(most_shapes=most_shapes)
        try:
            shapes = [_shape(entry) for entry in json.loads(text)["shapes"]]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            logger.warning(
                "what was kept of the shapes of traffic is damaged and left out: %s",
                type(error).__name__,
            )
            return traffic
        traffic._shapes = {shape.padded_size: shape for shape in shapes[-most_shapes:]}
        return traffic


def _shape(entry: dict[str, Any]) -> TrafficShape:
    """Raises ValueError, TypeError or KeyError for what no server has written."""
    padded_height, padded_width = entry["padded_size"]
    sides = (entry["height"], entry["width"], padded_height, padded_width)
    if not all(type(number) is int for number in (*sides, entry["batch"], entry["count"])):
        raise TypeError("a number is no integer")
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise ValueError("no size of a picture")
    if not 0 < entry["batch"] <= LARGEST_BATCH or entry["count"] < 1:
        raise ValueError("no number of pictures")
    return TrafficShape(
        height=entry["height"],
        width=entry["width"],
        padded_size=(padded_height, padded_width),
        batch=entry["batch"],
        count=entry["count"],
    )
