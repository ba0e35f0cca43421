"""The frame of a report: one HTML file that loads nothing and runs nothing but its own few lines.

A content security policy in its head allows the one style sheet and the one script of this module, by
their hashes, and pictures that are in the file itself. No element has a style or a handler of its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark;
  --page: #f6f8fa; --card: #ffffff; --line: #dfe4e9; --ink: #1f2328; --soft: #59636e;
  --blue: #0b6bcb; --orange: #c2410c; --grey: #8c959f; --good: #1a7f37; --bad: #c4322b;
  --track: #eaeef2; --note: #fff8e1; --note-line: #e3b341; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0d1117; --card: #15191e; --line: #2b323a; --ink: #e6e9ed; --soft: #9aa4ae;
  --blue: #58a6ff; --orange: #ff9b5e; --grey: #79838d; --good: #4ac26b; --bad: #ff7b72;
  --track: #262c34; --note: #272115; --note-line: #7d6321; --on: #0d1117; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 20px 0 6px; }
p { margin: 0 0 12px; }
.lead { color: var(--soft); margin: 4px 0 0; overflow-wrap: anywhere; }
.soft, footer { color: var(--soft); font-size: 13.5px; }
footer { padding: 8px 24px 40px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 20px; font-size: 14px; }
a { color: var(--blue); text-decoration: none; } a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 24px; margin: 0 0 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 0 0 18px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; }
.tile b { display: block; font-size: 30px; line-height: 1.15; font-weight: 650;
  font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }
.tile > span { color: var(--soft); font-size: 13px; display: block; }
.note { background: var(--note); border: 1px solid var(--note-line); border-radius: 8px;
  padding: 10px 14px; margin: 0 0 10px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 6px 9px; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody tr:last-child td { border-bottom: 0; }
.facts { width: auto; } .facts td:first-child { color: var(--soft); padding-left: 0; }
.facts td { white-space: normal; text-align: left; overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--blue); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.good { color: var(--good); } .bad { color: var(--bad); }
.bar { vertical-align: middle; margin-left: 8px; }
.bar .track { fill: var(--track); } .bar .full { fill: var(--blue); }
.bar .good { fill: var(--good); } .bar .bad { fill: var(--bad); } .bar .axis { stroke: var(--grey); }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
  fill: var(--soft); }
svg .name { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--grey); fill: none; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .iou50 { stroke: var(--blue); } svg .iou75 { stroke: var(--orange); }
svg .mean { stroke: var(--grey); stroke-dasharray: 5 4; } svg .dot { fill: var(--blue); }
.key50 { color: var(--blue); } .key75 { color: var(--orange); } .keymean { color: var(--grey); }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(228px, 1fr)); gap: 12px; }
.curves svg, .large svg { width: 100%; height: auto; display: block; }
.two td:first-child { white-space: normal; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 28px; }
.two-even { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; }
@media (max-width: 860px) { .two, .two-even { grid-template-columns: 1fr; } }
.matrix .cell { fill: var(--track); } .matrix .hit { fill: var(--blue); }
.matrix .miss { fill: var(--orange); } .matrix .off { fill: var(--ink); }
.matrix .on { fill: var(--on); }
.matrix .small { font-size: 10px; } .matrix svg { max-width: 100%; height: auto; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 18px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; margin: 0 0 22px; }
.pair > p { grid-column: 1 / -1; margin: 0; }
figure { margin: 0; min-width: 0; } figure svg { width: 100%; height: auto; display: block;
  border-radius: 6px; background: #000; max-height: 520px; }
figcaption { font-size: 13px; color: var(--soft); margin-top: 6px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.frame { fill: none; stroke-width: 3.5; } .frame.dashed { stroke-dasharray: 11 8; }
.frame.right { stroke: #2fbf71; } .frame.false { stroke: #ff5a4f; } .frame.missed { stroke: #4aa8ff; }
.frame.confused { stroke: #f5b301; } .frame.crowd { stroke: #b8c0c8; }
.frame.truth { stroke: #ffffff; stroke-width: 2.5; }
.under { fill: none; stroke: #000000; stroke-opacity: 0.5; stroke-width: 6; }
figure text.tag { fill: #ffffff; stroke: #000000; stroke-opacity: 0.85; stroke-width: 4;
  paint-order: stroke; stroke-linejoin: round; font-size: 20px; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 13.5px; color: var(--soft);
  margin: 0 0 14px; padding: 0; list-style: none; }
.legend svg { width: 38px; height: 16px; vertical-align: -3px; margin-right: 7px; background: #59636e;
  border-radius: 3px; }
details summary { cursor: pointer; color: var(--blue); margin: 14px 0 10px; }
@media print { body { background: none; } section, .tile { break-inside: avoid; } nav { display: none; } }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = column ? x - y : x.localeCompare(y);
      return up ? order : -order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}
"""


@dataclass(frozen=True)
class Section:
    """A part of a report: where the contents' list leads to, its heading, and its HTML."""

    anchor: str
    title: str
    body: str
    intro: str = ""


def text(value: object) -> str:
    """A value as HTML shows it, wherever it stands; names come from files of anybody."""
    return escape(str(value), quote=True)


def document(*, title: str, lead: str, top: str, sections: Sequence[Section], foot: str) -> str:
    """The whole file.

    Args:
        title, lead: plain text.
        top, foot: HTML above and below the sections.
        sections: in their order; titles and intros are plain text.
    """
    links = "".join(f'<a href="#{text(s.anchor)}">{text(s.title)}</a>' for s in sections)
    parts = "".join(
        f'<section id="{text(s.anchor)}"><h2>{text(s.title)}</h2>'
        + (f'<p class="soft">{text(s.intro)}</p>' if s.intro else "")
        + f"{s.body}</section>\n"
        for s in sections
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(_STYLE)}'; "
        f"script-src '{_hash(_SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{text(title)}</h1><p class="lead">{text(lead)}</p>'
        f"<nav>{links}</nav></header>\n<main>\n{top}\n{parts}</main>\n"
        f"<footer>{foot}</footer>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _hash(content: str) -> str:
    """As a content security policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
