"""The inputs of a request -> images: ``IMAGE``, encoded files, or ``PIXELS``, RGB as it is."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.errors import ApiError, BadRequest, Unprocessable
from service.open_inference.bytes_tensors import split_elements
from service.open_inference.messages import BYTES, UINT8, InputTensor, invalid_request
from service.uploads import Upload, UploadLimits
from service.uploads.json_body import decode_base64, too_many_images

IMAGE, PIXELS = "IMAGE", "PIXELS"


def read_images(inputs: Sequence[InputTensor], limits: UploadLimits) -> list[Upload]:
    """The images of a request; on a worker, since pixels are copied and base64 is decoded.

    An element of ``IMAGE`` that is no base64 carries its own error.

    Raises:
        Unprocessable: ``invalid_request``: not exactly one of the two inputs, or not of its datatype
            and shape.
        BadRequest: ``malformed_tensor``: data and shape do not go together.
        TooLarge: ``too_many_images``.
    """
    names = [tensor.name for tensor in inputs]
    if len(inputs) != 1 or names[0] not in (IMAGE, PIXELS):
        shown = ", ".join(name[:64] for name in names[:5]) or "none"
        raise invalid_request(
            f"A request has one input, IMAGE (BYTES, encoded files) or PIXELS (UINT8, RGB); this one "
            f"has {shown}.",
        )
    if names[0] == IMAGE:
        return _files(inputs[0], limits)
    return _pixels(inputs[0], limits)


def _require(tensor: InputTensor, datatype: str) -> None:
    if tensor.datatype != datatype:
        raise invalid_request(
            f"{tensor.name} is {datatype}; this one is {tensor.datatype[:16]}.", input=tensor.name
        )


def _files(tensor: InputTensor, limits: UploadLimits) -> list[Upload]:
    _require(tensor, BYTES)
    count = math.prod(tensor.shape)
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)) or count == 0:
        raise invalid_request(
            f"IMAGE has the shape [N] with N files; this one has {list(tensor.shape[:8])}.",
            input=IMAGE,
        )
    if count > limits.max_images:
        raise too_many_images(count, limits)
    if tensor.raw is not None:
        elements: list[Any] = list(split_elements(tensor.raw, count))
    else:
        elements = _flat(tensor.values)
    if len(elements) != count:
        raise _wrong_count(tensor, len(elements), count)
    return [_file(f"{IMAGE}[{index}]", element) for index, element in enumerate(elements)]


def _flat(values: Any) -> list[Any]:
    """A list, or a list of lists, as one list."""
    if not isinstance(values, list):
        return [values]
    if any(isinstance(value, list) for value in values):
        return [
            inner for value in values for inner in (value if isinstance(value, list) else [value])
        ]
    return values


def _file(name: str, element: Any) -> Upload:
    if isinstance(element, bytes):
        return Upload.of(name, element)
    if not isinstance(element, str):
        error = Unprocessable(
            "invalid_image_item", f"{name} is no text; in JSON an image is a text of base64."
        )
        return Upload(name, None, error)
    try:
        return Upload.of(name, decode_base64(element))
    except ApiError as refusal:
        return Upload(name, None, refusal)


def _pixels(tensor: InputTensor, limits: UploadLimits) -> list[Upload]:
    _require(tensor, UINT8)
    shape = tensor.shape if len(tensor.shape) == 4 else (1, *tensor.shape)
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise invalid_request(
            "PIXELS has the shape [H, W, 3] or [N, H, W, 3], RGB; this one has "
            f"{list(tensor.shape[:8])}.",
            input=PIXELS,
        )
    count, height, width, _ = shape
    if count > limits.max_images:
        raise too_many_images(count, limits)
    size = height * width * 3
    raw = memoryview(_samples(tensor) if tensor.raw is None else tensor.raw)
    if len(raw) != count * size:
        raise _wrong_count(tensor, len(raw), count * size)
    return [
        Upload.of(
            f"{PIXELS}[{index}]", _as_tiff(raw[index * size : (index + 1) * size], height, width)
        )
        for index in range(count)
    ]


def _samples(tensor: InputTensor) -> bytes:
    """The samples of a JSON list, nested or flat."""
    try:
        values = np.asarray(tensor.values)
    except (ValueError, OverflowError):  # lists of different lengths, or nested beyond measure
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "iu" or values.size == 0 or values.min() < 0 or values.max() > 255:
        raise invalid_request(
            "The data of PIXELS is a list of integers from 0 to 255.", input=PIXELS
        )
    return values.astype(np.uint8).tobytes()


def _as_tiff(samples: memoryview, height: int, width: int) -> bytes:
    """An uncompressed TIFF file around RGB samples: what follows takes files, and decodes this one at
    the cost of a copy. Source: TIFF 6.0, section 6.
    """
    offset = 8 + 2 + 10 * 12 + 4
    bits = struct.pack("<3H", 8, 8, 8)
    short, long = 3, 4
    fields = (
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 3, offset),  # bits of each sample, which stand behind the directory
        (259, short, 1, 1),  # no compression
        (262, short, 1, 2),  # RGB
        (273, long, 1, offset + len(bits)),
        (277, short, 1, 3),
        (278, long, 1, height),
        (279, long, 1, len(samples)),
        (284, short, 1, 1),  # the three samples of a pixel stand together
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields))
    head += b"".join(struct.pack("<HHII", *field) for field in fields) + struct.pack("<I", 0)
    return b"".join((head, bits, samples))


def _wrong_count(tensor: InputTensor, found: int, wanted: int) -> BadRequest:
    return BadRequest(
        "malformed_tensor",
        f"{tensor.name} has {found} elements, but its shape {list(tensor.shape[:8])} says {wanted}.",
    )
