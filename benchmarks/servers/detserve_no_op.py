"""detserve as it is served, around a detector that does nothing: what the service itself costs.

python benchmarks/servers/detserve_no_op.py --port 8003
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from no_op import BOXES, CLASSES, SCORES
from numpy.typing import NDArray

from models.structures import Boxes, Instances
from service.allocator import keep_large_buffers
from service.app import create_app
from service.inference.detector import ModelDescription, Prediction, PreparedImage, Views
from service.logging import configure_logging
from service.repository.source import ModelSource
from service.runtime import Runtime
from service.server import serve
from service.settings import Settings


class NoOpDetector:
    """Three boxes for every picture; of the picture itself only the size is looked at."""

    recipe: Hashable = "no-op"
    description = ModelDescription(
        architecture="NoOp",
        backbone="none",
        task="object_detection",
        class_names=("a", "b", "c"),
        class_names_source="placeholder",
        score_threshold=0.05,
        nms_threshold=0.5,
        max_detections=100,
        input_format="RGB",
        min_size=32,
        max_size=32,
        device="cpu",
        precision="float32",
        weights_file="none",
        weights_sha256="0" * 64,
        config_file="none",
        outputs=("instances",),
    )

    def __init__(self) -> None:
        self._tensor = torch.zeros(3, 32, 32, dtype=torch.uint8)
        self._boxes = Boxes(torch.tensor(BOXES))
        self._scores, self._classes = torch.tensor(SCORES), torch.tensor(CLASSES)

    def prepare(
        self,
        pixels: NDArray[np.uint8],
        *,
        tta: Views | None = None,
        proposals: NDArray[np.float32] | None = None,
    ) -> PreparedImage:
        height, width = pixels.shape[:2]
        return PreparedImage(self._tensor, height, width, (32, 32), self.recipe)

    def infer(
        self, batch: Sequence[PreparedImage], pause: Callable[[], None] | None = None
    ) -> list[Prediction]:
        return [Prediction(instances=self._find(image)) for image in batch]

    def close(self) -> int:
        return 0

    def _find(self, image: PreparedImage) -> Instances:
        return Instances(
            (image.height, image.width),
            pred_boxes=self._boxes,
            scores=self._scores,
            pred_classes=self._classes,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8003)
    arguments = parser.parse_args()
    configure_logging()
    keep_large_buffers()  # as detserve serve does
    runtime = Runtime(Settings(_env_file=None, device="cpu", name="no-op"), load=_load)
    runtime.load()
    return serve(create_app(runtime), port=arguments.port, drain_delay_s=0.0)


def _load(source: ModelSource) -> NoOpDetector:
    return NoOpDetector()


if __name__ == "__main__":
    raise SystemExit(main())
