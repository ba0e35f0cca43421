"""What a reader should know before believing the figures."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from service.bench.campaign import Result
from service.bench.caveats import caveats_of
from service.bench.figures import Figures
from service.bench.level import Level

MakeFigures = Callable[..., Figures]
MakeResult = Callable[..., Result]

ENOUGH = {"latencies_s": (0.05,) * 100, "outcomes": Counter({"200": 100})}


def test_good_figures_need_no_word(figures: MakeFigures, result: MakeResult) -> None:
    assert caveats_of(result({"A": [[figures(**ENOUGH)]]})) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"client_cpu": 0.95}, "this client was the bottleneck"),
        ({"unsent": 3}, "not all was sent"),
        ({"latencies_s": (0.05,) * 99}, "fewer than 100 good answers"),
        ({"outcomes": Counter({"200": 100, "500": 2})}, "2 times 500: out of disk"),
        ({"outcomes": Counter({"200": 100, "timeout": 2})}, "2 times timeout."),
    ],
)
def test_what_is_wrong_is_said_once(
    figures: MakeFigures, result: MakeResult, given: dict[str, Any], words: str
) -> None:
    level = figures(Level("closed", 4), **(ENOUGH | given))
    [caveat] = caveats_of(result({"A": [[level]]}, texts={"500": "out of disk"}))
    assert words in caveat


def test_refusals_of_a_full_server_are_no_errors(figures: MakeFigures, result: MakeResult) -> None:
    full = figures(**(ENOUGH | {"outcomes": Counter({"200": 100, "429": 5})}))
    assert caveats_of(result({"A": [[full]]}, texts={"429": "full"})) == []


def test_a_picture_without_instances_measures_too_little(
    figures: MakeFigures, result: MakeResult
) -> None:
    [caveat] = caveats_of(result({"A": [[figures(**ENOUGH)]]}, instances=[0]))
    assert "--images" in caveat


def test_targets_that_find_different_things_do_not_do_the_same_work(
    figures: MakeFigures, result: MakeResult
) -> None:
    targets = {"A": [[figures(**ENOUGH)]], "B": [[figures(**ENOUGH)]]}
    [caveat] = caveats_of(result(targets, instances=[3, 5]))
    assert "(3, 5)" in caveat
    assert caveats_of(result(targets, instances=[3, None])) == []


def test_an_interruption_is_told(figures: MakeFigures, result: MakeResult) -> None:
    [caveat] = caveats_of(result({"A": [[figures(**ENOUGH)]]}, interrupted=True))
    assert "interrupted" in caveat
