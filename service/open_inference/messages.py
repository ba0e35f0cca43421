"""An inference request and its answer as the protocol means them, however they are carried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import Unprocessable
from service.open_inference.bytes_tensors import join_elements

FLOAT32, INT64, BYTES, UINT8 = "FP32", "INT64", "BYTES", "UINT8"


@dataclass(frozen=True, eq=False)
class InputTensor:
    """A tensor that a client sent.

    Attributes:
        raw: the elements in row-major order, those of BYTES each behind its length; None if they came
            as ``values``.
        values: the elements, nested or flat: in JSON BYTES are texts of base64.
        size: of the raw bytes that follow a JSON head; None elsewhere.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = field(default=None, repr=False)
    values: Any = field(default=None, repr=False)
    size: int | None = None


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a client named; ``binary`` is None where it did not say how it wants it."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, eq=False)
class InferRequest:
    """What a client asks.

    Attributes:
        id: the client's own, "" without.
        parameters: options of the prediction, and of the protocol.
        inputs: tensors.
        outputs: those that are wanted; None is all that the model has.
        binary: how outputs are wanted that do not say it themselves.
    """

    id: str
    parameters: dict[str, Any]
    inputs: Sequence[InputTensor]
    outputs: Sequence[RequestedOutput] | None = None
    binary: bool = False

    def is_binary(self, name: str) -> bool:
        """Whether the output ``name`` is wanted as raw bytes."""
        for output in self.outputs or ():
            if output.name == name and output.binary is not None:
                return output.binary
        return self.binary


@dataclass(frozen=True, eq=False)
class OutputTensor:
    """A tensor of an answer: float32 or int64 numbers, or the elements of a BYTES tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: NDArray[np.generic] | list[bytes]

    @classmethod
    def numbers(cls, name: str, content: NDArray[np.generic]) -> OutputTensor:
        """Of an array of float32 or int64."""
        kinds = {"float32": FLOAT32, "int64": INT64}
        return cls(name, kinds[content.dtype.name], content.shape, np.ascontiguousarray(content))

    @classmethod
    def elements(cls, name: str, content: list[bytes]) -> OutputTensor:
        """Of texts or files, one an element."""
        return cls(name, BYTES, (len(content),), content)

    def raw(self) -> bytes:
        """The elements as they stand in a binary body, little-endian."""
        if isinstance(self.content, list):
            return join_elements(self.content)
        content = self.content
        return content.astype(content.dtype.newbyteorder("<"), copy=False).tobytes()

    def plain(self) -> NDArray[np.generic] | list[str]:
        """The elements as they stand in JSON, flat."""
        if isinstance(self.content, list):
            return [element.decode() for element in self.content]
        return self.content.reshape(-1)


@dataclass(frozen=True, eq=False)
class InferAnswer:
    """What is answered: the model, the version that answered, and the outputs."""

    model: str
    version: str
    id: str
    outputs: list[OutputTensor]


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that can be computed with.

    Raises:
        Unprocessable: ``invalid_request``: too many dimensions, or one negative or beyond measure.
    """
    if len(shape) > 8 or not all(0 <= size < 2**31 for size in shape):
        raise invalid_request(
            f"The shape of {name[:64]} has up to 8 dimensions, each from 0 to 2**31 - 1."
        )
    return tuple(shape)


def invalid_request(message: str, **details: Any) -> Unprocessable:
    """The refusal of a request that is well-formed, but not one of this protocol."""
    return Unprocessable("invalid_request", message, **details)
