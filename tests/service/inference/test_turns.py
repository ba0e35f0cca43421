"""Whose turn it is: by the device's time that each model has had."""

import pytest

from service.inference.turns import Turns


class Clock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> Turns:
    return Turns(clock)


def run(turns: Turns, clock: Clock, model: str | None, seconds: float) -> None:
    with turns.of(model):
        clock.now += seconds


def served(turns: Turns, clock: Clock, costs: dict[str, float], until: float) -> dict[str, float]:
    """Seconds of each model when all of them always have work, in turns of ``costs`` seconds."""
    seconds = dict.fromkeys(costs, 0.0)
    while clock.now < until:
        first = turns.order(list(costs))[0]
        run(turns, clock, first, costs[first])
        seconds[first] += costs[first]
    return seconds


def test_of_equals_the_one_that_came_first_goes_first(turns: Turns) -> None:
    assert turns.order(["b", "a"]) == ["b", "a"]


def test_the_model_that_had_less_of_the_device_goes_next(turns: Turns, clock: Clock) -> None:
    assert turns.order(["a", "b"])[0] == "a"
    run(turns, clock, "a", 1.0)
    assert turns.order(["a", "b"]) == ["b", "a"]
    run(turns, clock, "b", 3.0)
    assert turns.order(["a", "b"]) == ["a", "b"]


def test_models_share_the_time_and_not_the_turns(turns: Turns, clock: Clock) -> None:
    seconds = served(turns, clock, {"slow": 1.0, "fast": 0.1, "middle": 0.3}, until=300)
    assert all(abs(time - 100) <= 1.0 for time in seconds.values())


def test_a_model_that_was_idle_does_not_save_its_time_up(turns: Turns, clock: Clock) -> None:
    for _ in range(100):
        assert turns.order(["busy"]) == ["busy"]
        run(turns, clock, "busy", 1.0)
    seconds = served(turns, clock, {"busy": 1.0, "late": 1.0}, until=120)
    assert abs(seconds["busy"] - seconds["late"]) <= 1.0


def test_a_model_that_comes_now_and_then_waits_for_one_turn_of_a_flooded_one(
    turns: Turns, clock: Clock
) -> None:
    for _ in range(50):
        run(turns, clock, turns.order(["flooded"])[0], 2.0)
        assert turns.order(["flooded", "rare"])[0] == "rare"
        run(turns, clock, "rare", 0.5)


def test_a_model_cannot_jump_the_line_by_pausing(turns: Turns, clock: Clock) -> None:
    turns.order(["greedy", "patient"])
    run(turns, clock, "greedy", 10.0)
    turns.order(["patient"])  # the greedy one has nothing for a moment
    run(turns, clock, "patient", 1.0)
    assert turns.order(["greedy", "patient"])[0] == "patient"


def test_what_runs_in_between_is_charged_to_its_own_model(turns: Turns, clock: Clock) -> None:
    turns.order(["long", "short"])
    with turns.of("long") as long:
        clock.now += 1.0
        with turns.of("short") as short:
            clock.now += 5.0
        with turns.of(None):
            clock.now += 7.0
        clock.now += 1.0
    assert (long.seconds, short.seconds) == (2.0, 5.0)
    assert turns.order(["short", "long"]) == ["long", "short"]


def test_a_turn_that_fails_counts_too(turns: Turns, clock: Clock) -> None:
    turns.order(["a", "b"])

    def fail() -> None:
        with turns.of("a"):
            clock.now += 1.0
            raise RuntimeError("a kernel failed")

    with pytest.raises(RuntimeError):
        fail()
    assert turns.order(["a", "b"]) == ["b", "a"]


def test_a_free_device_forgets_what_was(turns: Turns, clock: Clock) -> None:
    for number in range(100):
        name = f"model-{number}"
        turns.order([name])
        run(turns, clock, name, 1.0)
        assert turns.order([]) == []
    assert len(turns._used) == 0
