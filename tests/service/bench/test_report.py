"""The tables: which columns, which figures, on any width."""

import io
from collections import Counter
from collections.abc import Callable

import pytest
from rich.console import Console

from service.bench.campaign import Result
from service.bench.figures import Figures
from service.bench.level import Level
from service.bench.report import number, print_report
from service.bench.server_metrics import Account

MakeFigures = Callable[..., Figures]
MakeResult = Callable[..., Result]


def printed(result: Result, *warnings: str, width: int = 80) -> str:
    file = io.StringIO()
    print_report(result, warnings, Console(file=file, width=width, highlight=False, soft_wrap=True))
    return file.getvalue()


def rows(text: str, title: str) -> dict[str, dict[str, str]]:
    """The table whose first column is ``title``: cells by row and column."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title + "  "))
    split = [line.split("  ") for line in lines[start:]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in split]
    found = {}
    for row in cells[1:]:
        if len(row) != len(cells[0]):
            break
        found[row[0]] = dict(zip(cells[0][1:], row[1:], strict=True))
    return found


def test_a_row_for_each_level(figures: MakeFigures, result: MakeResult) -> None:
    slow = figures(Level("closed", 1), answered=5)
    fast = figures(Level("closed", 8))
    table = rows(printed(result({"A": [[slow], [fast]]})), "load")
    assert table["1 client"] == {
        "images/s": "5.00", "of peak": "50%", "p50 ms": "50.0", "p95 ms": "100", "p99 ms": "100",
        "max ms": "100", "ok": "10", "client": "10%",
    }  # fmt: skip
    assert table["8 clients"]["of peak"] == "100%"


def test_refusals_errors_and_what_was_not_sent_have_columns_of_their_own(
    figures: MakeFigures, result: MakeResult
) -> None:
    outcomes = Counter({"200": 10, "429": 90, "500": 2, "timeout": 1})
    full = figures(Level("open", 50.0), outcomes=outcomes, unsent=4)
    row = rows(printed(result({"A": [[full]]})), "load")["50 req/s"]
    assert (row["ok"], row["429"], row["errors"], row["unsent"]) == ("10", "90", "3", "4")


def test_rounds_show_their_spread(figures: MakeFigures, result: MakeResult) -> None:
    text = printed(result({"A": [[figures(answered=10), figures(answered=12)]]}))
    row = rows(text, "load")["1 client"]
    assert (row["images/s"], row["over rounds"]) == ("11.0", "10.0-12.0")


def test_the_server_has_a_table_if_it_tells(figures: MakeFigures, result: MakeResult) -> None:
    account = Account(
        images=10,
        stages={
            "decode": (0.1, 10),
            "queue": (0.2, 10),
            "inference": (0.6, 3),
            "encode": (0.1, 10),
        },
        batches={"3-4": 2, "2": 1},
        batch_images=10,
    )
    seen = figures(account=account, server_cpu_s=0.5, rss_bytes=10**9, peak_bytes=2 * 10**9)
    row = rows(printed(result({"A": [[seen]]})), "server")["1 client"]
    assert row == {
        "decode ms": "10.0", "queue ms": "20.0", "inference ms": "60.0", "encode ms": "10.0",
        "a batch ms": "200", "images in a batch": "3.3 (2: 33%, 3-4: 67%)",
        "CPU ms/image": "50.0", "RSS MB": "1000", "peak MB": "2000",
    }  # fmt: skip


def test_without_figures_of_the_server_there_is_no_such_table(
    figures: MakeFigures, result: MakeResult
) -> None:
    assert "CPU" not in printed(result({"A": [[figures()]]}))


def test_two_targets_are_compared_by_ratios(figures: MakeFigures, result: MakeResult) -> None:
    first = [figures(answered=10), figures(answered=10)]
    second = [figures(answered=15), figures(answered=20)]
    text = printed(result({"ours": [first], "theirs": [second]}))
    row = rows(text, "theirs / ours")["1 client"]
    assert row["images/s"] == "1.75 (1.50-2.00)"
    assert row["CPU per image"] == "-"


@pytest.mark.parametrize("width", [20, 80, 300])
def test_nothing_is_cut_off_on_a_narrow_terminal(
    figures: MakeFigures, result: MakeResult, width: int
) -> None:
    text = printed(result({"A": [[figures(rss_bytes=1, peak_bytes=1)]]}), "A note.", width=width)
    assert "…" not in text
    assert "note: A note." in text


def test_names_are_not_markup(figures: MakeFigures, result: MakeResult) -> None:
    text = printed(result({"[red]A": [[figures()]], "[/]B": [[figures()]]}), "[bold]x")
    assert "[red]A" in text
    assert "[/]B / [red]A" in text
    assert "note: [bold]x" in text


def test_a_level_without_a_good_answer_has_dashes(figures: MakeFigures, result: MakeResult) -> None:
    nothing = figures(answered=0, latencies_s=(), outcomes=Counter({"timeout": 3}))
    row = rows(printed(result({"A": [[nothing]]})), "load")["1 client"]
    assert (row["p50 ms"], row["of peak"], row["errors"]) == ("-", "0%", "3")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.00"), (9.994, "9.99"), (9.996, "10.0"), (99.94, "99.9"), (99.96, "100"),
     (1234.5, "1234")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text
