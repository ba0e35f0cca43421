"""The SVG: well-formed, complete, and with all of its points inside."""

import re
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from service.bench.campaign import Result
from service.bench.figures import Figures
from service.bench.level import Level
from service.bench.plot import HEIGHT, WIDTH, latency_throughput_svg

MakeFigures = Callable[..., Figures]
MakeResult = Callable[..., Result]
SVG = "{http://www.w3.org/2000/svg}"


def parsed(result: Result) -> ElementTree.Element:
    return ElementTree.fromstring(latency_throughput_svg(result))


def titles(root: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in root.iter(f"{SVG}title")]


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_each_target_has_a_line_for_p50_and_one_for_p99(
    figures: MakeFigures, result: MakeResult
) -> None:
    levels = [[figures(Level("closed", n), answered=5 * n)] for n in (1, 2, 4)]
    root = parsed(result({"ours": levels, "theirs": levels}))
    lines = list(root.iter(f"{SVG}polyline"))
    assert [line.get("class") for line in lines] == ["line p99", "line p50"] * 2
    assert all(len((line.get("points") or "").split()) == 3 for line in lines)
    assert {"ours", "theirs", "p50", "p99", "images per second"} <= set(texts(root))
    assert "4: 20.0 images/s, p50 50.0 ms" in titles(root)


def test_clients_and_rates_are_told_apart(figures: MakeFigures, result: MakeResult) -> None:
    levels = [[figures(Level("closed", 1))], [figures(Level("open", 20.0))]]
    root = parsed(result({"A": levels}))
    assert len(list(root.iter(f"{SVG}path"))) == 2  # p50 and p99 of the rate
    assert {"1", "20/s", "discs: clients, diamonds: arrivals per second"} <= set(texts(root))


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e4])
def test_all_points_lie_on_the_page(figures: MakeFigures, result: MakeResult, scale: float) -> None:
    levels = [
        [figures(Level("closed", n), answered=n, seconds=scale, latencies_s=(scale * n, scale * 9))]
        for n in (1, 2, 7)
    ]
    svg = latency_throughput_svg(result({"A": levels}))
    for line in ElementTree.fromstring(svg).iter(f"{SVG}polyline"):
        for left, top in re.findall(r"([\d.-]+),([\d.-]+)", line.get("points") or ""):
            assert 0 < float(left) < WIDTH
            assert 0 < float(top) < HEIGHT


def test_a_level_without_good_answers_has_no_point(
    figures: MakeFigures, result: MakeResult
) -> None:
    nothing = figures(Level("closed", 8), answered=0, latencies_s=(), outcomes=Counter({"500": 1}))
    root = parsed(result({"A": [[figures()], [nothing]]}))
    assert len(titles(root)) == 2  # p50 and p99 of the other
    assert titles(parsed(result({"A": [[nothing]]}))) == []


def test_it_is_for_light_and_dark_pages(figures: MakeFigures, result: MakeResult) -> None:
    style = parsed(result({"A": [[figures()]]})).find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")


def test_names_are_escaped_and_long_ones_shortened(
    figures: MakeFigures, result: MakeResult
) -> None:
    root = parsed(result({'<script>"&': [[figures()]], "x" * 100: [[figures()]]}))
    assert '<script>"&' in texts(root)
    assert "x" * 25 + "…" in texts(root)
    assert root.get("aria-label") == f'Latency against throughput: <script>"&, {"x" * 100}'
