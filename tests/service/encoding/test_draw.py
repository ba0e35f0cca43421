"""Pictures with instances drawn on them, and the colours they are drawn in."""

import itertools

import numpy as np
import pytest

from service.encoding.draw import draw_instances
from service.encoding.palette import class_color, contrast_ratio, hex_color, text_color

NONE = np.zeros((0, 4))
RED = (230, 20, 20)
BLUE = (20, 20, 230)


def noise(height=200, width=300):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw(image, boxes, labels=None, colors=None, masks=None):
    labels = [""] * len(boxes) if labels is None else labels
    colors = [RED] * len(boxes) if colors is None else colors
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    picture = draw_instances(image, boxes=boxes, labels=labels, colors=colors, masks=masks)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("masks", [None, []])
def test_no_instances_give_an_equal_picture(masks):
    image = noise()
    np.testing.assert_array_equal(draw(image, NONE, masks=masks), image)


def test_the_image_given_is_not_changed():
    image = noise()
    before = image.copy()
    draw(image, [[10, 10, 90, 90]], ["disc 99%"], masks=[(10, 10, np.ones((80, 80), bool))])
    np.testing.assert_array_equal(image, before)


def test_a_box_is_drawn_on_its_border_only():
    image = noise()
    drawn = draw(image, [[50, 60, 100, 120]])
    assert (drawn[60, 50:100] == RED).all()
    assert (drawn[119, 50:100] == RED).all()
    assert (drawn[60:120, 50] == RED).all()
    assert (drawn[60:120, 99] == RED).all()
    changed = (drawn != image).any(axis=2)
    changed[60:120, 50:100] = False
    assert not changed.any()
    np.testing.assert_array_equal(drawn[65:115, 55:95], image[65:115, 55:95])


def test_a_mask_is_blended_within_and_drawn_full_on_its_outline():
    image = np.full((200, 300, 3), 255, np.uint8)
    drawn = draw(image, [[0, 0, 1, 1]], masks=[block(40, 60)])
    assert (drawn[60, 40:70] == RED).all()
    inner = drawn[75, 55]
    assert (inner[1:] > RED[1]).all()
    assert (inner[1:] < 255).all()
    assert (drawn[59, 40:70] == 255).all()


def block(left, top, size=30):
    return left, top, np.ones((size, size), bool)


def test_a_mask_that_crosses_the_border_is_cut_off():
    image = noise(50, 60)
    drawn = draw(image, [[0, 0, 1, 1]], masks=[(-10, 40, np.ones((30, 30), bool))])
    changed = (drawn != image).any(axis=2)
    changed[0, 0] = False
    rows, columns = np.nonzero(changed)
    assert (rows.min(), columns.max()) == (40, 19)


@pytest.mark.parametrize("left_top", [(300, 10), (10, 200), (-40, 10), (10, -40), (999, 999)])
def test_a_mask_outside_the_picture_draws_nothing(left_top):
    image = noise()
    drawn = draw(image, [[0, 0, 1, 1]], masks=[block(*left_top)])
    np.testing.assert_array_equal(drawn[1:], image[1:])


def test_an_empty_mask_draws_nothing():
    image = noise()
    drawn = draw(image, [[0, 0, 1, 1]], masks=[(5, 5, np.zeros((0, 0), bool))])
    np.testing.assert_array_equal(drawn[1:], image[1:])


def test_small_instances_are_drawn_over_large_ones():
    image = noise()
    small, large = [40, 40, 60, 60], [20, 40, 120, 140]
    for order in ([small, large], [large, small]):
        colors = [BLUE if box is small else RED for box in order]
        assert (draw(image, order, colors=colors)[40, 45] == BLUE).all()


CORNERS = [[0, 0, 40, 40], [260, 0, 300, 40], [0, 160, 40, 200], [260, 160, 300, 200]]


@pytest.mark.parametrize("box", [*CORNERS, [0, 0, 300, 200], [-50, -50, 900, 900]])
def test_a_tag_stays_whole_inside_the_picture(box):
    # Where a tag lies within its box, it shares a few pixels with the border.
    assert tag_pixels(box) == pytest.approx(tag_pixels([100, 100, 140, 140]), rel=0.15)


def tag_pixels(box):
    """Number of pixels that the tag of a box changes."""
    image = np.full((200, 300, 3), 255, np.uint8)
    return int((draw(image, [box], ["triangle 97%"]) != draw(image, [box])).any(axis=2).sum())


def test_tags_of_one_place_do_not_cover_each_other():
    image = np.full((200, 300, 3), 255, np.uint8)
    boxes = [[100, 100, 160, 150]] * 3
    colors = [RED, BLUE, (20, 160, 20)]
    drawn = draw(image, boxes, ["star 90%"] * 3, colors)
    areas = [int((drawn == color).all(axis=2).sum()) for color in colors]
    assert min(areas) > 0.5 * max(areas)


def test_a_long_label_is_shortened_to_the_picture():
    image = noise(100, 100)
    drawn = draw(image, [[10, 40, 90, 90]], ["a very long name of a class " * 9])
    assert drawn.shape == image.shape
    assert (drawn != image).any(axis=2)[:, 95:].any()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 500), (500, 1)])
def test_tiny_pictures_bear_boxes_and_no_tags(size):
    image = noise(*size)
    box = [0, 0, size[1], size[0]]
    mask = (0, 0, np.ones(size, bool))
    tagged = draw(image, [box], ["person 99%"], masks=[mask])
    np.testing.assert_array_equal(tagged, draw(image, [box], masks=[mask]))


def test_boxes_that_are_not_finite_are_left_out():
    image = noise()
    boxes = [[np.nan, 0, 10, 10], [0, 0, np.inf, 10]]
    np.testing.assert_array_equal(draw(image, boxes, ["a", "b"]), image)


@pytest.mark.parametrize("box", [[50, 50, 50, 50], [60, 60, 40, 40], [400, 300, 500, 400]])
def test_boxes_without_area_are_a_dot(box):
    image = noise()
    assert (draw(image, [box]) != image).any(axis=2).sum() <= 1


def test_arguments_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one entry per instance"):
        draw_instances(noise(), boxes=np.zeros((2, 4)), labels=["a"], colors=[RED], masks=None)


def test_class_colors_are_stable():
    assert [hex_color(class_color(index)) for index in (0, 1, 79)] == [
        "#4599ff",
        "#fd8d77",
        "#e285fe",
    ]


def test_class_colors_of_a_coco_model_are_distinct():
    colors = np.array([class_color(index) for index in range(80)], float)
    distances = [
        np.abs(first - second).max() for first, second in itertools.combinations(colors, 2)
    ]
    assert min(distances) >= 4


def test_neighbouring_class_colors_are_far_apart():
    colors = np.array([class_color(index) for index in range(200)], float)
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 60


@pytest.mark.parametrize("index", range(0, 1000, 7))
def test_tag_text_contrasts_with_its_class_color(index):
    color = class_color(index)
    assert contrast_ratio(text_color(color), color) >= 4.5


def test_text_is_white_on_dark_and_black_on_light():
    assert text_color((20, 20, 60)) == (255, 255, 255)
    assert text_color((250, 240, 200)) == (0, 0, 0)


def test_hex_color_has_six_digits():
    assert hex_color((0, 10, 255)) == "#000aff"
