"""Pictures of a report: small, with frames in their place and names that do not hide each other."""

import base64
import io
import re

import numpy as np
import pycocotools.mask as mask_api
from PIL import Image

from models.evaluation.report.pictures import SIDE, Mark, picture_svg


def picture(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def jpeg_of(svg: str) -> Image.Image:
    match = re.search(r"data:image/jpeg;base64,([^\"]+)", svg)
    assert match is not None
    return Image.open(io.BytesIO(base64.b64decode(match[1])))


def test_a_large_picture_is_made_small() -> None:
    svg = picture_svg(picture(1000, 2000), [], title="t")
    assert jpeg_of(svg).size == (SIDE, SIDE // 2)
    assert 'viewBox="0 0 640 320"' in svg


def test_a_small_picture_keeps_its_pixels_and_its_frames_their_place() -> None:
    svg = picture_svg(picture(40, 64), [Mark("missed", [16, 10, 32, 20], "cat")], title="t")
    assert jpeg_of(svg).size == (64, 40)
    frame = '<rect class="frame missed dashed" x="160.0" y="100.0" width="320.0" height="200.0">'
    assert frame in svg


def test_what_was_found_is_solid() -> None:
    svg = picture_svg(picture(40, 64), [Mark("false", [1, 1, 5, 5], "cat 0.50")], title="t")
    assert 'class="frame false"' in svg
    assert "dashed" not in svg


def test_masks_of_what_was_found_are_coloured() -> None:
    frame = np.zeros((64, 64), np.uint8, order="F")
    frame[:32] = 1
    mark = Mark("right", [0, 0, 64, 32], mask=mask_api.encode(frame))
    pixels = np.asarray(jpeg_of(picture_svg(picture(64, 64), [mark], title="t"))).astype(int)
    red, green, _ = pixels[10, 30]
    assert green > red + 20
    assert abs(pixels[55, 30] - 100).max() < 4


def test_names_do_not_lie_on_each_other() -> None:
    marks = [Mark("false", [20, 20, 20, 20], f"cat 0.{i}") for i in range(5, 9)]
    svg = picture_svg(picture(64, 64), marks, title="t")
    places = re.findall(r'class="tag" x="([\d.]+)" y="([\d.]+)"', svg)
    assert len(places) == 4
    assert len(set(places)) == 4


def test_where_there_is_no_room_a_right_one_goes_without_a_name_and_a_mistake_does_not() -> None:
    right = [Mark("right", [0, 0, 64, 64], "right one") for _ in range(9)]
    wrong = [Mark("missed", [0, 0, 64, 64], "missed one") for _ in range(9)]
    svg = picture_svg(picture(64, 64), right + wrong, title="t")
    assert svg.count(">missed one</text>") == 9
    assert svg.count(">right one</text>") < 9


def test_a_name_stays_inside_of_the_picture() -> None:
    svg = picture_svg(picture(64, 64), [Mark("missed", [60, 0, 4, 4], "elephant")], title="t")
    (x, y), *_ = re.findall(r'class="tag" x="([\d.]+)" y="([\d.]+)"', svg)
    assert float(x) + 8 * 12 <= SIDE + 3
    assert 0 < float(y) < SIDE
