"""Names of files and classes stay text, the policy is strict, and a path prefix is kept."""

from __future__ import annotations

import httpx
from browser_page import HOSTILE, SAMPLES, OpenPage
from live_server import LiveServer
from playwright.sync_api import BrowserContext, Page, Route, expect


def hostile_file() -> dict[str, object]:
    return {
        "name": f"{HOSTILE}.jpg",
        "mimeType": "image/jpeg",
        "buffer": SAMPLES[0].read_bytes(),
    }


def test_names_of_files_and_classes_stay_text(page: Page) -> None:
    page.select_option("#model", "hostile")
    page.set_input_files("#files", [hostile_file()])
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#rows tr").first).to_contain_text(HOSTILE)
    expect(page.locator("#classes")).to_contain_text(HOSTILE)
    expect(page.locator(".pane figcaption strong")).to_contain_text(HOSTILE)
    page.locator(".pane canvas").hover()
    page.click("[data-language=python]")
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("() => window.hacked") is None


def test_an_errors_message_stays_text(open_page: OpenPage) -> None:
    page = open_page(refused=True)
    body = {"error": {"code": HOSTILE, "message": HOSTILE, "request_id": HOSTILE}}
    page.route("**/predict?*", lambda call: call.fulfill(status=422, json=body))
    page.set_input_files("#files", [hostile_file()])
    expect(page.locator("#alert-text")).to_have_text(HOSTILE)
    expect(page.locator("#alert-more")).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("() => window.hacked") is None


def test_a_file_name_cannot_leave_its_quotes_in_a_shell(page: Page) -> None:
    file = hostile_file() | {"name": "a'; touch hacked; '.jpg"}
    page.set_input_files("#files", [file])
    expect(page.locator("#snippet")).to_contain_text(r"images=@'a'\''; touch hacked; '\''.jpg'")


def test_markup_from_script_is_refused_by_the_policy(
    context: BrowserContext, server: LiveServer
) -> None:
    page = context.new_page()
    page.goto(server.url)
    refused = page.evaluate(
        """() => {
            try {
                document.body.innerHTML = "<p>";
                return "allowed";
            } catch (error) {
                return error.name;
            }
        }"""
    )
    assert refused == "TypeError"


def test_every_file_of_the_page_carries_the_policy(server: LiveServer) -> None:
    for path in ("/", "/playground/app.js", "/playground/style.css", "/playground/samples.json"):
        policy = httpx.get(server.url + path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_the_page_asks_no_other_host(context: BrowserContext, server: LiveServer) -> None:
    asked: list[str] = []
    page = context.new_page()
    page.on("request", lambda call: asked.append(call.url))
    page.goto(server.url)
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    assert {url for url in asked if not url.startswith((server.url + "/", "blob:"))} == set()


def test_the_page_works_behind_a_path_prefix(open_page: OpenPage, server: LiveServer) -> None:
    page = open_page()
    page.close()
    prefix = "http://intranet.test/tools/vision/"
    beyond: list[str] = []

    def proxy(route: Route) -> None:
        url = route.request.url
        if not url.startswith(prefix):
            beyond.append(url)
            route.abort()
            return
        answer = route.fetch(url=f"{server.url}/{url.removeprefix(prefix)}")
        route.fulfill(response=answer)

    page.context.route("http://intranet.test/**", proxy)
    behind = open_page(prefix)
    behind.get_by_role("button", name="Sample shapes-1.jpg").click()
    expect(behind.locator("#rows tr")).to_have_count(3)
    expect(behind.locator("#snippet")).to_contain_text(f"{prefix}predict?")
    expect(behind.get_by_role("link", name="API")).to_have_attribute("href", "docs")
    assert beyond == []
    # Pages without https have no clipboard: the text is selected instead.
    behind.click("#copy")
    expect(behind.locator("#copied")).to_contain_text("Selected")
    selected = behind.evaluate("() => getSelection().toString()")
    assert "curl -F" in selected
