"""Whether there is memory for a version, and what is said when there is not."""

import pytest

from service.errors import Unprocessable
from service.repository.free_memory import FreeMemory
from service.repository.preflight import NeededMemory, check_memory, needed_memory

MIB = 1 << 20


def refused(needed: NeededMemory, free: FreeMemory, **options) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        check_memory(needed, free, **options)
    assert caught.value.code == "not_enough_memory"
    return caught.value


def test_reading_takes_the_file_and_the_model_beside_it() -> None:
    needed = needed_memory(500 * MIB, device="cuda:0")
    assert needed.host >= 1000 * MIB
    assert needed.device > 500 * MIB


def test_on_a_cpu_the_model_works_in_the_memory_of_the_host() -> None:
    needed = needed_memory(500 * MIB, device="cpu")
    assert needed.device == 0
    assert needed.host > 1500 * MIB


def test_the_current_version_tells_how_much_of_a_file_is_the_model() -> None:
    """A trainer's checkpoint holds its optimiser too."""
    whole = needed_memory(900 * MIB, device="cuda:0")
    known = needed_memory(900 * MIB, device="cuda:0", current=300 * MIB)
    assert known.device == whole.device - 600 * MIB
    assert known.host == whole.host - 600 * MIB


def test_a_current_version_that_is_larger_than_the_file_does_not_count() -> None:
    assert needed_memory(MIB, device="cpu", current=900 * MIB) == needed_memory(MIB, device="cpu")


@pytest.mark.parametrize(
    "free", [FreeMemory(100, 50), FreeMemory(None, None), FreeMemory(None, 50)]
)
def test_what_fits_or_nobody_can_tell_is_let_through(free: FreeMemory) -> None:
    check_memory(NeededMemory(host=100, device=50), free)


def test_two_that_do_not_fit_where_one_does_are_advised_to_swap_in_place() -> None:
    needed, free = NeededMemory(10, 60 * MIB), FreeMemory(20, 40 * MIB)
    error = refused(needed, free, current=30 * MIB)
    assert "strategy=in_place" in error.message
    assert "60 MiB" in error.message
    assert "40 MiB" in error.message
    assert error.details == {
        "place": "device",
        "needed_bytes": 60 * MIB,
        "free_bytes": 40 * MIB,
        "freed_by_current_bytes": 30 * MIB,
        "advice": "in_place",
    }
    check_memory(needed, free, current=30 * MIB, strategy="in_place")


@pytest.mark.parametrize("strategy", ["side_by_side", "in_place"])
def test_one_that_does_not_fit_alone_is_told_so(strategy) -> None:
    error = refused(
        NeededMemory(10, 90 * MIB), FreeMemory(20, 40 * MIB), current=30 * MIB, strategy=strategy
    )
    assert "not even without the current one" in error.message
    assert "in_place" not in error.message
    assert error.details["advice"] == "more_memory"


def test_on_a_cpu_the_current_version_frees_memory_of_the_host() -> None:
    needed, free = NeededMemory(60, 0), FreeMemory(40, None)
    assert refused(needed, free, current=30).details["advice"] == "in_place"
    check_memory(needed, free, current=30, strategy="in_place")


def test_a_current_version_on_a_gpu_frees_no_memory_of_the_host() -> None:
    error = refused(NeededMemory(60, 10), FreeMemory(40, 10), current=30, strategy="in_place")
    assert (error.details["place"], error.details["advice"]) == ("host", "more_memory")


def test_the_first_version_has_nothing_to_go_before_it() -> None:
    assert refused(NeededMemory(60, 0), FreeMemory(40, None)).details["advice"] == "more_memory"
