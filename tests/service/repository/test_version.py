"""Leases: what keeps a version alive, and for how long."""

import threading

from fake_detector import PATIENCE_S, FakeDetector

from service.repository.version import ModelVersion, RequestLease


def version(number: int = 1) -> ModelVersion:
    return ModelVersion("shapes", str(number), FakeDetector(number))


def test_a_request_is_bound_to_the_first_version_that_it_meets() -> None:
    first, second, lease = version(1), version(2), RequestLease()
    assert lease.bind(first)
    assert lease.bind(second)
    assert lease.version is first
    assert (first.leases, second.leases) == (1, 0)


def test_a_request_of_many_images_holds_one_lease() -> None:
    first, lease = version(), RequestLease()
    for _ in range(3):
        lease.bind(first)
    assert first.leases == 1


def test_the_end_of_a_request_gives_its_lease_back_once() -> None:
    first, lease, other = version(), RequestLease(), RequestLease()
    lease.bind(first)
    other.bind(first)
    lease.end()
    lease.end()
    assert first.leases == 1


def test_a_request_that_never_ran_ends_without_a_lease() -> None:
    lease = RequestLease()
    lease.end()
    assert lease.version is None


def test_a_request_that_ended_before_it_ran_holds_nothing() -> None:
    first, lease = version(), RequestLease()
    lease.end()
    assert lease.bind(first)
    lease.end()
    assert first.leases == 0


def test_an_unused_version_is_waited_for_no_time_at_all() -> None:
    assert version().wait_unused(0)


def test_a_used_version_is_not_unused_when_the_time_is_up() -> None:
    first = version()
    first.acquire()
    assert not first.wait_unused(0.001)


def test_the_wait_ends_with_the_last_lease() -> None:
    first = version()
    first.acquire()
    first.acquire()
    unused = threading.Event()

    def wait() -> None:
        assert first.wait_unused(None)
        unused.set()

    thread = threading.Thread(target=wait)
    thread.start()
    first.release()
    assert not unused.is_set()
    first.release()
    assert unused.wait(PATIENCE_S)
    thread.join(PATIENCE_S)


def test_a_retired_version_takes_no_new_requests_and_keeps_those_it_has() -> None:
    first, bound, late = version(), RequestLease(), RequestLease()
    bound.bind(first)
    first.retire()
    assert not late.bind(first)
    assert late.version is None
    assert bound.bind(first)
    assert first.leases == 1


def test_a_version_that_comes_back_takes_requests_again() -> None:
    first = version()
    first.retire()
    first.revive()
    assert RequestLease().bind(first)


def test_versions_are_numbered_in_the_order_in_which_they_came() -> None:
    older, newer = version(2), version(1)
    assert older.serial < newer.serial
