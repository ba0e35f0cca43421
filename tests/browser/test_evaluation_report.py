"""The report of detserve evaluate as a file in a browser: its policy lets it work, and it sorts."""

from pathlib import Path

import pytest
from coco_ap import DATA
from playwright.sync_api import BrowserContext, expect

from models.evaluation import CocoDataset
from models.evaluation.comparison import compare
from models.evaluation.report import Against, Report
from service.cli.evaluate_local import LocalModel, embedded_model
from service.cli.evaluate_measure import measure


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the embedded model on ten pictures, against itself with flipped views."""
    dataset = CocoDataset.load(DATA / "val.json").subset(10)
    model = LocalModel.load(embedded_model(), device="cpu", mode="exact")
    plain, flip = (
        measure(
            model,
            dataset,
            tta=tta,
            score_threshold=0.5,
            iou_threshold=0.5,
            progress=lambda done, of: None,
        )
        for tta in ("none", "flip")
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    against = Against("flip", flip, compare(flip, plain))
    Report("shapes", "today", dataset=dataset, detail=plain, against=against).write(path)
    return path


def test_nothing_is_refused_and_nothing_is_asked_for(context: BrowserContext, report: Path) -> None:
    page = context.new_page()
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert said == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    # The style sheet is in force, and the page is as wide as the window.
    expect(page.locator("section").first).to_have_css("border-top-width", "1px")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1360, 420])
def test_pictures_are_shown(context: BrowserContext, report: Path, width: int) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    box = page.locator("#worst figure svg").first.bounding_box()
    assert box is not None
    assert box["width"] > 200
    assert box["height"] > 100
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_click_on_a_head_sorts_both_ways(context: BrowserContext, report: Path) -> None:
    page = context.new_page()
    page.goto(report.as_uri())
    table = page.locator("#classes table").first

    def column(place: int) -> list[str]:
        return table.locator(f"tbody td:nth-child({place})").all_text_contents()

    table.get_by_role("button", name="there").click()
    counts = [int(text) for text in column(2)]
    assert counts == sorted(counts, reverse=True)
    expect(table.locator("th").nth(1)).to_have_attribute("aria-sort", "descending")
    table.get_by_role("button", name="there").click()
    assert [int(text) for text in column(2)] == counts[::-1]
    table.get_by_role("button", name="class").click()
    table.get_by_role("button", name="class").click()
    assert column(1) == ["disc", "rectangle", "star", "triangle"]
