"""Says by content alone what kind of file some bytes are: one of the six formats that we decode,
or something else that is named for the person who sent it.
"""

from __future__ import annotations

import struct

from service.errors import UnsupportedMediaType

ALLOWED_FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")

_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x00\x00\x02\x00", "a Windows cursor"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"RIFF", "a RIFF file other than WebP"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"DDS ", "a DirectDraw surface"),
    (b"icns", "an Apple icon"),
    (b"qoif", "a QOI image"),
)

_ISO_MEDIA_BRANDS: tuple[tuple[bytes, str], ...] = (
    (b"avif", "an AVIF image"),
    (b"avis", "an AVIF image"),
    (b"hei", "a HEIC image"),
    (b"hev", "a HEIC image"),
    (b"mif1", "a HEIC image"),
    (b"msf1", "a HEIC image"),
    (b"qt  ", "a QuickTime video"),
)

_BASE64_IMAGES = (b"/9j/", b"iVBORw0KGgo", b"UklGR", b"R0lGOD", b"data:image/")


def sniff_format(data: bytes) -> str:
    """Returns ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"BMP"``, ``"TIFF"`` or ``"GIF"``.

    Raises:
        UnsupportedMediaType: ``unsupported_image_format``; the bytes are anything else.
    """
    head = data[:16]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    # "BM" opens ordinary words too, so the size of the header that follows has to be a known one.
    if head.startswith(b"BM") and len(data) >= 18:
        (header_size,) = struct.unpack_from("<I", data, 14)
        if header_size in _BMP_HEADER_SIZES:
            return "BMP"
    raise unsupported(_describe(data))


def unsupported(what: str | None) -> UnsupportedMediaType:
    """The error for a file that is ``what`` ("a PDF document"), or nothing that we know."""
    subject = f"This is {what}" if what else "This is not an image that we know"
    return UnsupportedMediaType(
        "unsupported_image_format",
        f"{subject}; the allowed formats are {', '.join(ALLOWED_FORMATS[:-1])} and "
        f"{ALLOWED_FORMATS[-1]}. Convert the image to one of them and send it again.",
        allowed=list(ALLOWED_FORMATS),
        detected=what,
    )


def _describe(data: bytes) -> str | None:
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        for prefix, name in _ISO_MEDIA_BRANDS:
            if brand.startswith(prefix):
                return name
        return "an MP4 video"
    if data[128:132] == b"DICM":
        return "a DICOM file"
    if len(data) > 2 and data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "a PNM image"
    return _describe_text(data[:1024])


def _describe_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < 1024 else "ignore")
    except UnicodeDecodeError:
        return None
    text = text.removeprefix("\ufeff").strip()
    if not text or not all(character.isprintable() or character.isspace() for character in text):
        return None
    lower = text.lower()
    if "<svg" in lower:
        return "an SVG drawing"
    if lower.startswith(("<!doctype html", "<html")):
        return "an HTML page"
    if lower.startswith("<?xml"):
        return "an XML document"
    if head.startswith(_BASE64_IMAGES):
        return "base64 text, not the image's own bytes"
    if lower.startswith(("{", "[")):
        return "JSON text"
    return "text"
