"""Keyboard, screen readers, dark and light, small screens, and people who want no motion."""

from __future__ import annotations

from browser_page import SAMPLES, OpenPage
from live_server import LiveServer
from playwright.sync_api import Browser, Page, expect

LUMINANCE = """(selector) => {
    const [r, g, b] = getComputedStyle(document.querySelector(selector)).backgroundColor
        .match(/\\d+/g).map(Number);
    return (r + g + b) / 3;
}"""
UNNAMED = """() => [...document.querySelectorAll("button, select, input, a, canvas, dialog, summary")]
    .filter((node) => node.type !== "file")
    .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length
        || node.getAttribute("aria-labelledby")))
    .map((node) => node.outerHTML)"""


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    sample = page.get_by_role("button", name="Sample shapes-1.jpg")
    for _ in range(20):
        page.keyboard.press("Tab")
        if sample.evaluate("(node) => node === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr")).to_have_count(3)
    page.locator("#threshold").focus()
    page.keyboard.press("Home")
    expect(page.locator("#threshold-value")).to_have_text("0.05")
    page.keyboard.press("End")
    expect(page.locator("#threshold-value")).to_have_text("1.00")
    page.locator("#threshold").fill("0.5")
    page.locator("#classes button").first.focus()
    page.keyboard.press("Space")
    expect(page.locator("#classes button").first).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Space")
    expect(page.locator("#rows tr")).to_have_count(3)
    # From the table a row lights its instance; the next one is a tab away.
    page.locator("#rows button").first.focus()
    page.keyboard.press("Tab")
    expect(page.locator("#rows button").nth(1)).to_be_focused()


def test_the_token_dialogue_keeps_the_focus_and_closes_by_escape(page: Page) -> None:
    page.locator("#token-open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#token-dialog")).to_be_hidden()
    expect(page.locator("#token-open")).to_be_focused()


def test_screen_readers_hear_names_and_results(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.get_by_role("status").filter(has_text="instances")).to_be_visible()
    table = page.get_by_role("table", name="Instances")
    expect(table.get_by_role("columnheader", name="Score")).to_be_visible()
    expect(table.get_by_role("rowheader")).to_have_count(3)
    expect(page.get_by_role("img", name="shapes-1.jpg, version 1: rectangle")).to_be_visible()
    expect(page.get_by_role("slider", name="Score threshold")).to_be_visible()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    assert page.evaluate(UNNAMED) == []


def test_dark_follows_the_system_and_the_button(browser: Browser, server: LiveServer) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(server.url)
    assert page.evaluate(LUMINANCE, "body") < 60
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(LUMINANCE, "body") > 200
    page.reload()
    assert page.evaluate(LUMINANCE, "body") > 200
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(LUMINANCE, "body") < 60
    context.close()


def test_a_phone_scrolls_down_and_not_sideways(browser: Browser, server: LiveServer) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True
    )
    page = context.new_page()
    page.goto(server.url)
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    page.select_option("#compare", "2")
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator("#summary")).to_contain_text("difference")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    first, second = (page.locator(".pane").nth(at).bounding_box() for at in (0, 1))
    assert first is not None
    assert second is not None
    assert second["y"] >= first["y"] + first["height"]
    page.locator(".pane canvas").first.tap()
    context.close()


def test_text_stands_out_from_its_ground(open_page: OpenPage) -> None:
    """WCAG's ratio of 4.5, for the words of every kind of control, light and dark."""
    page = open_page()
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    for _ in ("light", "dark"):
        low = page.evaluate(CONTRASTS)
        assert low == []
        page.click("#theme")


CONTRASTS = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const color = channels(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const low = [];
    for (const node of document.querySelectorAll("button, p, h1, h2, th, td, dt, dd, span, label, pre")) {
        const text = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
        if (!text || !node.checkVisibility() || node.disabled) continue;
        const [a, b] = [luminance(channels(getComputedStyle(node).color)), luminance(ground(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push(`${node.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return low;
}"""
