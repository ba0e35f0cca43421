"""What a version says of what it has served."""

import pytest
from fake_detector import FakeDetector

from service.repository.statistics import VersionStatistics
from service.repository.version import ModelVersion, RequestLease


def test_a_version_that_served_nothing_says_so() -> None:
    assert VersionStatistics().to_dict() == {
        "requests": 0,
        "images": 0,
        "failed_images": 0,
        "batches": [],
    }


def test_batches_are_told_by_their_size() -> None:
    statistics = VersionStatistics()
    for images, seconds in ((4, 0.5), (1, 0.1), (1, 0.3)):
        statistics.batch_served(images, seconds)
    statistics.image_failed()
    told = statistics.to_dict()
    assert (told["images"], told["failed_images"]) == (6, 1)
    assert told["batches"] == [
        {"size": 1, "count": 2, "mean_s": pytest.approx(0.2), "p50_s": 0.1, "p95_s": 0.3},
        {"size": 4, "count": 1, "mean_s": 0.5, "p50_s": 0.5, "p95_s": 0.5},
    ]


def test_percentiles_are_times_that_were_measured() -> None:
    statistics = VersionStatistics()
    for hundredths in range(100, 0, -1):
        statistics.batch_served(1, hundredths / 100)
    [batch] = statistics.to_dict()["batches"]
    assert (batch["p50_s"], batch["p95_s"]) == (0.5, 0.95)


def test_percentiles_forget_what_is_long_ago_and_the_mean_does_not() -> None:
    statistics = VersionStatistics(window=2)
    for seconds in (9.0, 1.0, 2.0):
        statistics.batch_served(1, seconds)
    [batch] = statistics.to_dict()["batches"]
    assert (batch["count"], batch["mean_s"]) == (3, 4.0)
    assert (batch["p50_s"], batch["p95_s"]) == (1.0, 2.0)


def test_a_request_counts_once_for_the_version_that_it_was_bound_to() -> None:
    version = ModelVersion("shapes", "1", FakeDetector())
    lease, unbound = RequestLease(), RequestLease()
    assert lease.bind(version)
    assert lease.bind(version)
    assert version.statistics.to_dict()["requests"] == 0
    lease.end()
    lease.end()
    unbound.end()
    assert version.statistics.to_dict()["requests"] == 1
