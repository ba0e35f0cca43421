"""What goes wrong is told in the server's own sentence, with a way on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser_page import SAMPLES, OpenPage
from live_server import LiveServer, live_server
from playwright.sync_api import expect

TEXT = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"no picture at all"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("guarded")
    with live_server("--inference-token", "open-sesame", "--threads", "1", cwd=folder) as live:
        yield live


def test_a_file_that_is_no_image_shows_the_servers_sentence(open_page: OpenPage) -> None:
    page = open_page(refused=True)
    with page.expect_response("**/predict?*") as answer:
        page.set_input_files("#files", TEXT)
    error = answer.value.json()["error"]
    alert = page.get_by_role("alert").filter(has_text=error["message"])
    expect(alert).to_be_visible()
    expect(alert).to_contain_text(f"status {answer.value.status} · {error['code']}")
    expect(alert).to_contain_text(error["request_id"])
    expect(page.get_by_role("button", name="notes.jpg, failed")).to_be_visible()
    expect(page.locator("#save-json")).to_be_disabled()


def test_a_good_picture_beside_a_bad_one_is_answered(open_page: OpenPage) -> None:
    page = open_page(refused=True)
    page.set_input_files("#files", TEXT)
    expect(page.locator("#alert")).to_be_visible()
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#alert")).to_be_hidden()


def test_a_failed_request_can_be_tried_again(open_page: OpenPage) -> None:
    page = open_page(refused=True)
    message = "The queue is full (128 images); try again in 3 s."
    body = {"error": {"code": "queue_full", "message": message, "request_id": "4f1c"}}
    page.route(
        "**/predict?*",
        lambda call: call.fulfill(status=429, json=body, headers={"Retry-After": "3"}),
        times=1,
    )
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#alert-text")).to_have_text(message)
    expect(page.locator("#alert-more")).to_contain_text("try again in 3 s")
    page.click("#alert-act")
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#alert")).to_be_hidden()


def test_a_server_that_is_away_is_said_to_be(open_page: OpenPage) -> None:
    page = open_page(refused=True)
    expect(page.locator("#version")).to_be_enabled()
    page.context.set_offline(True)
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#alert-text")).to_have_text(
        "The server cannot be reached. Is it still running?"
    )
    expect(page.locator("#live-state")).to_have_text("The server cannot be reached")
    page.context.set_offline(False)
    page.click("#alert-act")
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#live-state")).to_have_text("Every 2 s")


def test_a_server_that_asks_for_a_token_gets_it(open_page: OpenPage, guarded: LiveServer) -> None:
    page = open_page(guarded.url, refused=True)
    expect(page.locator("#alert-text")).to_contain_text("This route needs a token")
    page.click("#alert-token")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#alert-text")).to_contain_text("The token is wrong")
    page.click("#token-open")
    page.fill("#token", "open-sesame")
    page.click("text=Use it")
    expect(page.locator("#alert")).to_be_hidden()
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    # Kept for the tab alone, and never written into what is copied.
    assert page.evaluate("() => sessionStorage.getItem('detserve-token')") == "open-sesame"
    assert page.evaluate("() => JSON.stringify(localStorage)") == "{}"
    expect(page.locator("#snippet")).to_contain_text("Authorization: Bearer $DETSERVE_TOKEN")
    expect(page.locator("#snippet")).not_to_contain_text("open-sesame")
    page.reload()
    expect(page.locator("#version")).to_be_enabled()
