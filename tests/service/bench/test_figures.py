"""Percentiles, windows, rounds and ratios."""

from collections import Counter
from collections.abc import Callable

import pytest

from service.bench.figures import Figures, Latency, Spread, figures_of, percentile, pool, ratios
from service.bench.level import Level
from service.bench.measure import Window
from service.bench.process_usage import ProcessUsage
from service.bench.recording import Recording, Sample
from service.bench.server_metrics import Account

MakeFigures = Callable[..., Figures]
LEVEL = Level("closed", 2)


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [([], 99, 0.0), ([5.0], 50, 5.0), ([1, 2, 3, 4], 50, 2), ([1, 2, 3, 4], 51, 3),
     (range(1, 101), 99, 99), (range(1, 102), 99, 100), (range(1, 101), 100, 100)],
)  # fmt: skip
def test_percentiles_are_values_that_were_observed(
    values: list[float], part: float, expected: float
) -> None:
    assert percentile(values, part) == expected


def test_latencies_are_milliseconds() -> None:
    latency = Latency.of([0.3, 0.1, 0.2])
    assert latency is not None
    assert (latency.p50, latency.p99, latency.max) == pytest.approx((200, 300, 300))
    assert latency.mean == pytest.approx(200)
    assert Latency.of([]) is None


def window(*samples: Sample, unsent: list[float] | None = None, **given: object) -> Window:
    """From 10 to 20 seconds."""
    values = {
        "recording": Recording(list(samples), unsent or []),
        "start": 10.0,
        "end": 20.0,
        "client_cpu_s": 1.0,
        "account": None,
        "usage_before": None,
        "usage_after": None,
        "reopened": 0,
    } | given
    return Window(**values)  # type: ignore[arg-type]  # a dict of all kinds


def test_throughput_is_what_was_answered_within_and_latency_of_what_was_due_within() -> None:
    figures = figures_of(
        LEVEL,
        window(
            Sample(8.0, 8.0, 9.0, "200"),  # warm-up
            Sample(9.0, 9.0, 11.0, "200"),  # due before, answered within
            Sample(12.0, 12.5, 15.0, "200"),
            Sample(13.0, 13.0, 13.1, "429"),
            Sample(14.0, 14.0, 14.1, "timeout"),
            Sample(19.0, 19.0, 26.0, "200"),  # due within, answered after
            Sample(20.0, 20.0, 20.1, "200"),
            unsent=[9.0, 15.0, 16.0, 21.0],
        ),
    )
    assert figures.answered == 2
    assert figures.images_per_s == pytest.approx(0.2)
    assert figures.latencies_s == (3.0, 7.0)
    assert figures.outcomes == {"200": 2, "429": 1, "timeout": 1}
    assert figures.groups == (2, 1, 1)
    assert figures.unsent == 2
    assert figures.lateness_s == pytest.approx(0.5)
    assert figures.client_cpu == pytest.approx(0.1)


def test_cpu_of_a_known_process_goes_before_the_servers_own() -> None:
    good = Sample(12.0, 12.0, 13.0, "200")
    account = Account(images=4, cpu_s=9.0, rss_bytes=5)
    before, after = ProcessUsage(1.0, 10, 20), ProcessUsage(3.0, 11, 21)
    known = figures_of(LEVEL, window(good, account=account, usage_before=before, usage_after=after))
    assert known.cpu_ms_per_image == pytest.approx(2000 / 4)
    assert (known.rss_bytes, known.peak_bytes) == (11, 21)
    told = figures_of(LEVEL, window(good, account=account))
    assert told.cpu_ms_per_image == pytest.approx(9000 / 4)
    assert told.rss_bytes == 5
    assert figures_of(LEVEL, window(good)).cpu_ms_per_image is None


def test_an_empty_window_has_no_latency() -> None:
    figures = figures_of(LEVEL, window())
    assert figures.latency is None
    assert figures.images_per_s == 0
    assert figures.cpu_ms_per_image is None


def test_rounds_are_pooled_as_one_long_window(figures: MakeFigures) -> None:
    account = Account(images=10, batches={"1": 10}, batch_images=10, cpu_s=0.2)
    first = figures(answered=10, seconds=1.0, latencies_s=(0.1,), server_cpu_s=0.5, account=account)
    second = figures(
        answered=50,
        seconds=4.0,
        latencies_s=(0.3, 0.2),
        outcomes=Counter({"200": 50, "429": 7}),
        server_cpu_s=1.5,
        client_cpu=0.6,
        account=account,
        rss_bytes=9,
    )
    both = pool([first, second])
    assert both.images_per_s == pytest.approx(12)
    assert both.latencies_s == (0.1, 0.3, 0.2)
    assert both.outcomes == {"200": 60, "429": 7}
    assert both.cpu_ms_per_image == pytest.approx(100)
    assert both.client_cpu == pytest.approx(0.5)
    assert both.account == account + account
    assert both.rss_bytes == 9
    assert pool([first, figures()]).account is None
    assert pool([first, figures()]).server_cpu_s is None
    assert pool([first]) == first


@pytest.mark.parametrize(
    ("given", "late"),
    [
        ({}, False),
        ({"client_cpu": 0.9}, True),
        ({"lateness_s": 0.004}, False),
        ({"lateness_s": 0.011}, True),  # more than a fifth of the median of 50 ms
        ({"lateness_s": 0.004, "latencies_s": (0.001,)}, False),
        ({"lateness_s": 0.006, "latencies_s": (0.001,)}, True),
        ({"lateness_s": 9.0, "latencies_s": ()}, False),
    ],
)
def test_a_client_that_is_the_bottleneck_is_noticed(
    figures: MakeFigures, given: dict[str, object], late: bool
) -> None:
    assert figures(**given).client_is_late is late


def test_ratios_are_of_each_round(figures: MakeFigures) -> None:
    first = [figures(answered=n, server_cpu_s=1.0) for n in (10, 20, 40)]
    second = [figures(answered=n, server_cpu_s=0.5) for n in (15, 40, 40)]
    found = ratios(first, second)
    assert found["images_per_s"] == Spread(1.5, 1.0, 2.0)
    assert found["p50"] == Spread(1.0, 1.0, 1.0)
    assert found["cpu_per_image"] == Spread(0.5, 0.5, 0.5)


def test_a_ratio_to_nothing_is_left_out(figures: MakeFigures) -> None:
    nothing = figures(answered=0, latencies_s=(), outcomes=Counter())
    assert ratios([nothing], [figures()]) == {}
    assert ratios([figures()], []) == {}


def test_a_round_that_answered_nothing_counts_as_nothing(figures: MakeFigures) -> None:
    nothing = figures(answered=0, latencies_s=(), outcomes=Counter())
    found = ratios([figures(answered=10), figures(answered=10)], [figures(answered=10), nothing])
    assert found["images_per_s"] == Spread(0.5, 0.0, 1.0)


def test_the_median_of_an_even_number_is_between() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)
    assert Spread.of([]) is None
