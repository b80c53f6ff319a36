"""Where everything on the contact sheet goes: plain integers, in pixels.

From top to bottom: a title; the picture at the left, at twice the size of the results, which stand in a grid at its
right, each above its caption; a strip, of one row or two, with the same detail out of each of them; a line on the
measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from fastpool.cli.typeset import BODY, FIGURES, HEADING, NAME, SUBTITLE, TITLE

MARGIN = 48
GAP = 30
COLUMNS = 4
MIN_COLUMN = 256
CAPTION_GAP = 12
IDEA_LINES = 2
CAPTION = CAPTION_GAP + NAME.leading + IDEA_LINES * BODY.leading + 4 + 2 * FIGURES.leading

PANEL_AREA = 78_000
"""A result fills about this many pixels: half a small photograph is shown one to one."""
PANEL_LIMIT = 360
"""The longest side of a result, about."""

STRIP_COLUMNS = 6
"""Squares side by side in the strip, at most."""
SQUARE_GAP = 14
"""The least distance between the squares of the strip."""
CELL = 8
"""The wanted side of one output pixel in the strip."""


LABELS = CAPTION_GAP + NAME.leading + FIGURES.leading
"""Height of what stands below a square of the strip."""


@dataclass(frozen=True)
class Grid:
    """The picture and the results: sizes of a panel, of the columns, and the tops of the rows."""

    panel: tuple[int, int]
    column: int
    picture_column: int
    tops: tuple[int, ...]

    @property
    def width(self) -> int:
        """Of the whole sheet."""
        return 2 * MARGIN + self.picture_column + COLUMNS * (GAP + self.column)

    @property
    def bottom(self) -> int:
        """Below the last caption."""
        return self.tops[-1] + self.panel[1] + CAPTION

    def corner(self, index: int) -> tuple[int, int]:
        """Top left corner of a result."""
        x = MARGIN + self.picture_column + GAP + (index % COLUMNS) * (self.column + GAP)
        return x, self.tops[index // COLUMNS]


@dataclass(frozen=True)
class Strip:
    """The enlarged details: output pixels along a side, the side of a square, and the columns and rows of squares."""

    cells: int
    side: int
    lefts: tuple[int, ...]
    rows: int
    heading_top: int

    @property
    def tops(self) -> tuple[int, ...]:
        """Of the rows of squares."""
        first = self.heading_top + HEADING.leading + 10
        return tuple(first + row * (self.side + LABELS + GAP) for row in range(self.rows))

    @property
    def bottom(self) -> int:
        """Below the labels of the squares."""
        return self.tops[-1] + self.side + LABELS

    def corner(self, index: int) -> tuple[int, int]:
        """Top left corner of a square."""
        return self.lefts[index % len(self.lefts)], self.tops[index // len(self.lefts)]


def plan_grid(out_height: int, out_width: int, results: int) -> Grid:
    """Choose the panel's size, near `PANEL_AREA` and a whole multiple of the result where that is possible."""
    zoom = min(sqrt(PANEL_AREA / (out_height * out_width)), PANEL_LIMIT / max(out_height, out_width))
    if zoom > 0.9:
        zoom = max(1, int(zoom + 0.1))
    panel = (max(1, round(out_width * zoom)), max(1, round(out_height * zoom)))
    top = MARGIN + TITLE.leading + SUBTITLE.leading + 26
    return Grid(
        panel=panel,
        column=max(panel[0], MIN_COLUMN),
        picture_column=max(2 * panel[0], 2 * MIN_COLUMN),
        tops=tuple(top + row * (panel[1] + CAPTION + GAP) for row in range(ceil(results / COLUMNS))),
    )


def plan_strip(grid: Grid, out_height: int, out_width: int, factor: int, squares: int) -> Strip:
    """Choose how much is enlarged, and how far: by a multiple of the factor, so that the picture's pixels stay square.

    Where the factor is larger than a cell, the picture's part of the strip is shrunk instead.
    """
    rows = ceil(squares / STRIP_COLUMNS)
    columns = ceil(squares / rows)
    room = (grid.width - 2 * MARGIN - (columns - 1) * SQUARE_GAP) // columns
    unit = factor if factor <= CELL else 1
    cells = min(room // (unit * round(CELL / unit)), out_height, out_width)
    side = cells * max(unit, room // cells // unit * unit)
    step = (grid.width - 2 * MARGIN - side) / (columns - 1)
    return Strip(
        cells=cells,
        side=side,
        lefts=tuple(MARGIN + round(i * step) for i in range(columns)),
        rows=rows,
        heading_top=grid.bottom + 36,
    )
