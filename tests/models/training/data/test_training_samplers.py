"""Orders of pictures: complete, shuffled, reproducible, and rare classes more often."""

import numpy as np
import pytest
from painted_picture import painted_config

from models.config import Config, default_config
from models.errors import ConfigError
from models.training.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
    build_sampler,
    repeat_factors,
)


def test_an_epoch_has_each_picture_once_in_its_own_order() -> None:
    sampler = TrainingSampler(50, seed=3)
    first, second = sampler.epoch(0), sampler.epoch(1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(50))


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    fresh = TrainingSampler(50, seed=3)
    used = TrainingSampler(50, seed=3)
    used.epoch(0)
    assert fresh.epoch(7).tolist() == used.epoch(7).tolist()
    assert fresh.epoch(7).tolist() != TrainingSampler(50, seed=4).epoch(7).tolist()


def test_factors_follow_the_rarest_class_of_a_picture() -> None:
    # Class 0 is in all 100 pictures, class 1 in 25, class 2 in 1.
    classes = [{0, 1, 2}] + [{0, 1}] * 24 + [{0}] * 75
    factors = repeat_factors(classes, 0.25)
    assert factors[0] == pytest.approx(np.sqrt(0.25 / 0.01))
    assert factors[1:] == (1.0,) * 99
    assert repeat_factors(classes, 0.25, square_root=False)[0] == pytest.approx(25)


def test_pictures_without_classes_come_once() -> None:
    assert repeat_factors([set(), {4}, set()], 1.0) == (1.0, pytest.approx(np.sqrt(3)), 1.0)


def test_pictures_come_as_often_as_their_factors_in_the_mean() -> None:
    sampler = RepeatFactorTrainingSampler((1.0, 1.5, 2.25, 3.0), seed=0)
    epochs = [np.bincount(sampler.epoch(number), minlength=4) for number in range(400)]
    assert np.mean(epochs, axis=0) == pytest.approx((1.0, 1.5, 2.25, 3.0), abs=0.1)
    # A fraction is one more or none, drawn for each epoch.
    assert {counts[1] for counts in epochs} == {1, 2}
    assert {counts[3] for counts in epochs} == {3}
    assert sampler.epoch(9).tolist() == sampler.epoch(9).tolist()


def test_a_subset_is_the_same_in_all_epochs() -> None:
    sampler = RandomSubsetTrainingSampler(100, 0.2, seed=1)
    first, second = sampler.epoch(0), sampler.epoch(1)
    assert len(first) == 20
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()
    assert len(RandomSubsetTrainingSampler(3, 0.1, seed=1).epoch(0)) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TrainingSampler", TrainingSampler),
        ("RepeatFactorTrainingSampler", RepeatFactorTrainingSampler),
        ("RandomSubsetTrainingSampler", RandomSubsetTrainingSampler),
    ],
)
def test_the_config_names_it(name: str, kind: type) -> None:
    cfg = painted_config(DATALOADER__SAMPLER_TRAIN=name)
    assert isinstance(build_sampler(cfg, [{0}, {1}], seed=0), kind)


def test_the_configs_threshold_and_ratio_are_used() -> None:
    repeated = painted_config(
        DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler",
        DATALOADER__REPEAT_THRESHOLD=1.0,
        DATALOADER__REPEAT_SQRT=False,
    )
    epoch = build_sampler(repeated, [{0}, {0}, {0}, {1}], seed=0).epoch(0)
    assert epoch.tolist().count(3) == 4

    values = default_config().to_dict()
    values["DATALOADER"] |= {
        "SAMPLER_TRAIN": "RandomSubsetTrainingSampler",
        "RANDOM_SUBSET_RATIO": 0.5,
    }
    assert len(build_sampler(Config(values), [{0}] * 10, seed=0).epoch(0)) == 5


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"DATALOADER\.SAMPLER_TRAIN is 'Other'; it is"):
        build_sampler(painted_config(DATALOADER__SAMPLER_TRAIN="Other"), [{0}], seed=0)
    wrong = painted_config(
        DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler", DATALOADER__REPEAT_THRESHOLD=2.0
    )
    with pytest.raises(ConfigError, match=r"DATALOADER\.REPEAT_THRESHOLD is 2\.0"):
        build_sampler(wrong, [{0}], seed=0)
