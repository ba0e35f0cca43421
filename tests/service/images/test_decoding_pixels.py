"""What pixels come out of each format and mode."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.images import ImageLimits, decode_image

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


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_subsampling_equals_pillows(subsampling):
    data = encoded(picture(33, 17), "JPEG", subsampling=subsampling)
    np.testing.assert_array_equal(decoded(data), by_pillow(data))


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
