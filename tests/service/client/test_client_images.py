"""Pictures of a caller: what is sent of them, and what is drawn on."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.client.images import open_picture, read_image

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
TURNED = 6  # EXIF: a viewer turns it by a quarter


def sent(source: Any) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(read_image(source)[1])))


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("as_given", [str, Path], ids=["text", "path"])
def test_a_file_is_sent_as_it_is(tmp_path: Path, as_given: Any) -> None:
    (tmp_path / "a photo.jpg").write_bytes(jpeg())
    name, data, _ = read_image(as_given(tmp_path / "a photo.jpg"))
    assert (name, data) == ("a photo.jpg", jpeg())


def test_bytes_are_sent_as_they_are() -> None:
    assert read_image(b"no image at all")[:2] == ("image", b"no image at all")


def test_an_array_keeps_its_pixels() -> None:
    assert np.array_equal(sent(PIXELS), PIXELS)
    assert np.array_equal(sent(PIXELS[:, ::-1]), PIXELS[:, ::-1])
    assert [read_image(PIXELS, place)[0] for place in (0, 1)] == ["image.png", "image-2.png"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "F", "HSV"])
def test_an_image_of_any_mode_can_be_sent_and_drawn_on(mode: str) -> None:
    picture = Image.fromarray(PIXELS).convert("L" if mode in ("F", "LA") else "RGB").convert(mode)
    assert sent(picture).shape[:2] == (4, 6)
    assert (open_picture(picture).mode, open_picture(picture).size) == ("RGB", (6, 4))


def test_a_file_is_turned_as_a_viewer_does_and_an_image_is_not() -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    data = jpeg(exif=exif)
    assert open_picture(data).size == (4, 6)
    image = Image.open(io.BytesIO(data))
    assert open_picture(image).size == (6, 4)
    again = Image.open(io.BytesIO(read_image(image)[1]))
    assert 0x0112 not in again.getexif()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (PIXELS.astype(np.float32), "uint8, 0 to 255, not float32"),
        (PIXELS[:, :, 0], r"\(height, width, 3\) RGB, not \(4, 6\)"),
        (PIXELS.transpose(2, 0, 1), r"\(height, width, 3\)"),
        (PIXELS[:0], r"\(height, width, 3\)"),
        ("https://example.com/a.jpg", "is a URL; give a path"),
        ("data:image/png;base64,AAAA", "is a URL"),
    ],
)
def test_what_is_no_picture_is_refused_with_advice(wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_image(wrong)


@pytest.mark.parametrize("wrong", [None, 3, [1, 2]])
def test_other_things_are_no_picture(wrong: Any) -> None:
    with pytest.raises(TypeError, match="An image is a path, bytes, a Pillow image or"):
        read_image(wrong)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.jpg")
