"""What pixels come out of each format and mode."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.errors import ApiError
from service.images import ImageLimits, decode_image, decoding
from service.images.jpeg_pixels import decode_jpeg_rgb

LIMITS = ImageLimits()
FORMATS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "jpeg"}),
    ("GIF", {}),
]


def picture(height=20, width=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def decoded(data):
    return decode_image(data, LIMITS).pixels


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, *, width, height, depth, color_type):
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_pixels_equal_pillows(kind, options):
    data = encoded(picture(), kind, **options)
    image = decode_image(data, LIMITS)
    assert image.format == kind
    np.testing.assert_array_equal(image.pixels, by_pillow(data))


def test_result_is_a_writable_contiguous_array():
    image = decode_image(encoded(picture(20, 30)), LIMITS)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable
    assert (image.pixels.dtype, image.height, image.width) == (np.uint8, 20, 30)


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_one_pixel(kind, options):
    assert decoded(encoded(Image.new("RGB", (1, 1)), kind, **options)).shape == (1, 1, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_modes_equal_pillows_conversion(mode):
    image = Image.merge("LAB", picture().split()) if mode == "LAB" else picture().convert(mode)
    kind = "PNG" if mode in ("LA", "P", "RGBA") else "TIFF"
    data = encoded(image, kind)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


JPEGS = {
    "grey": ("L", {}),
    "grey progressive": ("L", {"progressive": True}),
    "full colour resolution": ("RGB", {"subsampling": 0}),
    "half": ("RGB", {"subsampling": 1}),
    "quarter": ("RGB", {"subsampling": 2}),
    "progressive": ("RGB", {"progressive": True, "subsampling": 2}),
    "RGB stored as such": ("RGB", {"keep_rgb": True}),
    "restart markers": ("RGB", {"restart_marker_blocks": 2}),
    "restart markers progressive": ("RGB", {"restart_marker_rows": 1, "progressive": True}),
    "coarse": ("RGB", {"quality": 5}),
    "optimised": ("RGB", {"optimize": True}),
}


@pytest.mark.parametrize("size", [(64, 64), (33, 17), (1, 40), (40, 1), (7, 9)])
@pytest.mark.parametrize("name", JPEGS)
def test_kinds_of_jpeg_equal_pillows(name, size):
    mode, options = JPEGS[name]
    data = encoded(picture(*size).convert(mode), "JPEG", **options)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_half_the_rows_of_colour_equals_pillows(progressive):
    """Pillow writes none: one with half the columns whose header is changed, in as many blocks."""
    data = encoded(picture(64, 64), "JPEG", subsampling=1, progressive=progressive)
    assert data.count(b"\x01\x21\x00") == 1
    data = data.replace(b"\x01\x21\x00", b"\x01\x12\x00")
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


def test_a_jpeg_without_application_segments_equals_pillows():
    data = encoded(picture(33, 17), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    data = data[:2] + data[20:]
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_pillows_turned(orientation):
    data = encoded(picture(33, 17), "JPEG", exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    image = decode_image(data, LIMITS)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable


def outcome(data, decode):
    try:
        return decode(data, LIMITS).pixels
    except ApiError as error:
        return error.code


def test_damaged_jpegs_have_the_outcome_that_pillow_alone_gives(monkeypatch):
    rng = random.Random(7)
    kinds = [JPEGS[name] for name in ("half", "progressive", "restart markers", "grey")]
    seeds = [encoded(picture(24, 32).convert(mode), "JPEG", **kw) for mode, kw in kinds]
    files = []
    for number in range(400):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.choice((0, 1, 3))):
            data[rng.randrange(len(data))] = rng.choice((0, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        files.append(bytes(data))
    ours = [outcome(data, decode_image) for data in files]
    monkeypatch.setattr(decoding, "decode_jpeg_rgb", lambda *_: None)
    pillows = [outcome(data, decode_image) for data in files]
    for one, other in zip(ours, pillows, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {type(one) for one in ours} == {str, np.ndarray}


def test_what_the_fast_decoder_refuses_is_left_to_pillow(capfd):
    data = encoded(picture(64, 64), "JPEG")
    data = data[:-40] + data[-2:]  # some of the last blocks are lost
    assert decode_jpeg_rgb(data, 64, 64) is None
    np.testing.assert_array_equal(decoded(data), by_pillow(data))
    assert capfd.readouterr() == ("", "")


def test_a_file_of_another_size_than_its_header_said_is_not_taken():
    data = encoded(picture(20, 30), "JPEG")
    assert decode_jpeg_rgb(data, 20, 30) is not None
    assert decode_jpeg_rgb(data, 30, 20) is None


@pytest.mark.parametrize("transform", [b"\x00", b"\x02"])
def test_adobe_cmyk_and_ycck_jpegs_equal_pillows(transform):
    data = encoded(picture().convert("CMYK"), "JPEG")
    start = data.index(b"Adobe")
    data = data[: start + 11] + transform + data[start + 12 :]
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


def test_metadata_does_not_change_a_jpeg():
    plain = encoded(picture(), "JPEG")
    full = encoded(picture(), "JPEG", comment=b"hello", icc_profile=bytes(70_000), dpi=(72, 72))
    np.testing.assert_array_equal(decoded(full), decoded(plain))


def test_multi_picture_jpeg_is_a_jpeg_of_its_first_picture():
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    image = decode_image(data, LIMITS)
    assert image.format == "JPEG"
    np.testing.assert_array_equal(image.pixels, decoded(encoded(picture(), "JPEG")))


def test_transparency_is_dropped_and_colours_below_it_are_kept():
    image = picture()
    image.putalpha(0)
    np.testing.assert_array_equal(decoded(encoded(image)), np.asarray(picture()))


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_transparency_of_a_palette_is_dropped(transparency):
    image = picture().convert("P")
    data = encoded(image, transparency=transparency)
    np.testing.assert_array_equal(decoded(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(kind):
    values = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
    assert decoded(encoded(Image.fromarray(values), kind))[0, :, 0].tolist() == [0, 0, 1, 18, 255]


def test_big_endian_16_bit_tiff_keeps_its_high_byte():
    data = encoded(Image.fromarray(np.array([[0x1234, 0xFF00]], ">u2")), "TIFF")
    assert data[:2] == b"MM"
    assert decoded(data)[0, :, 0].tolist() == [0x12, 0xFF]


def test_16_bit_colour_keeps_its_high_byte():
    rows = b"\0" + struct.pack(">3H", 0x12FF, 0x3400, 0xFFFF)
    data = png(rows, width=1, height=1, depth=16, color_type=2)
    assert decoded(data)[0, 0].tolist() == [0x12, 0x34, 0xFF]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-5, 0, 255], [0, 0, 255]),
        ([-5, 0x1200, 0xFFFF], [0, 0x12, 0xFF]),
        ([0, 0x01000000, 0x7FFFFFFF], [0, 1, 127]),
    ],
)
def test_integers_use_the_smallest_range_that_holds_them(values, expected):
    image = Image.fromarray(np.array([values], np.int32))
    assert decoded(encoded(image, "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, 0.0, 0.5, 1.0], [0, 0, 128, 255]),
        ([0.0, 2.4, 254.6, 1e9], [0, 2, 255, 255]),
        ([float("nan"), 0.0, 1.0, 1.0], [0, 0, 255, 255]),
        ([float("inf"), float("-inf"), 3.0, 4.0], [255, 0, 3, 4]),
    ],
)
def test_floats_are_read_as_unit_or_byte_range(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    assert decoded(encoded(image, "TIFF"))[0, :, 0].tolist() == expected


# The letter F, which looks different in each of the eight orientations.
UPRIGHT = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]], np.uint8) * 255
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind, orientation):
    large = np.kron(STORED[orientation], np.ones((8, 8), np.uint8))
    data = encoded(Image.fromarray(large).convert("RGB"), kind, exif=exif(orientation))
    pixels = decoded(data)[4::8, 4::8, 0]
    np.testing.assert_array_equal(pixels > 127, UPRIGHT > 127)


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0", b"Exif\0\0garbage", exif(6)[:-5], exif(6)[:12], exif(9), exif(0)]
)
def test_broken_exif_is_ignored(broken):
    data = encoded(picture(), "JPEG", exif=broken)
    np.testing.assert_array_equal(decoded(data), decoded(encoded(picture(), "JPEG")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several_is_used(kind):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    first, *others = [Image.new("RGB", (8, 8), colour) for colour in colours]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=others, **options)
    assert (decoded(data) == colours[0]).all()


def test_gif_picture_beyond_its_screen_widens_the_image():
    data = bytearray(encoded(Image.new("L", (9, 7)), "GIF"))
    data[6:10] = struct.pack("<HH", 2, 3)
    assert decoded(bytes(data)).shape == (7, 9, 3)


def bmp(width, height, *, compression, bits, body):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    palette = b"".join(bytes((i, 0, 0, 0)) for i in range(256)) if bits == 8 else b""
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + header + palette + body


def test_bmp_of_negative_height_is_top_down():
    data = bmp(1, -2, compression=0, bits=24, body=b"\x01\x02\x03\0\x04\x05\x06\0")
    assert decoded(data).tolist() == [[[3, 2, 1]], [[6, 5, 4]]]


def test_run_length_coded_bmp():
    data = bmp(3, 1, compression=1, bits=8, body=b"\x02\x07\x01\x09\x00\x01")
    assert decoded(data)[0, :, 2].tolist() == [7, 7, 9]


def test_tiled_tiff_equals_its_picture():
    pixels = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32).astype(np.uint8)
    tiles = [pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    data = tiff(
        {256: 32, 257: 32, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16},
        lists={324: [8 + 256 * i for i in range(4)], 325: [256] * 4},
        body=b"".join(tiles),
    )
    np.testing.assert_array_equal(decoded(data)[..., 0], pixels)


@pytest.mark.parametrize("big", [False, True])
def test_both_widths_of_tiff_are_read(big):
    data = encoded(picture(), "TIFF", big_tiff=big)
    assert data[2] == (43 if big else 42)
    np.testing.assert_array_equal(decoded(data), np.asarray(picture()))


def tiff(scalars, *, lists=None, body=b""):
    """A little-endian TIFF: body at 8, then lists of values, then one directory."""
    entries = {tag: (1, value) for tag, value in scalars.items()}
    tail = b""
    for tag, values in (lists or {}).items():
        entries[tag] = (len(values), 8 + len(body) + len(tail))
        tail += struct.pack(f"<{len(values)}I", *values)
    directory = struct.pack("<H", len(entries))
    for tag, (count, value) in sorted(entries.items()):
        directory += struct.pack("<HHII", tag, 4, count, value)
    offset = 8 + len(body) + len(tail)
    return struct.pack("<2sHI", b"II", 42, offset) + body + tail + directory + bytes(4)
