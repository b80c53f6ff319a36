"""Text for the contact sheet: one typeface in a few sizes, measured, wrapped and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

INK = "#16181d"
GREY = "#667080"


@dataclass(frozen=True)
class Style:
    """A size in pixels, a weight, a colour, and the distance from one baseline to the next."""

    size: int
    bold: bool
    colour: str
    leading: int


TITLE = Style(38, True, INK, 48)
SUBTITLE = Style(18, False, GREY, 26)
HEADING = Style(20, True, INK, 28)
NAME = Style(18, True, INK, 25)
BODY = Style(15, False, GREY, 21)
FIGURES = Style(15, False, INK, 21)


@cache
def _font(size: int, bold: bool) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib carries."""
    import matplotlib
    from PIL import ImageFont

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", file)), size)


def baseline(style: Style) -> int:
    """Where a line's letters stand, below its top."""
    return round(0.75 * style.leading)


def typographic(text: str) -> str:
    """Replace what is typed on a terminal by what is set in print."""
    return text.replace(" x ", " \N{MULTIPLICATION SIGN} ").replace(" us", " \N{MICRO SIGN}s")


def text_width(text: str, style: Style) -> float:
    """Width in pixels of one line."""
    return _font(style.size, style.bold).getlength(typographic(text))


def wrap(text: str, style: Style, width: float) -> list[str]:
    """Break a text into lines no wider than `width`; a single word that is wider is cut short."""
    lines: list[str] = []
    for word in text.replace(" x ", "\0x\0").split(" "):  # sizes such as 2 x 2 stay on one line
        whole = shorten(word.replace("\0", " "), style, width)
        if lines and text_width(f"{lines[-1]} {whole}", style) <= width:
            lines[-1] += f" {whole}"
        else:
            lines.append(whole)
    return lines


def shorten(text: str, style: Style, width: float) -> str:
    """Return the text, or as much of it as fits, with an ellipsis."""
    if text_width(text, style) <= width:
        return text
    while text and text_width(text + "\N{HORIZONTAL ELLIPSIS}", style) > width:
        text = text[:-1]
    return text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def write_lines(draw: ImageDraw, x: float, y: float, lines: list[str], style: Style) -> float:
    """Draw lines below `y`, and return where the next line would start."""
    for line in lines:
        font = _font(style.size, style.bold)
        draw.text((x, y + baseline(style)), typographic(line), fill=style.colour, font=font, anchor="ls")
        y += style.leading
    return y
