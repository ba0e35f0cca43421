"""Between host and GPU: few copies, from and to pinned memory, that wait for nothing they need not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.structures import Boxes, Instances, RotatedBoxes

T = TypeVar("T")


def pays_together(device: torch.device) -> bool:
    """Whether all at once is faster than one by one: on a GPU, where each look at a result waits."""
    return device.type == "cuda"


def map_tensors(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """``value`` with ``function`` applied to the tensors of its lists, dicts, boxes and instances."""
    result: Any = value
    items: Any = value
    if isinstance(value, Tensor):
        result = function(value)
    elif isinstance(value, Instances):
        fields = value.get_fields().items()
        result = Instances(value.image_size)
        for name, field in fields:
            result.set(name, map_tensors(field, function))
    elif isinstance(value, Boxes | RotatedBoxes):
        result = type(value)(map_tensors(value.tensor, function))
    elif isinstance(value, dict):
        result = {key: map_tensors(item, function) for key, item in value.items()}
    elif type(value) in (list, tuple):
        kind: Any = type(value)
        result = kind(map_tensors(item, function) for item in items)
    mapped: T = result
    return mapped


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors that :func:`map_tensors` meets, in its order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    return found


def to_host(value: T) -> T:
    """All tensors of ``value`` on the CPU; those of a GPU come in one copy, the one wait of it."""
    there = [tensor for tensor in tensors_of(value) if tensor.is_cuda]
    if not there:
        return value
    packed = pack(there)
    host = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    torch.cuda.current_stream(packed.device).synchronize()
    here = iter(unpack(host, there))
    return map_tensors(value, lambda tensor: next(here) if tensor.is_cuda else tensor)


def to_device(value: T, device: torch.device) -> T:
    """All tensors of ``value`` on ``device``; to a GPU they go in one copy that nobody waits for."""
    if device.type != "cuda":
        return map_tensors(value, lambda tensor: tensor.to(device))
    here = [tensor for tensor in tensors_of(value) if not tensor.is_cuda]
    if not here:
        return value
    sent = pack(here).pin_memory().to(device, non_blocking=True)
    there = iter(unpack(sent, here))
    return map_tensors(value, lambda tensor: tensor if tensor.is_cuda else next(there))


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors of one device as one uint8 tensor; :func:`unpack` has the order."""
    parts = [tensors[i].contiguous().view(-1).view(torch.uint8) for i in _widest_first(tensors)]
    return torch.cat(parts)


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of the types and shapes of ``like``, which share the memory of ``packed``."""
    unpacked: dict[int, Tensor] = {}
    start = 0
    for i in _widest_first(like):
        end = start + like[i].numel() * like[i].element_size()
        unpacked[i] = packed[start:end].view(like[i].dtype).view(like[i].shape)
        start = end
    return [unpacked[i] for i in range(len(like))]


def _widest_first(tensors: Sequence[Tensor]) -> list[int]:
    """By bytes per number, so that each tensor begins at a multiple of them."""
    return sorted(range(len(tensors)), key=lambda i: -tensors[i].element_size())


class Uploader:
    """Sends pictures to a GPU on a stream of its own, so that one goes while another is worked on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own

    def __call__(self, pictures: Sequence[Tensor]) -> Iterator[Tensor]:
        """Each picture on the device, in order; pinned memory is read without a detour.

        All uploads begin with the first step of the iterator. The caller's stream waits for each
        picture when it comes to it; the host waits for none.
        """
        sent = []
        with torch.cuda.stream(self._stream):
            for picture in pictures:
                if picture.device.type == "cpu" and not picture.is_pinned():
                    picture = picture.pin_memory()
                sent.append(
                    (picture.to(self.device, non_blocking=True), self._stream.record_event())
                )
        working = torch.cuda.current_stream(self.device)
        for there, arrived in sent:
            working.wait_event(arrived)
            # Its memory belongs to the uploading stream, which must not reuse it before this one is done.
            there.record_stream(working)
            yield there
