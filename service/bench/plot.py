"""The latency-throughput plot: an SVG of its own, legible on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from service.bench.campaign import Result, TargetResult
from service.bench.report import number

WIDTH, HEIGHT = 760, 460
_TITLE = "Latency against throughput"
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 28, 84, 60
_NAME_LETTERS = 26
_LETTER = 6.8  # pixels, on average: an SVG does not know how wide its text will be

_STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
         fill: #59636e; }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .legend { fill: #1f2328; }
  .page { fill: #ffffff; stroke: #e4e8ec; }
  .grid { stroke: #e4e8ec; stroke-width: 1; }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
  .p99 { stroke-dasharray: 6 5; stroke-width: 2; }
  .dot { stroke: #ffffff; stroke-width: 1.5; }
  .hollow { fill: #ffffff; stroke-width: 2; }
  .label { font-size: 11px; text-anchor: middle; paint-order: stroke; stroke: #ffffff;
           stroke-width: 3px; stroke-linejoin: round; }
  .a .line, .a .hollow { stroke: #0b6bcb; } .a .dot { fill: #0b6bcb; }
  .b .line, .b .hollow { stroke: #c2410c; } .b .dot { fill: #c2410c; }
  .n .line, .n .hollow { stroke: #59636e; } .n .dot { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9aa4ae; }
    .title, .legend { fill: #e6e9ed; }
    .page, .hollow { fill: #15191e; }
    .page, .grid { stroke: #2b323a; }
    .dot, .label { stroke: #15191e; }
    .a .line, .a .hollow { stroke: #58a6ff; } .a .dot { fill: #58a6ff; }
    .b .line, .b .hollow { stroke: #ff9b5e; } .b .dot { fill: #ff9b5e; }
    .n .line, .n .hollow { stroke: #9aa4ae; } .n .dot { fill: #9aa4ae; }
  }
"""


@dataclass(frozen=True)
class _Point:
    throughput: float
    p50: float
    p99: float
    label: str


@dataclass(frozen=True)
class _Scale:
    """A linear or logarithmic axis: values to pixels, and where its marks are."""

    low: float
    high: float
    start: float
    end: float
    marks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            map(math.log10, (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def latency_throughput_svg(result: Result) -> str:
    """p50 and p99 latency over images/s, a line for each target and kind of load, as an SVG."""
    curves = [
        (each, "ab"[index], loop, points)
        for index, each in enumerate(result.targets)
        for loop in ("closed", "open")
        if (points := _points(each, loop))
    ]
    every = [point for _, _, _, points in curves for point in points]
    x = _linear([point.throughput for point in every], _LEFT, WIDTH - _RIGHT)
    y = _logarithmic(
        [value for point in every for value in (point.p50, point.p99)], HEIGHT - _BOTTOM, _TOP
    )
    names = ", ".join(each.target.name for each in result.targets)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{_TITLE}: {escape(names)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        f'<text class="title" x="{_LEFT}" y="28">{_TITLE}</text>',
        *_axes(x, y),
        *_legend(result),
    ]
    for _, css, loop, points in curves:
        parts += _curve(points, css, loop, x, y)
    parts += [
        f'<text class="label" x="{x(point.throughput):.1f}" y="{y(point.p99) - 10:.1f}">'
        f"{escape(point.label)}</text>"
        for point in every
    ]
    return "\n".join([*parts, "</svg>", ""])


def _points(result: TargetResult, loop: str) -> list[_Point]:
    """Levels that had good answers, in the order of their load."""
    found = []
    for level in sorted(result.levels, key=lambda each: each.level.value):
        figures = level.pooled
        latency = figures.latency
        if level.level.loop == loop and latency is not None:
            label = level.level.short_label
            found.append(_Point(figures.images_per_s, latency.p50, latency.p99, label))
    return found


def _curve(points: Sequence[_Point], css: str, loop: str, x: _Scale, y: _Scale) -> list[str]:
    parts = [f'<g class="{css}">']
    for kind in ("p99", "p50"):
        places = [(x(point.throughput), y(getattr(point, kind))) for point in points]
        if len(places) > 1 and loop == "closed":
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
            parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        elif len(places) > 1:
            # Beyond the peak an open loop's line turns back; thinner, it is told from the other.
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
            parts.append(f'<polyline class="line {kind}" stroke-opacity="0.45" points="{path}"/>')
        shape = "dot" if kind == "p50" else "hollow"
        for point, (left, top) in zip(points, places, strict=True):
            title = (
                f"{point.label}: {number(point.throughput)} images/s, "
                f"{kind} {number(getattr(point, kind))} ms"
            )
            parts.append(_mark(left, top, shape, loop, title))
    return [*parts, "</g>"]


def _mark(left: float, top: float, shape: str, loop: str, title: str) -> str:
    """A disc for clients, a diamond for a rate."""
    text = f"<title>{escape(title)}</title>"
    if loop == "closed":
        return f'<circle class="{shape}" cx="{left:.1f}" cy="{top:.1f}" r="4.5">{text}</circle>'
    corners = f"M{left:.1f} {top - 6:.1f}l6 6l-6 6l-6 -6z"
    return f'<path class="{shape}" d="{corners}">{text}</path>'


def _axes(x: _Scale, y: _Scale) -> list[str]:
    parts = []
    for mark in x.marks:
        left = x(mark)
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text x="{left:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{mark:,g}</text>'
        )
    for mark in y.marks:
        top = y(mark)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{mark:,g}</text>'
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 18}" text-anchor="middle">images per second</text>'
    )
    centre = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(20 {centre:.0f}) rotate(-90)" text-anchor="middle">'
        "latency in milliseconds</text>"
    )
    return parts


def _legend(result: Result) -> list[str]:
    """A colour for each target, a kind of line for each percentile, a mark for each kind of load."""
    entries = [
        ("ab"[index], '<circle class="dot" cx="6" cy="0" r="5"/>', 18, _short(each.target.name))
        for index, each in enumerate(result.targets)
    ]
    for kind, shape in (("p50", "dot"), ("p99", "hollow")):
        sign = f'<line class="line {kind}" x1="0" x2="28" y1="0" y2="0"/>'
        entries.append(("n", f'{sign}<circle class="{shape}" cx="14" cy="0" r="4"/>', 36, kind))
    parts, left = [], float(_LEFT)
    for css, sign, gap, text in entries:
        parts.append(
            f'<g class="{css}" transform="translate({left:.0f} 54)">{sign}'
            f'<text class="legend" x="{gap}" y="4">{escape(text)}</text></g>'
        )
        left += gap + _LETTER * len(text) + 22
    loops = {level.level.loop for each in result.targets for level in each.levels}
    hints = {"closed": "discs: clients", "open": "diamonds: arrivals per second"}
    hint = ", ".join(hints[loop] for loop in ("closed", "open") if loop in loops)
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="28" text-anchor="end">{hint}</text>')
    return parts


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def _linear(values: Sequence[float], start: float, end: float) -> _Scale:
    """From zero to a little more than the largest, with about six round marks."""
    high = max(values, default=1.0) * 1.08 or 1.0
    power = 10 ** math.floor(math.log10(high / 6))
    step = next(power * factor for factor in (1, 2, 5, 10) if high / (power * factor) <= 7)
    marks = tuple(step * count for count in range(int(high / step) + 1))
    return _Scale(0.0, high, start, end, marks)


def _logarithmic(values: Sequence[float], start: float, end: float) -> _Scale:
    """Around all values, with marks at 1, 2 and 5 times the powers of ten."""
    usable = [value for value in values if value > 0] or [1.0]
    low, high = min(usable) / 1.4, max(usable) * 1.6
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    if high / low > 3000:
        marks = [10.0**power for power in powers]
    return _Scale(
        low, high, start, end, tuple(mark for mark in marks if low <= mark <= high), log=True
    )
