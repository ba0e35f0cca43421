"""Colours for classes: stable by class id, far apart for neighbouring ids, of one visual weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Steps of the golden angle never repeat and always fall into the widest gap of the circle.
_GOLDEN_ANGLE = 2 * math.pi * (3 - math.sqrt(5)) / 2
_FIRST_HUE = math.radians(255)  # a blue
# Lightness changes from one class to the next, so that similar hues far apart differ in it.
_LIGHTNESSES = (0.68, 0.76, 0.64)
_CHROMA = 0.19


def class_color(
    index: int, chosen: Sequence[tuple[int, int, int] | None] = ()
) -> tuple[int, int, int]:
    """The sRGB colour, 0 to 255 each, of the class with this id (from 0).

    Args:
        index: the id.
        chosen: colours that the model's owner wants instead, by class id; None, or what is beyond the
            end, is the palette's.
    """
    own = chosen[index] if index < len(chosen) else None
    if own is not None:
        return own
    hue = _FIRST_HUE + index * _GOLDEN_ANGLE
    lightness = _LIGHTNESSES[index % len(_LIGHTNESSES)]
    chroma = _CHROMA
    rgb = _linear_srgb(lightness, chroma, hue)
    while min(rgb) < 0 or max(rgb) > 1:  # not a colour of sRGB: go towards grey, keep the hue
        chroma *= 0.95
        rgb = _linear_srgb(lightness, chroma, hue)
    red, green, blue = (round(255 * _gamma(channel)) for channel in rgb)
    return red, green, blue


def hex_color(rgb: tuple[int, int, int]) -> str:
    """``"#rrggbb"``."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def contrast_ratio(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    """How well two colours can be told apart, 1 to 21 (WCAG 2.2; text needs 4.5)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better; the ratio is at least 4.5 on any background."""
    black, white = (0, 0, 0), (255, 255, 255)
    return max(white, black, key=lambda color: contrast_ratio(color, background))


def _linear_srgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to linear sRGB (Ottosson, "A perceptual color space for image processing", 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def _luminance(rgb: tuple[int, int, int]) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in rgb)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
