"""Batches: the same after a resume and for any number of processes, of one shape each."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from painted_picture import painted_config, painted_object

from models.errors import ConfigError
from models.training.data.batches import build_batches
from models.training.data.dataset import TrainingDataset, TrainingImage


def dataset(number: int) -> TrainingDataset:
    """Every third picture is higher than wide; every fifth is empty; class 1 in one of them."""
    images = tuple(
        TrainingImage(
            index,
            Path(f"{index}.png"),
            *((30, 20) if index % 3 == 0 else (20, 30)),
            () if index % 5 == 4 else (painted_object(class_id=int(index == 1)),),
        )
        for index in range(number)
    )
    return TrainingDataset("set.json", ("L", "other"), images)


def batches(
    data: TrainingDataset, count: int, *, batch_size: int = 4, seed: int = 0, **keywords: Any
) -> list[list[tuple[int, int]]]:
    changes = keywords.pop("changes", {})
    cfg = painted_config(MODEL__KEYPOINT_ON=False, **changes)
    found = build_batches(cfg, data, seed=seed, batch_size=batch_size, **keywords)
    return list(islice(found, count))


REPEATED = {
    "DATALOADER__SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "DATALOADER__REPEAT_THRESHOLD": 0.3,
}
NOT_GROUPED = {"DATALOADER__ASPECT_RATIO_GROUPING": False}


@pytest.mark.parametrize("changes", [{}, REPEATED, NOT_GROUPED])
@pytest.mark.parametrize("number", [2, 3, 40])
def test_starting_later_equals_skipping(number: int, changes: dict[str, Any]) -> None:
    data = dataset(number)
    whole = batches(data, 30, changes=changes)
    for start in (1, 7, 29):
        assert batches(data, 30 - start, start=start, changes=changes) == whole[start:]


@pytest.mark.parametrize("changes", [{}, REPEATED, NOT_GROUPED])
def test_the_parts_of_all_ranks_join_to_the_batch_of_one(changes: dict[str, Any]) -> None:
    data = dataset(40)
    whole = batches(data, 20, batch_size=12, changes=changes)
    for world_size in (2, 3, 12):
        ranks = [
            batches(
                data, 20, batch_size=12, rank=rank, world_size=world_size, start=0, changes=changes
            )
            for rank in range(world_size)
        ]
        joined = [
            [sample for part in parts for sample in part] for parts in zip(*ranks, strict=True)
        ]
        assert joined == whole


def test_batches_are_all_wide_or_all_not() -> None:
    data = dataset(40)
    found = batches(data, 50)
    shapes = [
        {data.images[index].width > data.images[index].height for _, index in b} for b in found
    ]
    assert all(len(shape) == 1 for shape in shapes)
    assert {True} in shapes
    assert {False} in shapes


def test_without_grouping_they_are_mixed_and_in_the_order_of_their_positions() -> None:
    data = dataset(40)
    found = batches(data, 50, changes=NOT_GROUPED)
    assert [position for batch in found for position, _ in batch] == list(range(200))
    shapes = [
        {data.images[index].width > data.images[index].height for _, index in b} for b in found
    ]
    assert {True, False} in shapes


def test_each_picture_with_objects_comes_once_per_epoch() -> None:
    data = dataset(40)
    epoch = [index for batch in batches(data, 8, changes=NOT_GROUPED) for _, index in batch]
    assert sorted(epoch) == [index for index in range(40) if index % 5 != 4]


def test_positions_are_never_used_twice() -> None:
    positions = [position for batch in batches(dataset(7), 40) for position, _ in batch]
    assert len(set(positions)) == len(positions)


def test_no_picture_waits_for_ever_in_its_group() -> None:
    # 11 of 30 are high: each epoch leaves some of a group for the next.
    counts = [0] * 30
    for batch in batches(dataset(30), 600):
        for _, index in batch:
            counts[index] += 1
    used = [count for index, count in enumerate(counts) if index % 5 != 4]
    assert min(used) >= 99
    assert max(used) <= 101


def test_rare_classes_come_more_often() -> None:
    data = dataset(40)
    indices = [index for batch in batches(data, 200, changes=REPEATED) for _, index in batch]
    # In one of the 32 pictures with objects: sqrt(0.3 * 32) = 3.1 times as often as the others.
    others = (len(indices) - indices.count(1)) / 31
    assert indices.count(1) / others == pytest.approx(3.1, rel=0.1)


def test_seeds_give_other_orders() -> None:
    data = dataset(40)
    assert batches(data, 5, seed=1) != batches(data, 5, seed=2)
    assert batches(data, 5, seed=1) == batches(data, 5, seed=1)


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 3), (2, 4)])
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size: int, world_size: int) -> None:
    with pytest.raises(ConfigError, match=f"A batch of {batch_size} cannot be shared out evenly"):
        batches(dataset(10), 1, batch_size=batch_size, world_size=world_size)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH is 0"):
        batches(dataset(10), 1, batch_size=0)
