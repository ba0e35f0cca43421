"""What one batch that ran out of memory means for the next ones."""

import gc

import pytest
from fake_detector import FakeDetector

from service.inference.memory_caps import FIRST_PATIENCE_S, LAST_PATIENCE_S, Cap, MemoryCaps
from service.repository.version import ModelVersion

PIXELS = 1000


class Memory:
    """Caps of one version, a clock, and what was told of changes."""

    def __init__(self, max_batch_size: int = 16) -> None:
        self.now = 0.0
        self.told: list[Cap | None] = []
        self.caps = MemoryCaps(
            max_batch_size=max_batch_size,
            changed=lambda version, cap: self.told.append(cap),
            clock=lambda: self.now,
        )
        self.version = ModelVersion("shapes", "1", FakeDetector())

    def most(self, pixels: int = PIXELS) -> int:
        return self.caps.most(self.version, pixels)

    def fail(self, images: int, pixels: int = PIXELS) -> Cap:
        return self.caps.too_large(self.version, images, pixels)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_without_a_failure_there_is_no_cap(memory: Memory) -> None:
    assert memory.most() == 16
    assert memory.told == []


@pytest.mark.parametrize(("failed", "most"), [(16, 8), (7, 4), (3, 2), (2, 1)])
def test_a_failure_halves_what_may_run_together(memory: Memory, failed: int, most: int) -> None:
    assert memory.fail(failed) == Cap(most, most * PIXELS)
    assert memory.most() == most
    assert memory.told == [Cap(most, most * PIXELS)]


def test_larger_images_are_no_more_and_smaller_ones_as_many_as_the_pixels_allow(
    memory: Memory,
) -> None:
    memory.fail(8)
    assert memory.most(2 * PIXELS) == 4
    assert memory.most(PIXELS // 2) == 8
    assert memory.most(1) == 4 * PIXELS  # the queue's own limits hold besides


def test_what_small_images_taught_does_not_hold_large_ones_to_their_pixels(memory: Memory) -> None:
    memory.fail(16, pixels=10)
    assert memory.most(PIXELS) == 8


def test_several_shapes_teach_together(memory: Memory) -> None:
    memory.fail(16, pixels=10)
    memory.fail(4, pixels=PIXELS)
    assert (memory.most(10), memory.most(PIXELS), memory.most(PIXELS // 2)) == (8, 2, 4)
    assert memory.told[-1] == Cap(2, 2 * PIXELS)


def test_a_tighter_cap_takes_the_place_of_looser_ones(memory: Memory) -> None:
    for failed in (16, 8, 4, 2):
        memory.fail(failed)
    assert memory.most() == 1
    assert len(memory.caps._memories[memory.version].caps) == 1


def test_a_cap_belongs_to_its_version_and_is_forgotten_with_it(memory: Memory) -> None:
    memory.fail(8)
    other = ModelVersion("shapes", "2", FakeDetector())
    assert memory.caps.most(other, PIXELS) == 16
    memory.version = other
    gc.collect()
    assert len(memory.caps._memories) == 0


def test_a_cap_is_doubled_after_a_time_until_it_is_none(memory: Memory) -> None:
    memory.fail(8)
    memory.now += FIRST_PATIENCE_S - 1
    assert memory.most() == 4
    memory.now += 1
    assert memory.most() == 8
    memory.now += FIRST_PATIENCE_S
    assert memory.most() == 16
    assert memory.told == [Cap(4, 4 * PIXELS), Cap(8, 8 * PIXELS), None]


def test_an_attempt_that_fails_makes_the_next_wait_twice_as_long(memory: Memory) -> None:
    memory.fail(16)
    patience = FIRST_PATIENCE_S
    for _ in range(20):
        memory.now += patience
        assert memory.most() == 16
        memory.fail(16)
        patience = min(2 * patience, LAST_PATIENCE_S)
        memory.now += patience - 1
        assert memory.most() == 8
        memory.now -= patience - 1
    assert patience == LAST_PATIENCE_S


def test_a_failure_long_after_an_attempt_that_went_well_is_a_new_one(memory: Memory) -> None:
    memory.fail(16)
    memory.now += FIRST_PATIENCE_S
    assert memory.most() == 16
    memory.now += 10 * FIRST_PATIENCE_S
    memory.fail(16)
    memory.now += FIRST_PATIENCE_S
    assert memory.most() == 16
