"""Semantic and panoptic maps to JSON: a PNG of ids, or a mask per segment."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from service.encoding.segmentation import encode_panoptic_seg, encode_sem_seg

THINGS, STUFF = ("cat", "dog"), ("things", "sky", "grass")
INFOS: list[dict[str, Any]] = [
    {"id": 1, "isthing": True, "score": 0.9, "category_id": 1, "instance_id": 0},
    {"id": 2, "isthing": False, "category_id": 2, "area": 999},
]


def decoded(answer: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(answer["png"])))


def blocks(values: list[int], shape: tuple[int, int] = (12, 20)) -> NDArray[np.int32]:
    """A map of random blocks, with every value in it."""
    small = np.random.default_rng(0).choice(values, (shape[0] // 2, shape[1] // 2))
    small.flat[: len(values)] = values
    return small.repeat(2, axis=0).repeat(2, axis=1).astype(np.int32)


def as_coco(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.mark.parametrize(("highest", "depth"), [(0, 8), (255, 8), (256, 16), (40_000, 16)])
def test_the_png_is_the_map_in_as_many_bits_as_it_needs(highest: int, depth: int) -> None:
    classes = blocks([0, highest])
    answer = encode_sem_seg(classes, tuple(map(str, range(highest + 1))), "png")
    assert answer["format"] == "png"
    assert base64.b64decode(answer["png"])[24] == depth  # of the header
    np.testing.assert_array_equal(np.asarray(decoded(answer)), classes)


def test_a_semantic_map_names_the_classes_that_occur_with_their_areas() -> None:
    classes = blocks([0, 2])
    assert encode_sem_seg(classes, STUFF, "png")["segments"] == [
        {"category_id": 0, "category_name": "things", "area": int((classes == 0).sum())},
        {"category_id": 2, "category_name": "grass", "area": int((classes == 2).sum())},
    ]


def test_semantic_masks_are_what_pycocotools_makes() -> None:
    classes = blocks([0, 1, 2])
    answer = encode_sem_seg(classes, STUFF, "rle")
    assert (answer["format"], "png" in answer) == ("rle", False)
    assert [segment["segmentation"] for segment in answer["segments"]] == [
        as_coco(classes == class_id) for class_id in range(3)
    ]


@pytest.mark.parametrize("form", ["png", "rle"])
def test_a_semantic_map_of_one_class_is_whole(form: str) -> None:
    answer = encode_sem_seg(np.ones((3, 5), np.int16), STUFF, form)
    [segment] = answer["segments"]
    assert (segment["category_id"], segment["area"]) == (1, 15)
    if form == "rle":
        assert segment["segmentation"] == as_coco(np.ones((3, 5), bool))


@pytest.mark.parametrize("form", ["png", "rle"])
def test_a_panoptic_map_without_segments_is_empty(form: str) -> None:
    answer = encode_panoptic_seg(
        np.zeros((4, 6), np.int32), [], things=THINGS, stuff=STUFF, form=form
    )
    assert answer["segments_info"] == []
    if form == "png":
        assert not np.asarray(decoded(answer)).any()


def test_panoptic_segments_keep_what_the_model_says_and_get_names_and_areas() -> None:
    segments = blocks([0, 1, 2])
    answer = encode_panoptic_seg(segments, INFOS, things=THINGS, stuff=STUFF, form="png")
    np.testing.assert_array_equal(np.asarray(decoded(answer)), segments)
    assert answer["segments_info"] == [
        INFOS[0] | {"category_name": "dog", "area": int((segments == 1).sum())},
        INFOS[1] | {"category_name": "grass", "area": int((segments == 2).sum())},
    ]
    assert INFOS[1]["area"] == 999  # what the model gave is not changed


def test_panoptic_masks_are_what_pycocotools_makes() -> None:
    segments = blocks([0, 1, 2])
    answer = encode_panoptic_seg(segments, INFOS, things=THINGS, stuff=STUFF, form="rle")
    assert "png" not in answer
    assert [info["segmentation"] for info in answer["segments_info"]] == [
        as_coco(segments == 1), as_coco(segments == 2),
    ]  # fmt: skip


def test_a_segment_without_a_pixel_has_an_empty_mask() -> None:
    segments = np.full((5, 7), 2, np.int32)
    first, _ = encode_panoptic_seg(segments, INFOS, things=THINGS, stuff=STUFF, form="rle")[
        "segments_info"
    ]
    assert first["area"] == 0
    assert first["segmentation"] == as_coco(np.zeros((5, 7), bool))


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((0, 1), (0, 1)), ((11, 12), (19, 20)), ((0, 12), (7, 8)), ((4, 9), (3, 17))],
)
def test_a_mask_made_from_its_crop_lies_where_it_lay(
    rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    segments = np.zeros((12, 20), np.int32)
    segments[slice(*rows), slice(*columns)] = 1
    [info] = encode_panoptic_seg(segments, INFOS[:1], things=THINGS, stuff=STUFF, form="rle")[
        "segments_info"
    ]
    assert info["segmentation"] == as_coco(segments == 1)
