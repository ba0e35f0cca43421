"""Before a model on a GPU takes traffic: run the shapes that will come, tune and record them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from models.execution.cuda_graphs import Capture, CudaGraphs
from models.structures import ImageList
from models.transforms import resized_size

logger = logging.getLogger(__name__)

BATCH_SIZES = (1, 2, 4, 8)
"""Larger batches keep a GPU busy without graphs."""
ASPECT_RATIOS = ((1, 1), (4, 3), (3, 2), (16, 9))
"""Of cameras and screens, long side first; both orientations are warmed up."""
FEW_REGIONS = (8, 16, 32, 64)
MIN_FREE_MEMORY = 0.4
"""Recording ends when less of the device's memory is free: requests and a next version need it."""


def common_sizes(min_size: int, max_size: int, size_divisibility: int) -> list[tuple[int, int]]:
    """Padded (height, width) of pictures of common aspect ratios, the largest first.

    Args:
        min_size, max_size: see :func:`models.transforms.resized_size`; a ``min_size`` of 0, no
            resize, gives none.
        size_divisibility: see :meth:`models.structures.ImageList.padded_size`.
    """
    if min_size == 0:
        return []
    padded = set()
    for long, short in ASPECT_RATIOS:
        for height, width in ((short, long), (long, short)):
            # Of some large picture, so that rounding is as in one.
            size = resized_size(height * 1000, width * 1000, min_size, max_size)
            padded.add(ImageList.padded_size([size], size_divisibility))
    return sorted(padded, key=lambda size: (-size[0] * size[1], size))


def record_shapes(
    model: nn.Module,
    sizes: Iterable[tuple[int, int]],
    *,
    max_detections: int,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    memory_format: torch.memory_format = torch.contiguous_format,
    capture: Capture | None = None,
    has_memory: Callable[[], bool] | None = None,
    call: Callable[[Callable[[], bool]], bool] | None = None,
) -> CudaGraphs:
    """Run a model on batches of each size, with its parts recorded and its convolutions tuned.

    Args:
        model: a :class:`models.architectures.base.DetectionModel` in its final mode.
        sizes: (height, width) of pictures.
        max_detections: per image.
        batch_sizes: pictures in a batch.
        memory_format: of the model.
        capture: see :data:`models.execution.cuda_graphs.Capture`.
        has_memory: whether to go on; by default :data:`MIN_FREE_MEMORY` decides.
        call: runs each batch, such as on another thread that has other work between them, and gives
            what it returns; by default they run at once.
    """
    device = next(model.parameters()).device
    proposals = getattr(getattr(model, "proposal_generator", None), "post_nms_topk", {}).get(False)
    many = [max_detections * n for n in range(1, max(batch_sizes) + 1)]
    graphs = CudaGraphs(
        model,
        box_rows=[proposals * n for n in sorted(batch_sizes)] if proposals else (),
        mask_rows=[rows for rows in FEW_REGIONS if rows < many[0]] + many,
        memory_format=memory_format,
        capture=capture,
    )
    has_memory = has_memory or (lambda: _has_memory(device))
    predict: Any = model.predict

    def record(batch: int, size: tuple[int, int]) -> bool:
        """Whether there was memory to begin."""
        if not has_memory():
            logger.warning(
                "no more shapes are recorded: the device's memory is short; %d graphs", len(graphs)
            )
            return False
        picture = torch.zeros((3, *size), dtype=torch.uint8)
        # What they change must not outlast the batch: other models may run before the next.
        with torch.inference_mode(), graphs.recording(), _tuned_convolutions():
            try:
                predict([{"image": picture}] * batch)
            except torch.OutOfMemoryError:
                logger.warning("no room to record batches of %d at %dx%d", batch, *size)
                torch.cuda.empty_cache()
        return True

    # The largest first, whose memory the others use again.
    for batch, size in itertools.product(sorted(batch_sizes, reverse=True), sizes):
        step = functools.partial(record, batch, size)
        if not (call(step) if call is not None else step()):
            break
    return graphs


def _has_memory(device: torch.device) -> bool:
    free, total = torch.cuda.mem_get_info(device)
    return free > MIN_FREE_MEMORY * total


@contextlib.contextmanager
def _tuned_convolutions() -> Iterator[None]:
    """Within it, cuDNN tries its kernels for each new shape; it keeps the choice for later."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
