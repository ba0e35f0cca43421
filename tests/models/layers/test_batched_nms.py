"""Suppression of many groups at once against torchvision's kernel, group by group."""

import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import models.layers.batched_nms as batched_nms
from models.layers.batched_nms import best_per_image, suppress


def random_boxes(generator: torch.Generator, count: int, *, grid: float) -> Tensor:
    """Boxes with corners on a grid, so that overlaps hit thresholds exactly; some without area."""
    corners = (torch.rand(count, 2, 2, generator=generator) * 40 / grid).round() * grid
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)


def suppress_slowly(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    kept = torch.zeros_like(valid)
    for group, (all_boxes, mask) in enumerate(zip(boxes, valid, strict=True)):
        index = mask.nonzero().flatten()
        falling = torch.arange(len(index), 0, -1).float()
        kept[group, index[torchvision.ops.nms(all_boxes[index], falling, iou_threshold)]] = True
    return kept


@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(0, 4),
    size=st.integers(0, 40),
    grid=st.sampled_from([0.1, 1.0, 5.0, 10.0]),
    threshold=st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.8, 1.0]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_the_boxes_that_stay_are_those_of_the_kernel(
    seed: int, groups: int, size: int, grid: float, threshold: float, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, groups * size, grid=grid).view(groups, size, 4)
    valid = torch.rand(groups, size, generator=generator) <= share
    expected = suppress_slowly(boxes, valid, threshold)
    assert torch.equal(suppress(boxes, valid, threshold), expected)


def test_a_long_chain_is_followed_to_its_end() -> None:
    # Each box overlaps the next one only, so every second one stays: 99 corrections in a row.
    left = torch.arange(100.0)
    boxes = torch.stack((left, left * 0, left + 1.9, left * 0 + 1), dim=1)[None]
    valid = torch.ones(1, 100, dtype=torch.bool)
    kept = suppress(boxes, valid, 0.2)
    assert kept[0].nonzero().flatten().tolist() == list(range(0, 100, 2))


def test_padding_that_is_not_finite_does_no_harm() -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 9], [float("nan")] * 4, [0, 0, 9, 8], [float("inf")] * 4]])
    valid = torch.tensor([[True, False, True, False]])
    assert suppress(boxes, valid, 0.5).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize(
    ("name", "value"), [("LARGEST_GROUP", 8), ("PAIRS_AT_ONCE", 30 * 30), ("PAIRS_AT_ONCE", 1)]
)
def test_bounds_of_memory_change_nothing(
    name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = random_boxes(generator, 5 * 30, grid=1.0).view(5, 30, 4)
    valid = torch.rand(5, 30, generator=generator) < 0.8
    expected = suppress(boxes, valid, 0.4)
    monkeypatch.setattr(batched_nms, name, value)
    assert torch.equal(suppress(boxes, valid, 0.4), expected)


@pytest.mark.parametrize(("name", "value"), [("LARGEST_GROUP", 8), ("PAIRS_AT_ONCE", 2 * 30 * 30)])
def test_each_group_may_have_its_own_threshold(
    name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(4)
    boxes = random_boxes(generator, 5 * 30, grid=1.0).view(5, 30, 4)
    valid = torch.rand(5, 30, generator=generator) < 0.8
    limits = torch.tensor([0.25, 0.5, 0.0, 0.75, 1.0])
    expected = [
        suppress(boxes[i : i + 1], valid[i : i + 1], limit)[0]
        for i, limit in enumerate(limits.tolist())
    ]
    assert torch.equal(suppress(boxes, valid, limits), torch.stack(expected))
    monkeypatch.setattr(batched_nms, name, value)
    assert torch.equal(suppress(boxes, valid, limits), torch.stack(expected))


@given(seed=st.integers(0, 2**31), count=st.integers(0, 60), num_images=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_each_image_may_have_its_own_threshold_and_cap(
    seed: int, count: int, num_images: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count, grid=2.0)
    scores = torch.rand(count, generator=generator)
    classes = torch.randint(0, 3, (count,), generator=generator)
    images = torch.randint(0, num_images, (count,), generator=generator)
    limits, most = [0.1, 0.4, 0.7, 1.0][:num_images], [-1, 3, 100, 0][:num_images]

    def best(limit: float | list[float], cap: int | list[int]) -> list[list[int]]:
        found = best_per_image(
            boxes,
            scores,
            classes,
            images,
            num_images=num_images,
            num_classes=3,
            iou_threshold=limit,
            most=cap,
        )
        return [index.tolist() for index in found]

    assert best(limits, most) == [best(limits[i], most[i])[i] for i in range(num_images)]


def best_slowly(
    boxes: Tensor, scores: Tensor, classes: Tensor, images: Tensor, image: int, most: int
) -> list[int]:
    chosen: list[int] = []
    for label in classes.unique().tolist():
        index = ((images == image) & (classes == label)).nonzero().flatten()
        chosen += index[torchvision.ops.nms(boxes[index], scores[index], 0.4)].tolist()
    chosen.sort(key=lambda i: (-float(scores[i]), i))
    return chosen if most < 0 else chosen[:most]


@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 60),
    num_images=st.integers(1, 4),
    num_classes=st.integers(1, 5),
    most=st.sampled_from([-1, 0, 3, 100]),
    levels=st.sampled_from([3, 1000]),
)
@settings(max_examples=200, deadline=None)
def test_the_best_of_each_image_are_those_found_class_by_class(
    seed: int, count: int, num_images: int, num_classes: int, most: int, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count, grid=2.0)
    scores = (torch.rand(count, generator=generator) * levels).ceil() / levels  # with ties
    classes = torch.randint(0, num_classes, (count,), generator=generator)
    images = torch.randint(0, num_images, (count,), generator=generator)
    found = best_per_image(
        boxes,
        scores,
        classes,
        images,
        num_images=num_images,
        num_classes=num_classes,
        iou_threshold=0.4,
        most=most,
    )
    assert [index.tolist() for index in found] == [
        best_slowly(boxes, scores, classes, images, image, most) for image in range(num_images)
    ]
