"""The contact sheet: the picture, its small versions, and one fine detail of each of them, enlarged."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastpool.cli.layout import CAPTION_GAP, IDEA_LINES, MARGIN, Grid, Strip, plan_grid, plan_strip
from fastpool.cli.measure import Measurement
from fastpool.cli.picture import Picture
from fastpool.cli.typeset import (
    BODY,
    FIGURES,
    HEADING,
    NAME,
    SUBTITLE,
    TITLE,
    baseline,
    shorten,
    text_width,
    wrap,
    write_lines,
)
from fastpool.cli.ways import Array
from fastpool.units import count_text, seconds_text, shift_text

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PAPER = "#ffffff"
ACCENT = "#e8590c"
TRACK = "#eceef1"
HAIRLINE = "#d5d9de"
DOT = "  \N{MIDDLE DOT}  "

LEGEND = (
    ("parameters", "what training would learn"),
    ("time", "of fastpool, and of NumPy: im2col + matmul for the convolutions, slices or blocks for the rest"),
    (
        "shift",
        "change of the result when the picture moves by one pixel, relative to its contrast. Detail too fine for the "
        "small picture turns into false patterns (aliasing), which change as it moves: the smaller, the steadier",
    ),
)
LEGEND_INDENT = 104


def draw_sheet(picture: Picture, factor: int, measurements: Sequence[Measurement], machine: Mapping[str, Any]) -> bytes:
    """Draw the contact sheet and return it as the bytes of a PNG file."""
    from PIL import Image, ImageDraw

    _, _, out_height, out_width = measurements[0].problem.out_shape
    grid = plan_grid(out_height, out_width, len(measurements))
    strip = plan_strip(grid, out_height, out_width, factor, len(measurements) + 1)
    row, column = find_detail(picture.pixels, factor, strip.cells)
    footer_top = strip.bottom + 30

    sheet = Image.new("RGB", (grid.width, footer_top + BODY.leading + MARGIN - 14), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_title(draw, picture, factor, (out_height, out_width), grid.width - 2 * MARGIN)
    _draw_picture(sheet, draw, picture, factor, grid, (row, column, strip.cells))
    _draw_results(sheet, draw, measurements, grid)
    _draw_strip(sheet, draw, picture, factor, measurements, strip, (row, column))
    write_lines(draw, MARGIN, footer_top, [shorten(_footer(machine), BODY, grid.width - 2 * MARGIN)], BODY)

    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def find_detail(x: Array, factor: int, cells: int) -> tuple[int, int]:
    """Return the (row, column), in output pixels, of the square of cells x cells with the most detail to lose.

    That is the detail within the blocks that become one pixel: their variance in brightness, summed over the square.
    """
    brightness = x[0].mean(axis=0, dtype=np.float64)
    h, w = brightness.shape
    variance = brightness.reshape(h // factor, factor, w // factor, factor).var(axis=(1, 3))
    sums = np.pad(variance, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    squares = sums[cells:, cells:] - sums[:-cells, cells:] - sums[cells:, :-cells] + sums[:-cells, :-cells]
    row, column = np.unravel_index(int(squares.argmax()), squares.shape)
    return int(row), int(column)


def to_image(x: Array) -> Image.Image:
    """(1, 3, H, W) in [0, 1] -> an 8-bit RGB image."""
    from PIL import Image

    levels = np.rint(np.clip(x[0], 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrink smoothly, so that the sheet adds no aliasing of its own; enlarge by repeating pixels."""
    from PIL.Image import Resampling

    if image.size == size:
        return image
    return image.resize(size, Resampling.LANCZOS if size[0] < image.size[0] else Resampling.NEAREST)


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image, corner: tuple[int, int]) -> None:
    """Paste an image inside a hairline, which keeps white pixels apart from the paper."""
    x, y = corner
    sheet.paste(image, corner)
    draw.rectangle((x - 1, y - 1, x + image.size[0], y + image.size[1]), outline=HAIRLINE)


def _draw_title(
    draw: ImageDraw.ImageDraw, picture: Picture, factor: int, out_size: tuple[int, int], width: float
) -> None:
    _, _, height_in, width_in = picture.pixels.shape
    subtitle = (
        f"{picture.name}, {width_in} x {height_in} pixels, made {factor} times smaller: {out_size[1]} x {out_size[0]}"
    )
    y = write_lines(draw, MARGIN - 2, MARGIN - 8, ["How should a network downsample?"], TITLE)
    write_lines(draw, MARGIN, y, [shorten(subtitle, SUBTITLE, width)], SUBTITLE)


def _draw_picture(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Picture,
    factor: int,
    grid: Grid,
    detail: tuple[int, int, int],
) -> None:
    """Draw the picture at twice the results' size, the detail marked, and below it how to read the sheet."""
    left, top = MARGIN, grid.tops[0]
    size = (2 * grid.panel[0], 2 * grid.panel[1])
    _paste(sheet, draw, resize(to_image(picture.pixels), size), (left, top))

    row, column, cells = detail
    scale = factor * size[0] / picture.pixels.shape[3]
    corner = (left + column * scale, top + row * scale)
    for grow, colour in ((3, "#000000"), (2, "#ffffff"), (1, "#ffffff")):
        box = [corner[0] - grow, corner[1] - grow]
        box += [corner[0] + cells * scale + grow - 1, corner[1] + cells * scale + grow - 1]
        draw.rectangle([round(v) for v in box], outline=colour)

    y = write_lines(draw, left, top + size[1] + CAPTION_GAP, ["Original"], NAME)
    y = 10 + write_lines(draw, left, y, ["the frame marks the detail that is enlarged below"], BODY)
    for term, meaning in LEGEND:
        write_lines(draw, left, y, [term], FIGURES)
        y = write_lines(draw, left + LEGEND_INDENT, y, wrap(meaning, BODY, grid.picture_column - LEGEND_INDENT), BODY)


def _draw_results(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, measurements: Sequence[Measurement], grid: Grid
) -> None:
    for index, m in enumerate(measurements):
        x, y = grid.corner(index)
        _paste(sheet, draw, resize(to_image(m.output), grid.panel), (x, y))
        parameters = m.way.parameters(m.problem)
        figures = [
            f"{count_text(parameters) if parameters else 'no'} parameters{DOT}shift {shift_text(m.shift_difference)}",
            f"{seconds_text(m.times.ours)}{DOT}NumPy {seconds_text(m.times.baseline)}",
        ]
        caption = y + grid.panel[1] + CAPTION_GAP
        below = write_lines(draw, x, caption, [shorten(_title(m), NAME, grid.column)], NAME)
        write_lines(draw, x, below, wrap(m.way.explain(m.problem), BODY, grid.column)[:IDEA_LINES], BODY)
        write_lines(draw, x, below + IDEA_LINES * BODY.leading + 4, figures, FIGURES)


def _draw_strip(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Picture,
    factor: int,
    measurements: Sequence[Measurement],
    strip: Strip,
    detail: tuple[int, int],
) -> None:
    """Draw the detail of the picture and of every result, and the shift differences as bars of one scale."""
    heading = "The same detail"
    row, column = detail
    size = (strip.side, strip.side)
    write_lines(draw, MARGIN, strip.heading_top, [heading], HEADING)
    note = f"{strip.cells} x {strip.cells} pixels of each result, and what they were in the original"
    same_baseline = strip.heading_top + baseline(HEADING) - baseline(BODY)
    write_lines(draw, MARGIN + text_width(heading, HEADING) + 16, same_baseline, [note], BODY)

    def cut(x: Array, scale: int) -> Image.Image:
        rows = slice(row * scale, (row + strip.cells) * scale)
        columns = slice(column * scale, (column + strip.cells) * scale)
        return resize(to_image(x[:, :, rows, columns]), size)

    def show(index: int, image: Image.Image, title: str) -> tuple[int, int]:
        """Paste a square with its title; return where more can be written."""
        left, top = strip.corner(index)
        label_top = top + strip.side + CAPTION_GAP
        _paste(sheet, draw, image, (left, top))
        write_lines(draw, left, label_top, [shorten(title, FIGURES, strip.side)], FIGURES)
        return left, label_top + FIGURES.leading + 8

    show(0, cut(picture.pixels, factor), "Original")
    largest = max(m.shift_difference or 0.0 for m in measurements)
    for index, m in enumerate(measurements, 1):
        left, y = show(index, cut(m.output, 1), _title(m))
        draw.rectangle((left, y, left + strip.side - 1, y + 5), fill=TRACK)
        if m.shift_difference:
            end = left + round((strip.side - 1) * m.shift_difference / largest)
            draw.rectangle((left, y, end, y + 5), fill=ACCENT)
        write_lines(draw, left, y + 10, [f"shift {shift_text(m.shift_difference)}"], BODY)


def _title(m: Measurement) -> str:
    return m.way.name[0].upper() + m.way.name[1:]


def _footer(machine: Mapping[str, Any]) -> str:
    where = "fastpool {version} on {cpu} ({instructions}), {threads} threads".format_map(machine)
    return f"Times: median of a warm call, one picture in float32, both sides measured in turns{DOT}{where}"
