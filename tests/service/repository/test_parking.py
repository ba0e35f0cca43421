"""Detectors that can leave their device, those that cannot, and how large they are."""

from collections.abc import Callable
from typing import TypeVar

from fake_detector import FakeDetector

from service.inference.detector import ModelCall, at_once
from service.repository.parking import park, unpark, weights_bytes

T = TypeVar("T")


class Parking(FakeDetector):
    """Tells what was done to it."""

    nbytes = 4096

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def park(self) -> int:
        self.done.append("parked")
        return self.nbytes

    def unpark(self, *, call: ModelCall) -> None:
        call(lambda: self.done.append("back"))


class Calls:
    """Runs calls at once and counts them."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, function: Callable[[], T], /) -> T:
        self.number += 1
        return function()


def test_a_detector_parks_and_comes_back_on_the_models_thread() -> None:
    detector, calls = Parking(), Calls()
    assert park(detector, call=calls) == 4096
    assert calls.number == 1
    unpark(detector, call=calls)
    assert calls.number == 2
    assert detector.done == ["parked", "back"]


def test_one_that_knows_no_other_place_stays_and_frees_nothing() -> None:
    calls = Calls()
    assert park(FakeDetector(), call=calls) == 0
    unpark(FakeDetector(), call=calls)
    assert calls.number == 0


def test_a_size_is_what_the_detector_tells_or_0() -> None:
    assert weights_bytes(Parking()) == 4096
    assert weights_bytes(FakeDetector()) == 0


def test_it_answers_as_before() -> None:
    detector = Parking()
    park(detector, call=at_once)
    unpark(detector, call=at_once)
    assert detector.closed == 0
