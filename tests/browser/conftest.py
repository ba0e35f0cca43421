"""A real Chromium on a real server of two versions of the embedded model, and of one with hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from browser_page import ARGUMENTS, CHROMIUM, HOSTILE, PATIENCE_MS, OpenPage, write_model
from live_server import LiveServer, live_server
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright


def _answer(body: Any, route: Route) -> None:
    route.fulfill(json=body)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Of the models ``shapes`` (versions 1 and 2 loaded, 3 not) and ``hostile``."""
    root = tmp_path_factory.mktemp("repository")
    write_model(root / "shapes" / "1")
    write_model(root / "shapes" / "2", noise=1.2)
    write_model(root / "shapes" / "3", noise=0.1)
    write_model(root / "hostile" / "1", names=[HOSTILE, HOSTILE + "2", HOSTILE + "3", "star"])
    with live_server("--repository", root, "--name", "shapes", "--threads", "1", cwd=root) as live:
        with httpx.Client(base_url=live.url, timeout=60) as client:
            changed = client.post("/reload", json={"model": "shapes", "version": "1"})
            assert changed.status_code == 200, changed.text
            named = client.put("/models/shapes/aliases/candidate", json={"version": "2"})
            assert named.status_code == 200, named.text
        yield live


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext, server: LiveServer) -> Iterator[OpenPage]:
    """Opens the playground; whatever a page logs as an error fails the test.

    ``refused=True`` lets through what the browser logs of answers with an error status.
    """
    complaints: list[str] = []

    def opened(url: str = "", *, refused: bool = False, **answers: Any) -> Page:
        """``answers`` are JSON bodies by route, given in the place of the server's."""
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and not (refused and "Failed to load" in message.text)
                else None
            ),
        )
        for name, body in answers.items():
            query = "?*" if name == "predict" else ""
            page.route(f"**/{name}{query}", partial(_answer, body))
        page.goto(url or server.url)
        return page

    yield opened
    assert complaints == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The playground with the model loaded."""
    page = open_page()
    expect(page.locator("#version")).to_be_enabled()
    return page
