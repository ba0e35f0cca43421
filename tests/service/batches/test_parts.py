"""How far a batch is: images, and of those that are cut their tiles."""

from service.batches.parts import BatchParts


def state(parts: BatchParts) -> tuple[int, int, float]:
    return parts.done, parts.total, parts.left


def test_a_plain_image_is_one_part() -> None:
    parts = BatchParts(3)
    assert state(parts) == (0, 3, 3)
    parts.begin(0)(1, 1)
    assert state(parts) == (1, 3, 2)
    parts.end(0)
    assert state(parts) == (1, 3, 2)


def test_a_tiled_image_has_its_tiles_as_parts_once_it_is_cut() -> None:
    parts = BatchParts(1)
    tell = parts.begin(0)
    assert state(parts) == (0, 1, 1)
    tell(0, 12)
    assert state(parts) == (0, 12, 12)
    tell(5, 12)
    assert state(parts) == (5, 12, 7)


def test_images_of_which_nothing_is_known_may_have_as_many_parts_as_the_others() -> None:
    parts = BatchParts(4)
    parts.begin(0)(12, 12)
    parts.end(0)
    parts.begin(1)(2, 6)
    parts.begin(2)
    assert state(parts) == (14, 12 + 6 + 1 + 1, 4 + 2 * 9)


def test_an_image_that_is_tried_again_begins_anew() -> None:
    parts = BatchParts(2)
    parts.begin(0)(7, 12)
    tell = parts.begin(0)
    assert state(parts) == (0, 13, 24)
    tell(1, 12)
    assert state(parts) == (1, 13, 23)


def test_nothing_is_left_of_an_image_that_ended_in_the_middle() -> None:
    parts = BatchParts(1)
    parts.begin(0)(7, 12)
    assert parts.ended == 0
    parts.end(0)
    assert state(parts) == (12, 12, 0)
    assert parts.ended == 12


def test_an_image_that_never_came_so_far_was_one_part() -> None:
    parts = BatchParts(2)
    parts.begin(0)
    parts.end(0)
    assert state(parts) == (1, 2, 1)
