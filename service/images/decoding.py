"""Image bytes in, RGB pixels out: the one place where the service decodes pictures.

The format is judged by content, the limits by the header; only then does Pillow's parser for that
one format see the file, without metadata. The pixels are those of Pillow's ``convert("RGB")``,
which Detectron2 uses too, turned as the EXIF orientation says (of a JPEG that Pillow's parser has
taken they may come from a faster decoder, which gives the same ones):

- Transparency is dropped, not composited: the colours below it are kept, as in Detectron2.
- 16-bit samples keep their high byte, in colour as in grey.
- 32-bit integers are read in the range of 8, 16 or 32 bits, the smallest that holds the largest
  value; the high byte of that range is kept, and negative values become 0.
- Floating-point values are read as 0 to 1 where none is above 1, else as 0 to 255; what lies
  outside is clipped, and NaN is 0.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.errors import ApiError, Unprocessable
from service.images.broken import BrokenImageError
from service.images.jpeg_header import read_jpeg_header
from service.images.jpeg_pixels import decode_jpeg_rgb
from service.images.limits import ImageHeader, ImageLimits
from service.images.other_headers import read_bmp_header, read_gif_header, read_webp_header
from service.images.png_header import read_png_header
from service.images.sniffing import sniff_format
from service.images.tiff_header import read_tiff_header

# Opened by class and not through Image.open, so that no other of Pillow's parsers can be reached,
# nor its warnings about size, which are settings of the whole process.
_PARSERS: dict[str, type[ImageFile]] = {
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded image, upright as a viewer shows it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous and writable.
        format: what the bytes were: ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"BMP"``, ``"TIFF"`` or
            ``"GIF"``.
    """

    pixels: NDArray[np.uint8]
    format: str

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


def decode_image(
    data: bytes, limits: ImageLimits, *, admit: Callable[[int], None] | None = None
) -> DecodedImage:
    """Decodes one image, the first frame of an animation, within the limits.

    Args:
        data: the file.
        limits: on the image.
        admit: called with the number of pixels before they are decoded; may raise an ApiError.

    Raises:
        UnsupportedMediaType: ``unsupported_image_format``; not one of the six formats.
        TooLarge: ``image_too_large``, ``too_many_frames`` or ``too_many_scans``, all found before
            anything is decoded.
        Unprocessable: ``empty_image`` (no bytes), ``image_too_small``, or ``invalid_image`` for a
            broken or truncated file.
    """
    if not data:
        raise Unprocessable(
            "empty_image",
            "The image has no bytes; check that the file was read before it was sent.",
        )
    kind = sniff_format(data)
    try:
        header = _read_header(data, kind, limits)
        limits.check(header)
        if admit is not None:
            admit(header.width * header.height)
        with _PARSERS[kind](io.BytesIO(header.content)) as image:
            if image.size != (header.width, header.height):
                raise BrokenImageError("its headers contradict each other")
            pixels = _jpeg_pixels(image, header) if kind == "JPEG" else None
            if pixels is None:
                image.load()
                rgb = _to_rgb(image)
            elif header.orientation in _TURNS:
                rgb = Image.fromarray(pixels)
            else:
                return DecodedImage(pixels=pixels, format=kind)
            if header.orientation in _TURNS:
                rgb = rgb.transpose(_TURNS[header.orientation])
            # A copy, because what Pillow hands out is read-only and torch warns of that.
            return DecodedImage(pixels=np.array(rgb), format=kind)
    except ApiError:
        raise
    except BrokenImageError as broken:
        raise _invalid(kind, str(broken)) from broken
    except Exception as error:  # whatever a broken file brings about
        # Pillow's parsers raise anything (OSError, SyntaxError, struct.error, MemoryError, ...) on
        # broken files, with texts that may name internals: they stay in the chain for the log.
        raise _invalid(kind, "it is truncated or broken") from error


def _read_header(data: bytes, kind: str, limits: ImageLimits) -> ImageHeader:
    match kind:
        case "JPEG":
            return read_jpeg_header(data, max_scans=limits.max_scans)
        case "PNG":
            return read_png_header(data, max_frames=limits.max_frames)
        case "TIFF":
            return read_tiff_header(data, limits=limits)
        case "GIF":
            return read_gif_header(data, max_frames=limits.max_frames)
        case "WEBP":
            return read_webp_header(data, max_frames=limits.max_frames)
        case _:
            return read_bmp_header(data)


def _jpeg_pixels(image: ImageFile, header: ImageHeader) -> NDArray[np.uint8] | None:
    """The pixels by the faster decoder, as stored; None for CMYK, whose conversion is Pillow's own,
    and for what that decoder refuses.
    """
    if image.mode not in {"L", "RGB"}:
        return None
    return decode_jpeg_rgb(header.content, header.height, header.width)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Mode RGB by the rules at the head of this module."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        return Image.fromarray(_bytes_of_integers(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_bytes_of_floats(np.asarray(image))).convert("RGB")
    # convert() would copy an image that is RGB already.
    return image if image.mode == "RGB" else image.convert("RGB")


def _bytes_of_integers(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    largest = int(values.max())
    shift = 0 if largest < 2**8 else 8 if largest < 2**16 else 24
    return (values.clip(min=0) >> shift).astype(np.uint8)


def _bytes_of_floats(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    values = np.nan_to_num(values, nan=0.0)
    if values.max() <= 1:
        values = values * 255
    return values.clip(0, 255).round().astype(np.uint8)


def _invalid(kind: str, reason: str) -> Unprocessable:
    return Unprocessable(
        "invalid_image",
        f"The {'WebP' if kind == 'WEBP' else kind} image cannot be read: {reason}. "
        "Check that the whole file was sent, or save it anew.",
        format=kind,
    )
