"""What an error says about the device: out of memory, or lost for good.

Out of memory passes: less at a time may fit. Some CUDA errors do not: after an illegal memory access,
a failed device-side assertion or an uncorrectable memory error every later call of the process fails
(CUDA Runtime API, ``cudaError_t``: "the process must be terminated and relaunched").
"""

from __future__ import annotations

import torch

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",  # a plain RuntimeError
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",  # by the runtime or the driver, beside PyTorch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

# As cudaGetErrorString has them; in some libraries they follow "Triton Error [CUDA]: " or the like.
_LOST = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "device-side assert triggered",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error",
    "hardware stack error",
    "misaligned address",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "context is destroyed",
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: unknown error",
)


class DeviceLost(Exception):
    """The device cannot be used by this process any more; ``error`` is its own word on it, a line."""

    def __init__(self, error: str) -> None:
        super().__init__(f"the device failed ({error})")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at a time may work."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def device_loss(error: BaseException) -> DeviceLost | None:
    """``error`` as the loss of the device; None when the device works.

    An error that another one was raised from counts too. Kernels fail late, and libraries report
    it under names of their own, so after an error without a clear name the device itself is asked.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeviceLost):
            return cause
        message = str(cause)
        if "CUDA" in message and any(text in message for text in _LOST):
            return DeviceLost(_line(message))
        cause = cause.__cause__ or cause.__context__
    return None if is_out_of_memory(error) else _ask_device()


def _ask_device() -> DeviceLost | None:
    """A lost device answers every call with its error, this one too."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch has no type for it
        return None
    try:
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(index) > 0:  # asking others would begin to use them
                torch.cuda.synchronize(index)
    except RuntimeError as error:
        return DeviceLost(_line(str(error)))
    return None


def _line(message: str) -> str:
    """The line of ``message`` that names the error; what follows is advice on debugging."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if any(text in line for text in _LOST)), lines[0])[:200]
