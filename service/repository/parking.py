"""A version that is kept in host memory for an instant rollback, off the device."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from service.inference.detector import Detector, ModelCall


@runtime_checkable
class Parks(Protocol):
    """A detector that can leave its device and come back."""

    def park(self) -> int:
        """Move to host memory; how many bytes of the device that gave back."""

    def unpark(self, *, call: ModelCall) -> None:
        """Come back to the device, ready for traffic."""


@runtime_checkable
class Measured(Protocol):
    """A detector that knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes of its weights, where it runs."""


def weights_bytes(detector: Detector) -> int:
    """Bytes of a detector's weights; 0 where it does not tell."""
    return detector.nbytes if isinstance(detector, Measured) else 0


def park(detector: Detector, *, call: ModelCall) -> int:
    """Keep a detector that nobody uses; how many bytes of the device that gave back. One that knows no
    other place stays where it is."""
    return call(detector.park) if isinstance(detector, Parks) else 0


def unpark(detector: Detector, *, call: ModelCall) -> None:
    """Make a parked detector ready for traffic."""
    if isinstance(detector, Parks):
        detector.unpark(call=call)
