"""What is refused, with which status and code, and that refusals come before any decoding."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import ApiError, TooLarge, Unprocessable, UnsupportedMediaType
from service.images import ImageLimits, decode_image, decoding

LIMITS = ImageLimits()


@pytest.fixture
def no_decoding(monkeypatch):
    def load(*_):
        raise AssertionError("decoded before the limits were checked")

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr(decoding, "decode_jpeg_rgb", load)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height=24, width=32):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width=1, height=1, *, extra=b"", pixels=bytes(4)):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def bmp(width, height, *, compression=0):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + header


def gif(width, height, frames=1, *, screen=(1, 1)):
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    screen = struct.pack("<HHBBB", *screen, 0x80, 0, 0)
    return b"GIF89a" + screen + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def webp(width, height, *, chunks=b""):
    size = (width - 1) | (height - 1) << 24
    body = b"WEBPVP8X\x0a\0\0\0\x02\0\0\0" + size.to_bytes(6, "little") + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(*entries, following=0):
    """A TIFF whose one directory has these LONG entries, of one value each."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return struct.pack("<2sHI", b"II", 42, 8) + directory + struct.pack("<I", following)


TIFF_TAGS = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1), (279, 16)]


def tiff_with(**changes):
    tags = dict(TIFF_TAGS) | {int(tag[1:]): value for tag, value in changes.items()}
    return tiff(*sorted(tags.items()))


def progressive_jpeg(scans_added=0, size=(16, 16)):
    data = encoded(Image.new("RGB", size, (10, 20, 30)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * scans_added + data[-2:]


SMALL_PNG = encoded(noise(2, 9))
BASELINE = encoded(noise(), "JPEG")
SCANS_21 = progressive_jpeg(scans_added=11)
SCANS_510 = progressive_jpeg(scans_added=500)


def error_of(data, limits=LIMITS):
    with pytest.raises(ApiError) as caught:
        decode_image(data, limits)
    return caught.value


def test_no_bytes_are_an_empty_image():
    error = error_of(b"")
    assert (type(error), error.code) == (Unprocessable, "empty_image")


FOREIGN = {
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
    "EPS": b"\xc5\xd0\xd3\xc6" + bytes(30),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "Photoshop": b"8BPS\0\x01" + bytes(30),
    "icon": b"\0\0\x01\0\x01\0" + bytes(30),
    "cursor": b"\0\0\x02\0\x01\0" + bytes(30),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30),
    "JPEG XL": b"\xff\x0a" + bytes(30),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0",
    "MP4": b"\0\0\0\x18ftypisom\0\0\0\0",
    "QuickTime": b"\0\0\0\x18ftypqt  \0\0\0\0",
    "WebM": b"\x1a\x45\xdf\xa3" + bytes(30),
    "RIFF": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HTML": b"<!DOCTYPE html><html></html>",
    "XML": b"<?xml version='1.0'?><a/>",
    "JSON": b'{"image": "/9j/4AAQ"}',
    "base64": b"/9j/4AAQSkZJRgABAQ==",
    "PNM": b"P6\n1 1\n255\n\0\0\0",
    "ZIP": b"PK\x03\x04" + bytes(30),
    "NumPy": b"\x93NUMPY\x01\0" + bytes(30),
    "DICOM": bytes(128) + b"DICM" + bytes(30),
    "text": b"BMW is no bitmap, whatever its first two letters say",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused_by_name(name, no_decoding):
    error = error_of(FOREIGN[name])
    assert (type(error), error.code) == (UnsupportedMediaType, "unsupported_image_format")
    assert name in error.message
    assert "JPEG, PNG, WebP, BMP, TIFF and GIF" in error.message


@pytest.mark.parametrize("data", [b"\0", bytes(100), b"\x89PNG", b"\xff\xd8", b"\xe9t\xe9"])
def test_unknown_bytes_are_refused(data):
    error = error_of(data)
    assert (error.code, error.details["detected"]) == ("unsupported_image_format", None)


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "PCX", "TGA", "PPM", "SGI", "ICNS", "AVIF"])
def test_no_other_parser_of_pillow_is_reached(kind):
    data = encoded(noise(32, 32), kind)
    assert error_of(data).code == "unsupported_image_format"


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_unusual_kinds_of_jpeg_are_refused(marker):
    data = encoded(noise(), "JPEG").replace(b"\xff\xc0", bytes((0xFF, marker)), 1)
    error = error_of(data)
    assert (type(error), error.code) == (UnsupportedMediaType, "unsupported_image_format")


@pytest.mark.parametrize("compression", [6, 34712, 34925, 50001, 50002])
def test_unusual_compressions_of_tiff_are_refused(compression, no_decoding):
    assert error_of(tiff_with(_259=compression)).code == "unsupported_image_format"


HUGE = {
    "png": png(50_000, 50_000),
    "png one pixel wide": png(1, 2**31 - 1),
    "png all ones": png(2**32 - 1, 2**32 - 1),
    "bmp": bmp(30_000, 30_000),
    "bmp top down": bmp(1, -(2**31)),
    "bmp run-length coded": bmp(4000, 1001, compression=1),
    "gif screen": gif(1, 1, screen=(65_535, 65_535)),
    "gif picture": gif(65_535, 65_535),
    "webp": webp(2**24, 2**24),
    "tiff": tiff_with(_256=50_000, _257=50_000),
    "tiff tile": tiff_with(_322=60_000, _323=60_000),
    "jpeg": encoded(noise(), "JPEG").replace(b"\x08\0\x18\0\x20", b"\x08\xff\xff\xff\xff", 1),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_images_are_refused_before_decoding(name, no_decoding):
    error = error_of(HUGE[name])
    assert (type(error), error.code) == (TooLarge, "image_too_large")
    assert error.details["value"] > error.details["limit"]
    assert str(error.details["limit"]) in error.message
    assert str(error.details["value"]) in error.message


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (ImageLimits(max_side=32), True),
        (ImageLimits(max_side=31), False),
        (ImageLimits(max_pixels=32 * 24), True),
        (ImageLimits(max_pixels=32 * 24 - 1), False),
    ],
)
def test_an_image_at_a_limit_is_allowed(limits, allowed):
    data = encoded(noise(24, 32))
    if allowed:
        assert decode_image(data, limits).pixels.shape == (24, 32, 3)
    else:
        assert error_of(data, limits).code == "image_too_large"


def test_an_image_below_the_smallest_side_is_refused(no_decoding):
    error = error_of(SMALL_PNG, ImageLimits(min_side=3))
    assert (type(error), error.code) == (Unprocessable, "image_too_small")


@pytest.mark.parametrize("values", [{"max_side": 0}, {"max_pixels": -1}, {"max_pixels": 10**9}])
def test_impossible_limits_are_refused(values):
    with pytest.raises(ValueError, match="max_"):
        ImageLimits(**values)


def test_many_scans_are_refused_before_decoding(no_decoding):
    error = error_of(SCANS_510)
    assert (type(error), error.code) == (TooLarge, "too_many_scans")
    assert error.details == {"limit": 64, "value": 65}


def test_scans_times_pixels_are_limited(no_decoding):
    limits = ImageLimits(max_scan_pixels=20 * 16 * 16)
    error = error_of(SCANS_21, limits)
    assert error.code == "too_many_scans"
    assert error.details == {"limit": 20 * 16 * 16, "value": 21 * 16 * 16}


def test_a_baseline_jpeg_of_one_scan_counts_no_scan_pixels():
    decode_image(encoded(noise(), "JPEG"), ImageLimits(max_scan_pixels=1))


def test_an_ordinary_progressive_jpeg_is_allowed():
    assert decode_image(progressive_jpeg(), LIMITS).pixels.shape == (16, 16, 3)


def test_scan_markers_within_metadata_do_not_count():
    thumbnail = b"Exif\0\0" + b"\xff\xda\0\x08" * 200
    data = encoded(noise(), "JPEG", progressive=True, exif=thumbnail)
    assert decode_image(data, LIMITS).height == 24


def test_scans_of_a_second_picture_do_not_count():
    data = encoded(noise(), "JPEG", progressive=True) + progressive_jpeg(scans_added=100)
    assert decode_image(data, LIMITS).height == 24


def test_repeated_scans_of_a_sequential_jpeg_count():
    data = progressive_jpeg(scans_added=100).replace(b"\xff\xc2", b"\xff\xc1", 1)
    first = data.index(b"\xff\xda")
    data = data[: first + 4] + b"\x01" + data[first + 5 :]
    assert error_of(data).code == "too_many_scans"


def test_endless_empty_segments_of_a_jpeg_are_refused(no_decoding):
    data = b"\xff\xd8" + b"\xff\xc4\0\x02" * 20_000 + BASELINE[2:]
    assert error_of(data).code == "invalid_image"


def frames_of_png(number):
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0)
    return png(extra=chunk(b"fcTL", control) * number)


def frames_of_tiff(number):
    data = b""
    for index in range(number):
        following = (index + 1) * len(tiff(*TIFF_TAGS)) if index + 1 < number else 0
        page = tiff(*TIFF_TAGS, following=following + 8 if following else 0)
        data += page if not index else page[:8] + page[8:]
    return data


FRAMES = {
    "png": frames_of_png,
    "gif": lambda number: gif(1, 1, number),
    "webp": lambda number: webp(1, 1, chunks=b"ANMF\0\0\0\0" * number),
    "tiff": frames_of_tiff,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_many_frames_are_refused_before_decoding(kind, no_decoding):
    error = error_of(FRAMES[kind](4), ImageLimits(max_frames=3))
    assert (type(error), error.code) == (TooLarge, "too_many_frames")
    assert error.details == {"limit": 3, "value": 4}


def test_a_circle_of_tiff_directories_ends():
    error = error_of(tiff(*TIFF_TAGS[:2], following=8))
    assert error.code == "invalid_image"


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_metadata_is_never_expanded(kind, monkeypatch):
    bomb = chunk(kind, b"a\0\0" + zlib.compress(bytes(10_000_000)))
    monkeypatch.setattr(zlib, "decompressobj", lambda *_: pytest.fail("metadata was expanded"))
    assert decode_image(png(extra=bomb), LIMITS).pixels.shape == (1, 1, 3)


def test_endless_chunks_of_a_png_are_refused(no_decoding):
    error = error_of(png(extra=chunk(b"IDAT", b"") * 100_001))
    assert error.code == "invalid_image"


BROKEN = {
    "png without pixels": png(4, 4),
    "png of no size": png(0, 4),
    "png with two headers": png(extra=chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))),
    "jpeg without a frame": b"\xff\xd8\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9",
    "jpeg without a scan": b"\xff\xd8\xff\xe0\0\x02\xff\xd9",
    "gif without a picture": gif(1, 1, 0),
    "gif cut in its picture": gif(9, 9)[:-4],
    "webp of unknown first chunk": b"RIFF\x10\0\0\0WEBPABCD\0\0\0\0",
    "bmp of negative width": bmp(-1, 1),
    "bmp without pixels": bmp(5, 5),
    "tiff without a directory": b"II*\0\xff\xff\0\0",
    "tiff directory in its header": b"II*\0\x04\0\0\0" + bytes(40),
    "tiff without a size": tiff((258, 8)),
    "tiff of no size": tiff_with(_256=0),
    "tiff with strips longer than the file": tiff_with(_279=10_000),
    "compressed tiff without strip lengths": tiff_with(_259=5, _279=0),
    "tiff of unknown layout": tiff_with(_262=77),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_invalid_images(name):
    error = error_of(BROKEN[name])
    assert (type(error), error.code) == (Unprocessable, "invalid_image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_invalid_images(kind, share):
    data = encoded(noise(), kind)
    error = error_of(data[: int(len(data) * share)])
    assert (type(error), error.code) == (Unprocessable, "invalid_image")


@pytest.mark.parametrize("lost", [2, 50, 500])
def test_truncated_progressive_jpeg_is_an_invalid_image(lost):
    assert error_of(encoded(noise(), "JPEG", progressive=True)[:-lost]).code == "invalid_image"


@pytest.mark.parametrize(
    "failure", [OSError("/secret/path"), MemoryError(), Image.DecompressionBombError("x")]
)
def test_what_pillow_raises_stays_inside(failure, monkeypatch):
    def load(self):
        raise failure

    data = encoded(noise(), "PNG")
    monkeypatch.setattr(Image.Image, "load", load)
    error = error_of(data)
    assert error.code == "invalid_image"
    assert "secret" not in error.message


def test_damaged_files_give_an_image_or_an_error_of_ours():
    """Bit flips, cuts and splices in every format; a warning would fail the test as an error."""
    rng = random.Random(20_261_120)
    small = noise(12, 16)
    tags = Image.Exif()
    tags[274] = 6
    seeds = [encoded(small, kind) for kind in ("BMP", "GIF", "TIFF")]
    seeds += [encoded(small, kind, exif=tags.tobytes()) for kind in ("JPEG", "PNG", "WEBP")]
    seeds += [
        encoded(small, "JPEG", progressive=True),
        encoded(small.convert("CMYK"), "JPEG"),
        encoded(small.convert("P"), transparency=bytes(range(256))),
        encoded(small, "WEBP", lossless=True),
        encoded(small, "TIFF", compression="tiff_lzw"),
        encoded(small, "TIFF", compression="jpeg"),
        encoded(small, "GIF", save_all=True, append_images=[small.transpose(0)]),
        encoded(small, "PNG", save_all=True, append_images=[small.transpose(0)]),
    ]
    limits = ImageLimits(max_pixels=1_000_000)
    outcomes = {"image": 0, "error": 0}
    for round_number in range(1500):
        data = bytearray(seeds[round_number % len(seeds)])
        reach = len(data) if rng.random() < 0.5 else min(len(data), 120)  # headers as often
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(reach)] = rng.choice((0, 0xFF, rng.randrange(256)))
        if rng.random() < 0.25:
            del data[rng.randrange(len(data)) :]
        try:
            decode_image(bytes(data), limits)
            outcomes["image"] += 1
        except ApiError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 100
