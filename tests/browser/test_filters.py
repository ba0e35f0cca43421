"""Threshold and classes filter what was answered, without another request."""

from __future__ import annotations

from browser_page import SAMPLES
from playwright.sync_api import Page, Request, expect


def show_sample(page: Page, sample: int = 0) -> list[Request]:
    """Wait for the answer; the requests for predictions from then on."""
    page.set_input_files("#files", SAMPLES[sample])
    expect(page.locator("#rows tr").first).to_be_visible()
    asked: list[Request] = []
    page.on("request", lambda call: asked.append(call) if "/predict" in call.url else None)
    return asked


def test_the_slider_filters_at_once(page: Page) -> None:
    asked = show_sample(page)
    scores = page.locator("#rows td:nth-child(2)")
    expect(scores).to_have_count(3)
    page.locator("#threshold").fill("0.05")
    expect(page.locator("#threshold-value")).to_have_text("0.05")
    expect(scores).not_to_have_count(3)
    everything = [float(text) for text in scores.all_inner_texts()]
    assert everything == sorted(everything, reverse=True)
    assert min(everything) >= 0.05
    page.locator("#threshold").fill("0.99")
    expect(scores).to_have_count(sum(score >= 0.99 for score in everything))
    expect(page.locator("#summary")).to_contain_text(f"of {len(everything)} instances")
    page.locator("#threshold").fill("1")
    expect(page.locator("#no-rows")).to_contain_text("Nothing at this threshold")
    assert asked == []


def test_the_slider_begins_at_the_models_own_threshold(page: Page) -> None:
    show_sample(page)
    expect(page.locator("#threshold")).to_have_attribute("min", "0.05")
    expect(page.locator("#threshold")).to_have_value("0.5")


def test_a_class_can_be_left_out_and_taken_in_again(page: Page) -> None:
    asked = show_sample(page)
    rectangles = page.get_by_role("button", name="rectangle, 2")
    expect(rectangles).to_have_attribute("aria-pressed", "true")
    rectangles.click()
    expect(rectangles).to_have_attribute("aria-pressed", "false")
    expect(rectangles).to_be_focused()
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("disc")
    expect(page.locator("#rows")).not_to_contain_text("rectangle")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    assert asked == []


def test_what_is_left_out_stays_so_for_the_next_picture(page: Page) -> None:
    show_sample(page)
    page.get_by_role("button", name="rectangle, 2").click()
    page.set_input_files("#files", SAMPLES[1])
    expect(page.locator("#rows")).to_contain_text("star")
    expect(page.locator("#rows")).not_to_contain_text("rectangle")
