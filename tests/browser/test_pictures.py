"""How pictures come in, and what is shown of them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from browser_page import SAMPLES, OpenPage, colors_on, drawn, rgb
from PIL import Image
from playwright.sync_api import Page, expect

DROP = """([element, name, text]) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    const clipboard = element === "paste";
    document.body.dispatchEvent(clipboard
        ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
        : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def base64_of(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_an_uploaded_picture_is_answered_listed_and_drawn(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#summary")).to_contain_text("instances")
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#rows tr").first).to_contain_text("rectangle")
    expect(page.locator(".pane figcaption")).to_contain_text("236 \N{MULTIPLICATION SIGN} 161")
    answer = page.request.get(page.url + "models/shapes").json()
    colors = {entry["name"]: rgb(entry["color"]) for entry in answer["classes"]}
    drawn(page)
    found = colors_on(page)
    assert colors["rectangle"] in found
    assert colors["disc"] in found
    assert colors["star"] not in found


def test_boxes_masks_and_names_can_be_left_out(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    color = rgb(page.request.get(page.url + "models/shapes").json()["classes"][1]["color"])
    for kind in ("boxes", "masks", "names"):
        drawn(page)
        assert color in colors_on(page), kind
        page.click(f"[data-show={kind}]")
        expect(page.locator(f"[data-show={kind}]")).to_have_attribute("aria-pressed", "false")
    drawn(page)
    assert color not in colors_on(page)


def test_several_pictures_stand_in_a_strip_and_each_has_its_answer(page: Page) -> None:
    page.set_input_files("#files", SAMPLES)
    expect(page.locator("#film li")).to_have_count(2)
    expect(page.locator("#rows tr")).to_have_count(3)
    page.click("#film li:nth-child(2) button")
    expect(page.locator(".pane figcaption strong")).to_have_text("shapes-2.jpg")
    expect(page.locator("#film [aria-current]")).to_have_attribute("aria-label", "shapes-2.jpg")
    expect(page.locator("#rows")).to_contain_text("star")
    page.click("#clear")
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#pick")).to_be_focused()


def test_the_samples_are_a_click_away(page: Page) -> None:
    page.get_by_role("button", name="Sample shapes-2.jpg").click()
    expect(page.locator("#rows tr").first).to_contain_text("star")


def test_a_picture_can_be_dropped_or_pasted(page: Page) -> None:
    for number, way in enumerate(("drop", "paste"), start=1):
        page.evaluate(DROP, [way, f"{way}.jpg", base64_of(SAMPLES[0])])
        expect(page.locator("#film li")).to_have_count(number)
        expect(page.locator(".pane figcaption strong")).to_have_text(f"{way}.jpg")
        expect(page.locator("#rows tr")).to_have_count(3)


def test_the_camera_gives_a_picture_and_is_closed_after(page: Page) -> None:
    page.click("#camera-open")
    expect(page.locator("#camera-shoot")).to_be_enabled()
    page.click("#camera-shoot")
    expect(page.locator(".pane figcaption strong")).to_have_text("camera-1.jpg")
    expect(page.locator("#summary")).to_contain_text("instance")
    assert page.locator("#camera-video").evaluate("(video) => video.srcObject") is None


def test_hovering_names_an_instance_and_lights_it(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#rows tr")).to_have_count(3)
    bounds = page.locator(".pane canvas").bounding_box()
    assert bounds is not None
    # The middle of the rectangle at 93, 118 to 137, 159 of a picture of 236 by 161.
    page.mouse.move(
        bounds["x"] + bounds["width"] * 115 / 236, bounds["y"] + bounds["height"] * 138 / 161
    )
    expect(page.locator("#tip")).to_have_text("rectangle 100%")
    page.mouse.move(2, 2)
    expect(page.locator("#tip")).to_be_hidden()


def test_the_time_is_told_by_stage(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    for stage in ("decode", "queue", "inference", "encode", "network"):
        expect(page.locator("#timing-list")).to_contain_text(stage)
    expect(page.locator("#timing-total")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    expect(page.locator("#timing-bar span")).to_have_count(6)


def test_the_request_can_be_copied_as_curl_and_as_python(page: Page) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#snippet")).to_contain_text("curl -F images=@'shapes-1.jpg'")
    page.select_option("#version", "2")
    expect(page.locator("#snippet")).to_contain_text("version=2&score_threshold=0.5'")
    page.click("[data-language=python]")
    expect(page.locator("#snippet")).to_contain_text('"version": "2", "score_threshold": 0.5')
    compile(page.locator("#snippet").inner_text(), "snippet", "exec")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    expect(page.locator("#copied")).to_have_text("Copied.")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == page.locator("#snippet").inner_text()


def test_the_answer_and_the_annotated_picture_can_be_saved(page: Page, tmp_path: Path) -> None:
    page.set_input_files("#files", SAMPLES[0])
    expect(page.locator("#save-json")).to_be_enabled()
    with page.expect_download() as saved:
        page.click("#save-json")
    assert saved.value.suggested_filename == "shapes-1.json"
    answer = json.loads(Path(saved.value.path()).read_text())
    assert answer["predictions"][0]["image"] == {
        "name": "shapes-1.jpg",
        "width": 236,
        "height": 161,
    }
    with page.expect_download() as saved:
        page.click("#save-picture")
    assert saved.value.suggested_filename == "shapes-1-annotated.png"
    picture = Image.open(saved.value.path()).convert("RGB")
    assert (picture.width / picture.height) == 236 * 3 / (161 * 3)
    color = rgb(page.request.get(page.url + "models/shapes").json()["classes"][0]["color"])
    assert color in {pixel for _, pixel in picture.getcolors(10**7) or []}


def test_a_picture_that_the_browser_cannot_show_is_answered_all_the_same(
    open_page: OpenPage, tmp_path: Path
) -> None:
    file = tmp_path / "scan.tiff"
    Image.open(SAMPLES[0]).save(file)
    page = open_page()
    page.set_input_files("#files", file)
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator(".pane canvas")).to_be_visible()


def test_a_picture_that_lies_on_its_side_is_shown_as_its_boxes_are(
    page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "phone.jpg"
    orientation = Image.Exif()
    orientation[0x0112] = 6  # to be turned by a quarter
    Image.open(SAMPLES[0]).save(file, exif=orientation)
    page.set_input_files("#files", file)
    expect(page.locator(".pane figcaption")).to_contain_text("161 \N{MULTIPLICATION SIGN} 236")
    drawn(page)
    upright, turned = Image.open(SAMPLES[0]), page.locator(".pane canvas")
    ratio = turned.evaluate("(canvas) => canvas.width / canvas.height")
    assert abs(ratio - upright.height / upright.width) < 0.01
    # The corner that was at the bottom left is at the top left now.
    for kind in ("boxes", "masks", "names"):
        page.click(f"[data-show={kind}]")
    drawn(page)
    pixel = turned.evaluate(
        "(canvas) => [...canvas.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"
    )
    expected = upright.getpixel((1, upright.height - 2))
    assert isinstance(expected, tuple)
    assert max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) < 40
