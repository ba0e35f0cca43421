"""Report: one file that loads nothing, with names of anybody's in it."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from models.evaluation import CocoDataset, DetailedResult
from models.evaluation.comparison import compare
from models.evaluation.report import Against, Report

EVIL = "<img src=x onerror=alert(1)>\"'&"


class Elements(HTMLParser):
    """Tags with their attributes, and the text of styles and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.inner: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "rect", "line", "polyline", "image", "circle"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                raise AssertionError(f"</{tag}> closes another element")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.inner[self._open[-1]] = data


@pytest.fixture
def html(dataset: CocoDataset, flawed: DetailedResult, perfect: DetailedResult) -> str:
    return Report(
        title=EVIL,
        made_at="today",
        facts=(("weights", EVIL),),
        dataset=dataset,
        detail=flawed,
        way="plain",
        variants=(("TTA", perfect),),
        against=Against(EVIL, perfect, compare(perfect, flawed)),
        hints=(EVIL,),
    ).html()


def test_all_sections_are_there_and_linked(html: str) -> None:
    anchors = re.findall(r'<section id="([a-z]+)">', html)
    assert anchors == [
        "against", "worse", "figures", "classes", "curves", "confusion", "worst", "about",
    ]  # fmt: skip
    assert re.findall(r'<a href="#([a-z]+)">', html) == anchors


def test_nothing_is_loaded_from_anywhere(html: str) -> None:
    elements = Elements(html).found
    links = [
        value
        for _, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "xlink:href")
    ]
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html


def test_the_policy_allows_its_own_style_and_script_and_no_others(html: str) -> None:
    elements = Elements(html)
    policy = next(
        attributes["content"]
        for tag, attributes in elements.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    for kind in ("style", "script"):
        digest = hashlib.sha256(elements.inner[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy


def test_no_element_needs_what_the_policy_forbids(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag


def test_names_are_text(html: str) -> None:
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;") >= 5


def test_class_names_are_text_too(dataset: CocoDataset, flawed: DetailedResult) -> None:
    named = {category: EVIL + str(category) for category in dataset.categories}
    confusion = replace(flawed.confusion, names=tuple(named.values()))
    curves = {"bbox": {EVIL: flawed.curves["bbox"]["dog"]}}
    per_class = {"bbox": {EVIL: flawed.per_class["bbox"]["dog"]}}
    detail = replace(flawed, confusion=confusion, curves=curves, per_class=per_class)
    report = Report("x", "today", dataset=replace(dataset, categories=named), detail=detail)
    assert "<img" not in report.html()


def test_a_report_without_mistakes_has_no_gallery_of_them(
    dataset: CocoDataset, perfect: DetailedResult
) -> None:
    html = Report("x", "today", dataset=dataset, detail=perfect).html()
    assert 'id="worst"' not in html
    assert "No class was taken for another one." in html


def test_without_kept_answers_there_are_no_pictures(
    dataset: CocoDataset, flawed: DetailedResult, perfect: DetailedResult
) -> None:
    detail, other = replace(flawed, answers={}), replace(perfect, answers={})
    against = Against("other", other, compare(other, detail))
    html = Report("x", "today", dataset=dataset, detail=detail, against=against).html()
    assert "<figure>" not in html
    assert 'id="against"' in html


def test_it_is_written_as_utf8(tmp_path: Path) -> None:
    Report("Modell ä 模型", "today").write(tmp_path / "r.html")
    assert "Modell ä 模型" in (tmp_path / "r.html").read_text(encoding="utf-8")
