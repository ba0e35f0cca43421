"""An image with what was found drawn on it, as a PNG, JPEG or WebP file."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from service.encoding.annotate import annotate
from service.encoding.instances import Selection
from service.errors import Unprocessable
from service.inference.detector import ModelDescription, Prediction
from service.schemas.options import FormatName

PICTURES: frozenset[FormatName] = frozenset({"png", "jpeg", "webp"})

_LONGEST_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}
_QUALITY = 90


def encode_picture(
    pixels: NDArray[np.uint8],
    prediction: Prediction,
    selection: Selection,
    model: ModelDescription,
    form: FormatName,
) -> bytes:
    """The file of an annotated picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        prediction: what the model found in it.
        selection: what of that is wanted.
        model: names and colours.
        form: one of :data:`PICTURES`.

    Raises:
        Unprocessable: the picture is too long for the kind of file.
    """
    longest = max(pixels.shape[:2])
    if longest > _LONGEST_SIDE[form]:
        raise Unprocessable(
            "picture_too_long",
            f"The image is {longest} pixels long and a {form} file holds {_LONGEST_SIDE[form]}; "
            "use format=png.",
            value=longest,
            limit=_LONGEST_SIDE[form],
        )
    drawn = annotate(pixels, prediction, selection, model)
    if form == "jpeg":
        # Colours in full resolution, or thin lines of a saturated colour would run.
        encoded: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(drawn), quality=_QUALITY, colorsubsampling="444"
        )
        return encoded
    file = io.BytesIO()
    if form == "webp":
        drawn.save(file, "WEBP", quality=_QUALITY, method=2)
    else:
        drawn.save(file, "PNG", compress_level=1)
    return file.getvalue()
