"""From the command line's options to a plan and targets."""

import os
from pathlib import Path
from typing import Any

import pytest

from service.bench.errors import WrongUsage
from service.bench.level import Level
from service.bench.parsing import (
    BenchOptions,
    parse_plan,
    parse_sizes,
    parse_targets,
    server_arguments,
)

A, B = "http://a:1", "http://b:2"
HERE, PARENT = os.getpid(), os.getppid()


def test_without_a_load_clients_are_swept() -> None:
    plan = parse_plan(BenchOptions(urls=[A]))
    assert plan.levels == tuple(Level("closed", n) for n in (1, 2, 4, 8))
    assert (plan.rounds, plan.duration_s, plan.requests) == (1, 10.0, None)


def test_a_rate_alone_is_an_open_loop_and_both_are_both() -> None:
    assert parse_plan(BenchOptions(rate="0.5,20")).levels == (
        Level("open", 0.5),
        Level("open", 20.0),
    )
    both = parse_plan(BenchOptions(concurrency="4,4", rate="9"))
    assert both.levels == (Level("closed", 4), Level("open", 9.0))


def test_two_targets_are_compared_over_several_rounds() -> None:
    assert parse_plan(BenchOptions(urls=[A, B])).rounds == 3
    assert parse_plan(BenchOptions(urls=[A], zoo="m")).rounds == 3
    assert parse_plan(BenchOptions(urls=[A, B], rounds=1)).rounds == 1


@pytest.mark.parametrize(
    "given",
    [
        {"concurrency": "0"},
        {"concurrency": "1.5"},
        {"concurrency": "one"},
        {"concurrency": "1,,2"},
        {"rate": "-1"},
        {"rate": "nan"},
        {"rate": "inf"},
        {"arrivals": "regular"},
        {"duration_s": 1.0, "requests": 5},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(WrongUsage, match="--"):
        parse_plan(BenchOptions(**given))


def test_one_value_is_for_both_targets_and_two_are_one_each() -> None:
    given = BenchOptions(
        urls=[A, B],
        paths=["/x"],
        bodies=["raw", "json"],
        fields=["f"],
        names=["ours", "theirs"],
        options=["score_threshold=0.5", "classes=a=b"],
        headers=["X-Key: k: v"],
        pids=[HERE, PARENT],
    )
    first, second = parse_targets(given, [A, B], None)
    assert (first.name, first.path, first.body, first.pid) == ("ours", "/x", "raw", HERE)
    assert first.field == second.field == "f"
    assert (second.name, second.path, second.body, second.pid) == ("theirs", "/x", "json", PARENT)
    assert second.options == (("score_threshold", "0.5"), ("classes", "a=b"))
    assert second.headers == (("X-Key", "k: v"),)


def test_our_own_server_is_the_last_target() -> None:
    given = BenchOptions(urls=[A], zoo="m", pids=[HERE])
    first, own = parse_targets(given, [A, "http://127.0.0.1:9"], 77)
    assert (first.name, first.pid) == ("a:1", HERE)
    assert (own.name, own.pid) == ("detserve", 77)


def test_targets_of_one_address_are_told_apart() -> None:
    assert [t.name for t in parse_targets(BenchOptions(urls=[A, A]), [A, A], None)] == [
        "a:1 (A)",
        "a:1 (B)",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"urls": [A, B, A]},
        {"urls": [A], "paths": ["/x", "/y"]},
        {"urls": [A], "bodies": ["form"]},
        {"urls": [A, B], "pids": [HERE]},
        {"urls": [A], "pids": [2**30]},
        {"urls": [A, B], "names": ["x", "x"]},
        {"urls": [A], "options": ["score_threshold"]},
        {"urls": [A], "options": ["=5"]},
        {"urls": [A], "headers": ["X"]},
        {"urls": ["a:1"]},
    ],
)
def test_targets_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    options = BenchOptions(**given)
    with pytest.raises(WrongUsage):
        parse_targets(options, options.urls, None)


@pytest.mark.parametrize(
    ("given", "own", "number"),
    [
        ({}, True, 1),
        ({"urls": [A]}, False, 1),
        ({"urls": [A], "weights": Path("w.pth")}, True, 2),
        ({"config": Path("c"), "weights": Path("w")}, True, 1),
    ],
)
def test_a_model_or_no_server_means_one_of_our_own(
    given: dict[str, Any], own: bool, number: int
) -> None:
    options = BenchOptions(**given)
    assert (options.has_own_server, options.number_of_targets) == (own, number)


def test_sizes_are_width_times_height() -> None:
    assert parse_sizes("640x480, 1920X1080") == [(640, 480), (1920, 1080)]


@pytest.mark.parametrize("text", ["", "640", "640x", "0x5", "-1x5", "axb", "100000x100000", "1x2,"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="--sizes"):
        parse_sizes(text)


def test_the_model_and_settings_go_to_our_server() -> None:
    given = BenchOptions(
        config=Path("c.yaml"), weights=Path("w.pth"), server_options=["max_queue=8", "device=cpu"]
    )
    assert server_arguments(given) == [
        "--config", "c.yaml", "--weights", "w.pth", "--max-queue=8", "--device=cpu",
    ]  # fmt: skip
    with pytest.raises(WrongUsage, match="--server-option"):
        server_arguments(BenchOptions(server_options=["max_queue"]))
