"""Loading batches: the same samples however many processes read, and none of them stays."""

import multiprocessing
import os
import pickle
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from painted_picture import painted_config, painted_dataset, painted_object

from models.errors import ConfigError
from models.training.data.dataset import TrainingDataset, TrainingImage
from models.training.data.errors import DataError
from models.training.data.loader import TrainingLoader, build_loader
from models.training.data.mapper import TrainingMapper

Batches = list[list[dict[str, Any]]]


@pytest.fixture
def data(tmp_path: Path) -> TrainingDataset:
    """Five records of the painted picture."""
    painted = painted_dataset(tmp_path, painted_object("rle"), painted_object(class_id=1))
    first = painted.images[0]
    images = tuple(
        TrainingImage(number, first.path, first.height, first.width, first.objects)
        for number in range(5)
    )
    return TrainingDataset(
        "set.json",
        painted.class_names,
        images,
        painted.keypoint_names,
        painted.keypoint_flip_map,
        has_masks=True,
        has_keypoints=True,
    )


def loaded(data: TrainingDataset, count: int = 4, **keywords: Any) -> Batches:
    cfg = painted_config(
        INPUT__MIN_SIZE_TRAIN=(40, 50, 60),
        INPUT__RANDOM_FLIP="horizontal",
        INPUT__CROP={"ENABLED": True},
    )
    with build_loader(cfg, data, **{"seed": 5, "batch_size": 2, **keywords}) as loader:
        return list(islice(loader, count))


def contents(sample: dict[str, Any]) -> list[torch.Tensor]:
    found = sample["instances"]
    return [
        sample["image"],
        torch.tensor([sample["image_id"], sample["height"], sample["width"]]),
        found.gt_boxes.tensor,
        found.gt_classes,
        found.gt_masks.tensor,
        found.gt_keypoints.tensor,
    ]


def are_equal(first: Batches, second: Batches) -> bool:
    return len(first) == len(second) and all(
        torch.equal(x, y)
        for a, b in zip(first, second, strict=True)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(contents(one), contents(other), strict=True)
    )


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_same_bits_as_none(data: TrainingDataset, num_workers: int) -> None:
    expected = loaded(data, 6)
    assert are_equal(loaded(data, 6, num_workers=num_workers), expected)
    assert multiprocessing.active_children() == []


def test_what_a_spawned_worker_is_sent_gives_the_same_bits(data: TrainingDataset) -> None:
    cfg = painted_config(INPUT__MIN_SIZE_TRAIN=(40, 50), INPUT__RANDOM_FLIP="horizontal")
    mapper = TrainingMapper(cfg, data)
    sent_data, sent_mapper = pickle.loads(pickle.dumps((data, mapper)))
    expected = [[mapper(image, 3) for image in data.images]]
    assert are_equal([[sent_mapper(image, 3) for image in sent_data.images]], expected)


def test_there_are_no_more_workers_than_processors(data: TrainingDataset) -> None:
    with build_loader(painted_config(), data, seed=0, batch_size=2, num_workers=99) as loader:
        next(loader)
        assert len(multiprocessing.active_children()) == len(os.sched_getaffinity(0))


def test_starting_later_equals_skipping(data: TrainingDataset) -> None:
    whole = loaded(data, 6)
    assert are_equal(loaded(data, 4, start=2), whole[2:])
    assert are_equal(loaded(data, 1, start=5, num_workers=2), whole[5:])


def test_ranks_share_a_batch_out(data: TrainingDataset) -> None:
    whole = loaded(data, 3)
    ranks = [loaded(data, 3, rank=rank, world_size=2) for rank in range(2)]
    joined = [[*first, *second] for first, second in zip(*ranks, strict=True)]
    assert are_equal(joined, whole)


def test_a_picture_looks_different_each_time_it_comes(data: TrainingDataset) -> None:
    samples = [sample for batch in loaded(data, 10) for sample in batch if sample["image_id"] == 3]
    assert len(samples) == 4
    assert len({sample["image"].numpy().tobytes() for sample in samples}) == 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_global_generator_is_left_as_it_was(data: TrainingDataset, num_workers: int) -> None:
    before = torch.get_rng_state()
    loaded(data, 2, num_workers=num_workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_picture_ends_loading_with_its_name(
    data: TrainingDataset, num_workers: int
) -> None:
    data.images[0].path.write_bytes(b"\x89PNG")
    cfg = painted_config()
    loader = build_loader(cfg, data, seed=0, batch_size=2, num_workers=num_workers)
    with pytest.raises(DataError) as caught:
        next(loader)
    assert caught.value.message.startswith("painted.png cannot be read as a picture")
    assert caught.value.details["file"] == "painted.png"
    assert multiprocessing.active_children() == []
    assert list(loader) == []


def test_closing_ends_the_workers_at_once_and_twice_is_no_error(data: TrainingDataset) -> None:
    loader = build_loader(painted_config(), data, seed=0, batch_size=2, num_workers=2)
    next(loader)
    assert multiprocessing.active_children() != []
    loader.close()
    loader.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_for_the_process_that_trains(data: TrainingDataset, number: int) -> None:
    with build_loader(painted_config(), data, seed=0, batch_size=2, num_workers=1) as loader:
        next(loader)
        (worker,) = multiprocessing.active_children()
        assert worker.pid is not None
        os.kill(worker.pid, number)
        # More than it could have read ahead by then.
        assert len(list(islice(loader, 8))) == 8
        assert worker.is_alive()


def test_own_mappers_get_pictures_and_seeds(data: TrainingDataset) -> None:
    def mapper(image: TrainingImage, seed: int) -> dict[str, Any]:
        return {"id": image.id, "seed": seed}

    loader = build_loader(painted_config(), data, seed=0, batch_size=5, mapper=mapper)
    samples = [sample for batch in islice(loader, 4) for sample in batch]
    assert {sample["id"] for sample in samples} == {0, 1, 2, 3, 4}
    assert len({sample["seed"] for sample in samples}) == 20


def test_errors_keep_their_details_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DataError("A sentence.", file="a.png")))
    assert (error.message, error.details) == ("A sentence.", {"file": "a.png"})


def test_a_negative_number_of_workers_is_refused(data: TrainingDataset) -> None:
    with pytest.raises(ConfigError, match=r"DATALOADER\.NUM_WORKERS is -1"):
        build_loader(painted_config(), data, seed=0, batch_size=2, num_workers=-1)


def test_a_loader_is_an_iterator(data: TrainingDataset) -> None:
    loader = build_loader(painted_config(), data, seed=0, batch_size=2)
    assert isinstance(loader, TrainingLoader)
    assert iter(loader) is loader
