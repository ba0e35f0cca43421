"""Masks in COCO's run-length encoding: written from every form, and those of files checked."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import pytest
import torch

from models.evaluation import EvaluationError
from models.evaluation.run_lengths import encode_masks, fault_of_rle
from models.postprocessing import paste_instance_masks
from models.structures import Boxes, Instances

HEIGHT, WIDTH = 30, 50


def instances(masks: Any, number: int = 2) -> Instances:
    boxes = torch.tensor([[3.0, 4.0, 20.0, 25.5], [10.0, 2.0, 60.0, 28.0]])[:number]
    return Instances((HEIGHT, WIDTH), pred_boxes=Boxes(boxes), pred_masks=masks)


def test_soft_masks_frames_and_rle_give_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    soft = instances(torch.rand((2, 1, 28, 28), generator=generator))
    encoded = encode_masks(soft)
    frames = paste_instance_masks(soft)
    assert encode_masks(frames) == encoded
    assert encode_masks(instances(encoded)) == encoded
    for mask, frame in zip(encoded, frames.pred_masks, strict=True):
        assert np.array_equal(mask_api.decode(mask).astype(bool), frame.numpy())


@pytest.mark.parametrize(
    "masks", [torch.zeros(0, 1, 28, 28), torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool)]
)
def test_no_masks_at_all(masks: torch.Tensor) -> None:
    assert encode_masks(instances(masks, 0)) == []


@pytest.mark.parametrize(
    "masks",
    [torch.zeros(2, 28, 28), torch.zeros(2, 8, 9, dtype=torch.bool), torch.zeros(2, 2, 28, 28)],
)
def test_masks_of_another_shape(masks: torch.Tensor) -> None:
    with pytest.raises(EvaluationError, match="neither soft masks"):
        encode_masks(instances(masks))


@pytest.mark.parametrize("seed", range(5))
def test_every_mask_of_pycocotools_is_sound(seed: int) -> None:
    frame = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < (seed + 1) / 6
    mask = mask_api.encode(np.asfortranarray(frame.astype(np.uint8)))
    text = mask["counts"].decode()
    assert fault_of_rle({"size": [HEIGHT, WIDTH], "counts": text}, HEIGHT, WIDTH) == ""
    assert fault_of_rle({"size": [HEIGHT, WIDTH], "counts": text[:-1]}, HEIGHT, WIDTH) != ""


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([10, -10, HEIGHT * WIDTH], "no run lengths"),
        ([0.5], "no run lengths"),
        ([True], "no run lengths"),
        (None, "no run lengths"),
        ("", "cover 0 of"),
        ("é", "no run lengths"),
        ("o" * 100, "no run lengths"),
        ("O", "no run lengths"),  # -1
        ("o", "no run lengths"),  # more should follow
    ],
)
def test_counts_that_are_none(counts: Any, said: str) -> None:
    assert said in fault_of_rle({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)


def test_a_mask_that_is_none() -> None:
    assert "an object" in fault_of_rle("text", HEIGHT, WIDTH)
    assert "its size" in fault_of_rle({"counts": [1]}, HEIGHT, WIDTH)
