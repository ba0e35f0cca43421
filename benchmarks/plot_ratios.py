"""Draws the ratios of ``benchmarks/results`` as bars: ``docs/images/performance.svg``.

python benchmarks/plot_ratios.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from xml.sax.saxutils import escape

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
WIDTH, LABELS, ROW, TOP = 720, 300, 26, 40
BLUE, GREY = "#3b82c4", "#8a8f98"  # legible on light and on dark


def bars() -> list[tuple[str, float, float, float]]:
    """Label, median, least and largest ratio; a ratio of 1 is what it is compared with."""
    sides = json.loads((RESULTS / "torchvision.json").read_text())["sides"]
    names = {
        "torchvision": "torchvision, eager",
        "reference": "detserve, reference",
        "exact": "detserve, exact (default)",
        "fast": "detserve, fast",
        "fast-few": "detserve, fast, 5 objects wanted of 100",
    }
    found = []
    for side, label in names.items():
        ratios = sides[side]["times_as_fast"]
        found.append((label, statistics.median(ratios), min(ratios), max(ratios)))
    return found


def main() -> None:
    """Write the picture."""
    rows = bars()
    scale = (WIDTH - LABELS - 60) / max(largest for *_, largest in rows)
    height = TOP + ROW * len(rows) + 10
    title = "Mask R-CNN R50-FPN, one picture on 2 cores: times as fast as torchvision's eager one"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{GREY}">',
        f"<title>{escape(title)}</title>",
        f'<text x="10" y="22" font-weight="600">{escape(title)}</text>',
    ]
    for i, (label, median, least, largest) in enumerate(rows):
        y = TOP + i * ROW
        colour = GREY if i == 0 else BLUE
        end = LABELS + median * scale
        parts += [
            f'<text x="{LABELS - 10}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{y + 2}" width="{median * scale:.1f}" height="16" rx="3" '
            f'fill="{colour}"/>',
            f'<path d="M{LABELS + least * scale:.1f} {y + 10}H{LABELS + largest * scale:.1f}" '
            f'stroke="{GREY}" stroke-width="2"/>',
            f'<text x="{max(end, LABELS + largest * scale) + 6:.1f}" y="{y + 14}">{median:.2f}</text>',
        ]
    parts.append("</svg>")
    path = REPOSITORY / "docs" / "images" / "performance.svg"
    path.write_text("\n".join(parts) + "\n")
    print(f"Written: {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
