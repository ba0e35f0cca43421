"""COCO's run-length encoding from crops, maps and edges, held against pycocotools."""

import numpy as np
import pycocotools.mask as mask_api
import pytest

from models.structures.rle import RLE, encode_rle_crop, encode_rle_edges, encode_rle_map


def by_pycocotools(mask: np.ndarray) -> RLE:
    encoded = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def encoded_edges(masks: list[list[int]], height: int, width: int) -> list[RLE]:
    edges = np.array([edge for mask in masks for edge in mask], dtype=np.int64)
    owners = np.arange(len(masks)).repeat([len(mask) for mask in masks])
    return encode_rle_edges(edges, owners, len(masks), height, width)


def assert_encodes_like_the_full_frame(
    bits: np.ndarray, left: int, top: int, height: int, width: int
) -> None:
    frame = np.zeros((height, width), dtype=np.uint8)
    frame[top : top + bits.shape[0], left : left + bits.shape[1]] = bits
    expected = mask_api.encode(np.asfortranarray(frame))
    encoded = encode_rle_crop(bits, left=left, top=top, height=height, width=width)
    assert encoded == {"size": [height, width], "counts": expected["counts"].decode("ascii")}


@pytest.mark.parametrize("seed", range(10))
def test_random_crops_encode_like_the_full_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        height, width = rng.integers(1, 25, size=2)
        top, left = rng.integers(0, height), rng.integers(0, width)
        shape = rng.integers(1, height - top + 1), rng.integers(1, width - left + 1)
        bits = rng.random(shape) < rng.choice([0.02, 0.5, 0.98])
        assert_encodes_like_the_full_frame(bits, int(left), int(top), int(height), int(width))


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 0), (0, 2), (3, 2)])
@pytest.mark.parametrize("fill", [False, True])
def test_crops_in_each_corner_encode_like_the_full_frame(left: int, top: int, fill: bool) -> None:
    assert_encodes_like_the_full_frame(np.full((4, 5), fill), left, top, height=6, width=8)


def test_full_height_columns_are_one_run() -> None:
    bits = np.ones((6, 3), dtype=bool)
    assert_encodes_like_the_full_frame(bits, 2, 0, height=6, width=8)
    encoded = encode_rle_crop(bits, left=2, top=0, height=6, width=8)
    runs = mask_api.frPyObjects({"size": [6, 8], "counts": [12, 18, 18]}, 6, 8)
    assert encoded["counts"] == runs["counts"].decode("ascii")


def test_a_run_over_the_bottom_into_the_next_column_merges() -> None:
    bits = np.zeros((6, 2), dtype=bool)
    bits[4:, 0] = bits[:2, 1] = True
    assert_encodes_like_the_full_frame(bits, 3, 0, height=6, width=8)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_a_crop_without_foreground_is_an_empty_mask(shape: tuple[int, int]) -> None:
    assert_encodes_like_the_full_frame(np.zeros(shape, dtype=bool), 1, 1, height=6, width=8)


@pytest.mark.parametrize("value", [False, True])
def test_an_image_of_one_pixel_encodes(value: bool) -> None:
    assert_encodes_like_the_full_frame(np.array([[value]]), 0, 0, height=1, width=1)


@pytest.mark.parametrize("value", [False, True])
def test_a_crop_of_the_full_frame_encodes(value: bool) -> None:
    assert_encodes_like_the_full_frame(np.full((6, 8), value), 0, 0, height=6, width=8)


def test_a_crop_in_a_huge_frame_does_not_overflow() -> None:
    height = width = 50_000  # more than 2^31 pixels
    encoded = encode_rle_crop(
        np.ones((2, 1), dtype=bool), left=width - 1, top=height - 2, height=height, width=width
    )
    runs = [height * width - 2, 2]
    expected = mask_api.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    assert encoded["counts"] == expected["counts"].decode("ascii")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 17), (60, 80)])
@pytest.mark.parametrize("values", [[0], [3, 7], [0, 1, 2, 300, -5]])
def test_a_map_gives_each_values_area_and_mask(shape: tuple[int, int], values: list[int]) -> None:
    noisy = np.random.default_rng(0).choice(values, shape)
    noisy[: shape[0] // 2] = values[-1]
    found, areas, masks = encode_rle_map(noisy)
    assert found.tolist() == sorted(set(noisy.ravel().tolist()))
    assert areas.tolist() == [int((noisy == value).sum()) for value in found]
    assert masks == [by_pycocotools(noisy == value) for value in found]


def test_edges_of_several_masks_are_encoded_at_once() -> None:
    frames = np.random.default_rng(0).random((20, 40, 30)) < 0.4
    frames[3] = frames[7] = frames[-1] = False
    frames[5] = True
    edges = []
    for frame in frames:
        down = np.concatenate(([0], frame.T.ravel().astype(np.int8), [0]))
        edges.append(np.flatnonzero(np.diff(down)).tolist())
    assert encoded_edges(edges, 40, 30) == [by_pycocotools(frame) for frame in frames]


@pytest.mark.parametrize("extra", [[5, 5], [0, 0], [9, 9], [24, 24], [2, 2, 2, 2], [4, 4, 24, 24]])
def test_equal_edges_cancel_each_other_out(extra: list[int]) -> None:
    [plain, again] = encoded_edges([[2, 9, 11, 20], sorted([2, 9, 11, 20, *extra])], 4, 6)
    assert again == plain


def test_no_masks_are_an_empty_list() -> None:
    assert encoded_edges([], 4, 6) == []


def test_counts_of_every_length_are_encoded_as_by_pycocotools() -> None:
    sizes = [1, 15, 16, 17, 511, 512, 513, 16_383, 16_384, 16_385, 524_288, 20_000_000]
    edges = np.cumsum([a for size in sizes for a in (size, 3, size, size)]).tolist()
    height, width = edges[-1] // 1000 + 1, 1000
    counts = [*np.diff([0, *edges]).tolist(), height * width - edges[-1]]
    expected = mask_api.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    [found] = encoded_edges([edges], height, width)
    assert found["counts"] == expected["counts"].decode("ascii")
