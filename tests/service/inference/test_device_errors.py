"""Out of memory, lost for good, or neither: what an error says about the device."""

import pytest
import torch

from service.inference.device_errors import DeviceLost, device_loss, is_out_of_memory

ADVICE = """
Search for `cudaError...' in the documentation for more information.
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below
might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
"""
LOST = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered" + ADVICE),
    torch.AcceleratorError("CUDA error: device-side assert triggered" + ADVICE),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: the launch timed out and was terminated"),
    RuntimeError("CUDA error: misaligned address"),
    RuntimeError("CUDA error: unknown error"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
]
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    torch.AcceleratorError("CUDA error: out of memory" + ADVICE),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
NEITHER = [
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    RuntimeError("CUDA error: invalid argument"),
    ValueError("misaligned address"),
    KeyError("CUDA"),
]


@pytest.mark.parametrize("error", LOST, ids=str)
def test_the_device_is_lost(error: Exception) -> None:
    lost = device_loss(error)
    assert lost is not None
    assert str(lost) == f"the device failed ({str(error).splitlines()[0]})"
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_out_of_memory_passes(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert device_loss(error) is None


@pytest.mark.parametrize("error", NEITHER, ids=str)
def test_other_errors_are_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert device_loss(error) is None


def test_pytorchs_own_out_of_memory_on_a_cpu_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_an_error_that_another_was_raised_from_counts() -> None:
    refused = ValueError("The model failed its self-check.")
    refused.__cause__ = LOST[0]
    assert device_loss(refused) is not None


def test_a_loss_stays_the_same_loss() -> None:
    lost = DeviceLost("CUDA error: misaligned address")
    assert device_loss(lost) is lost


@pytest.mark.parametrize("works", [True, False])
def test_after_an_unclear_error_the_device_is_asked(
    monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    def synchronize(index: int) -> None:
        assert index == 1, "a device that is not in use was asked"
        if not works:
            raise torch.AcceleratorError("CUDA error: launch failed in a new way" + ADVICE)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: index * 1000)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    lost = device_loss(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    if works:
        assert lost is None
    else:
        assert str(lost) == "the device failed (CUDA error: launch failed in a new way)"
