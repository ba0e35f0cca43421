"""The menus of models and versions, test-time augmentation, and two versions side by side."""

from __future__ import annotations

from browser_page import SAMPLES
from live_server import LiveServer
from playwright.sync_api import Page, expect


def scores(page: Page) -> list[str]:
    return page.locator("#rows td:nth-child(2)").all_inner_texts()


def test_the_menus_list_what_is_served(page: Page) -> None:
    assert page.locator("#model option").all_inner_texts() == ["hostile", "shapes"]
    expect(page.locator("#model")).to_have_value("shapes")
    assert page.locator("#version option").all_inner_texts() == [
        "1 (current)",
        "2 (candidate)",
        "3 (not loaded)",
    ]
    expect(page.locator("#version option").nth(2)).to_be_disabled()
    expect(page.locator("#version option").nth(1)).to_be_enabled()


def test_another_version_answers_when_it_is_chosen(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    first = scores(page)
    with page.expect_response("**/predict?*") as answer:
        page.select_option("#version", "2")
    assert answer.value.json()["model"]["version"] == "2"
    expect(page.locator("#rows td:nth-child(2)").first).not_to_have_text(first[0])
    page.select_option("#version", "1")
    expect(page.locator("#rows td:nth-child(2)").first).to_have_text(first[0])


def test_another_model_answers_when_it_is_chosen(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    with page.expect_response("**/predict?*") as answer:
        page.select_option("#model", "hostile")
    assert answer.value.json()["model"]["name"] == "hostile"
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#compare-field")).to_be_hidden()


def test_augmentation_is_a_switch_where_the_model_has_it(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    with page.expect_response("**/predict?*") as answer:
        page.get_by_role("switch").check()
    assert "tta=full" in answer.value.url
    expect(page.locator("#snippet")).to_contain_text("tta=full")
    expect(page.locator("#rows tr").first).to_be_visible()


def test_two_versions_stand_side_by_side_with_their_differences_marked(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[1])
    expect(page.locator("#rows tr").first).to_be_visible()
    page.locator("#threshold").fill("0.3")
    page.select_option("#compare", "2")
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator(".pane strong")).to_have_text(["Version 1", "Version 2"])
    expect(page.locator("#summary")).to_contain_text("difference")
    # By the two answers themselves: what has no counterpart at this threshold is marked.
    marked = page.locator("#rows tr.different")
    different = marked.count()
    assert different > 0
    assert different < page.locator("#rows tr").count()
    expect(page.locator("#summary")).to_have_text(
        f"{different} differences" if different > 1 else "1 difference"
    )
    for text in marked.locator(".mark").all_inner_texts():
        assert "in version" in text
    expect(page.locator("#rows tr:not(.different) .mark").first).to_have_text("same")
    page.select_option("#compare", "")
    expect(page.locator(".pane")).to_have_count(1)


def test_a_version_that_is_loaded_meanwhile_can_be_chosen(page: Page, server: LiveServer) -> None:
    expect(page.locator("#version option").nth(2)).to_be_disabled()
    loaded = page.request.post(f"{server.url}/models/shapes/versions/3/load", data={})
    assert loaded.ok, loaded.text()
    expect(page.locator("#version option").nth(2)).to_be_enabled()
    gone = page.request.post(f"{server.url}/models/shapes/versions/3/unload", data={})
    assert gone.ok, gone.text()
    expect(page.locator("#version option").nth(2)).to_be_disabled()
