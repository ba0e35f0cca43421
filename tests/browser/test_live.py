"""The live panel: figures from /metrics, still while nobody looks."""

from __future__ import annotations

import re
from typing import Any

from browser_page import SAMPLES, OpenPage
from playwright.sync_api import BrowserContext, Page, expect

READ = """async ([before, now, seconds]) => {
    const { parseMetrics, between } = await import(new URL("playground/metrics.js", document.baseURI).href);
    return between(parseMetrics(before), parseMetrics(now), seconds);
}"""


def readings(images: int, batches: int, fast: int, slow: int, queue: int) -> str:
    """Metrics of a server that has answered so much."""
    bucket = 'detserve_http_request_duration_seconds_bucket{method="POST",route="/predict",le='
    return "\n".join(
        [
            "# HELP detserve_predictions_total Images.",
            "# TYPE detserve_predictions_total counter",
            f'detserve_predictions_total{{model="a",outcome="ok",version="1"}} {images}.0',
            'detserve_predictions_total{model="a",outcome="error",version="1"} 5.0',
            f'detserve_batch_size_count{{model="a"}} {batches}.0',
            f'detserve_batch_size_sum{{model="a"}} {images}.0',
            f'detserve_queue_depth{{model="a \\"b\\" \\\\"}} {queue}.0',
            'detserve_queue_capacity{model="a"} 128.0',
            f'{bucket}"0.1"}} {fast}.0',
            f'{bucket}"0.2"}} {fast + slow}.0',
            f'{bucket}"+Inf"}} {fast + slow}.0',
        ]
    )


def between(page: Page, before: str, now: str, seconds: float) -> dict[str, Any]:
    figures: dict[str, Any] = page.evaluate(READ, [before, now, seconds])
    return figures


def test_two_readings_give_rates_means_and_quantiles(page: Page) -> None:
    figures = between(page, readings(100, 50, 10, 0, 0), readings(140, 60, 18, 8, 3), 2)
    assert figures["throughput"] == 20
    assert figures["batch"] == 4
    assert figures["queue"] == 3
    assert figures["capacity"] == 128
    assert figures["median"] == 0.1
    assert abs(figures["tail"] - 0.19) < 1e-9


def test_without_requests_there_is_no_mean_and_no_quantile(page: Page) -> None:
    same = readings(100, 50, 10, 2, 1)
    figures = between(page, same, same, 2)
    assert figures["throughput"] == 0
    assert figures["batch"] is None
    assert figures["median"] is None


def test_a_server_that_began_anew_has_no_negative_rate(page: Page) -> None:
    figures = between(page, readings(100, 50, 10, 2, 1), readings(1, 1, 0, 0, 0), 2)
    assert figures["throughput"] == 0


def test_the_panel_shows_the_servers_figures(page: Page) -> None:
    expect(page.locator("#live-queue-unit")).to_have_text(re.compile(r"of \d+"))
    page.set_input_files("#files", SAMPLES)
    expect(page.locator("#live-throughput")).not_to_have_text("0.0")
    expect(page.locator("#live-latency")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    assert page.locator("#live-throughput-line polyline").get_attribute("points")


def test_the_panel_stands_still_when_paused_or_unseen(
    context: BrowserContext, open_page: OpenPage
) -> None:
    context.clock.install()
    page = open_page()
    expect(page.locator("#live-queue-unit")).to_have_text(re.compile(r"of \d+"))
    page.click("#live-pause")
    expect(page.locator("#live-state")).to_have_text("Paused")
    asked: list[str] = []
    page.on("request", lambda call: asked.append(call.url) if "metrics" in call.url else None)
    page.clock.run_for(20_000)
    assert asked == []
    with page.expect_request("**/metrics"):
        page.click("#live-pause")
    expect(page.locator("#live-state")).to_have_text("Every 2 s")
    # As a browser tells a page that its tab was left.
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    asked.clear()
    page.clock.run_for(20_000)
    assert asked == []
    with page.expect_request("**/metrics"):
        page.evaluate(
            """() => {
                Object.defineProperty(document, "hidden", { value: false, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )
