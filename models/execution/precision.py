"""Half precision for what costs: backbone, pyramid and heads. All else stays float32.

Each module of the list takes and gives float32 and computes in half precision between. So anchors,
decoding, RoI pooling, class and box predictors, NMS and thresholds never see a rounded coordinate,
and no model needs to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.execution.folding import Undo
from models.layers.deform_conv import DeformConv2d

_PARTS = (
    "backbone",
    "head",
    "sem_seg_head",
    "proposal_generator.rpn_head",
    "roi_heads.res5",
    "roi_heads.box_head",
    "roi_heads.mask_head",
    "roi_heads.keypoint_head",
    "detector.backbone",
    "detector.head",
    "detector.rpn.head",
    "detector.roi_heads.box_head",
    "detector.roi_heads.mask_head",
    "detector.roi_heads.mask_predictor",
    "detector.roi_heads.keypoint_head",
    "detector.roi_heads.keypoint_predictor",
)


def heavy_parts(model: nn.Module) -> list[nn.Module]:
    """The modules that nearly all of the computing is in, as far as the model has them."""
    return [part for path in _PARTS for part in modules_at(model, path)]


def modules_at(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """The module under a dotted name, those of a list one by one; nothing if there is none."""
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    if isinstance(found, nn.ModuleList):  # the stages of a cascade
        yield from found
    elif isinstance(found, nn.Module):
        yield found


def use_half_precision_(model: nn.Module, dtype: torch.dtype) -> list[Undo]:
    """Let the :func:`heavy_parts` compute in ``dtype``; what undoes it.

    Deformable convolutions stay as they are: they sample at positions.
    """
    return [undo for part in heavy_parts(model) for undo in _lower(part, dtype)]


def _lower(part: nn.Module, dtype: torch.dtype) -> Iterator[Undo]:
    yield _cast(part, dtype)
    before = part.register_forward_pre_hook(
        lambda module, args, kwargs: (_floats_to(args, dtype), _floats_to(kwargs, dtype)),
        with_kwargs=True,
    )
    after = part.register_forward_hook(lambda module, args, output: _floats_to(output, torch.float))
    yield before.remove
    yield after.remove


def _cast(part: nn.Module, dtype: torch.dtype) -> Undo:
    precise = {
        id(tensor)
        for module in part.modules()
        if isinstance(module, DeformConv2d)
        for tensor in (*module.parameters(), *module.buffers())
    }
    originals: list[tuple[Tensor, Tensor]] = []
    for tensor in (*part.parameters(), *part.buffers()):
        if tensor.is_floating_point() and id(tensor) not in precise:
            originals.append((tensor, tensor.data))
            tensor.data = tensor.data.to(dtype)

    def undo() -> None:
        for tensor, data in originals:
            tensor.data = data

    return undo


def _floats_to(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in tuples, lists and dicts as ``dtype``; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)((key, _floats_to(item, dtype)) for key, item in value.items())
    if type(value) in (tuple, list):
        return type(value)(_floats_to(item, dtype) for item in value)
    return value


def cpu_has_bfloat16() -> bool:
    """Whether this CPU computes with bfloat16; one that only converts is slower than in float32."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.inference_mode()
def speed_of_bfloat16(channels: int = 128, side: int = 64, rounds: int = 10) -> float:
    """How many times as fast as float32 a convolution in bfloat16 is, here and now."""
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        conv = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        conv.to(memory_format=torch.channels_last)
        x = torch.rand(1, channels, side, side, dtype=dtype)
        runs.append((conv, x.contiguous(memory_format=torch.channels_last)))
    # In turns, and the least of each: others may be busy on this machine.
    seconds = [[_seconds(conv, x) for conv, x in runs] for _ in range(rounds)]
    return min(exact for exact, _ in seconds) / min(half for _, half in seconds)


def _seconds(module: nn.Module, x: Tensor) -> float:
    started = time.perf_counter()
    module(x)
    return time.perf_counter() - started
