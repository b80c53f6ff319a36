"""Which convolutions read their pixels from panels: tiles of all channels, packed one behind the other.

With 32 registers a tile is as wide as a cache line and reads x in place. With 16 it is 6 pixels wide: of 256 channels
of 56x56, each in pages of its own, it then waits for a line in each, and one thread of a Zen 3 runs at 18 % of its
peak; from panels at 75 to 80 %, packing apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastpool.arrays import address
from fastpool.machine.processor import TARGET
from fastpool.plans.plan import Code, Step
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.routines.direct import PRIVATE, SHARED
from fastpool.routines.panels import PANEL_CHANNELS, PANELS, TOGETHER, pack_panels, panel_input
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import PRIVATE_BYTES, SHARED_LIMIT, TILE_SHAPES, TileShape

#: Tiles of such a task at least, whatever they take: each of them reads all weights.
_LEAST_TILES = 8


@dataclass(frozen=True)
class Panels:
    """How pixels are packed in panels."""

    problem: Convolution
    width: int  #: pixels of a tile
    source: int  #: SHARED, or PRIVATE to a task
    most_tiles: int  #: that are packed at a time

    @property
    def elements(self) -> int:
        """Elements of a panel."""
        return self.problem.channels // self.problem.groups * self.width

    @property
    def tiles(self) -> int:
        """Panels of an image."""
        return ceil_div(self.problem.pixels, self.width)

    @property
    def line(self) -> int:
        """Elements of a line of gathered pixels, which are read a vector beyond the last; 0 where there is no need."""
        _, height, width = self.problem.axes
        _, _, _, row, column = self.problem.x_strides
        if column * width.stride == 1 and (height.out == 1 or row * height.stride == width.out):
            return 0
        return apart(self.most_tiles * self.width + lanes_for(self.problem.element), self.problem.element.size)

    def scratch(self, tiles: int) -> tuple[int, int, int]:
        """Elements that all threads share, elements of each, whose tasks have `tiles`, and those before the lines."""
        size = self.problem.element.size
        if self.source == SHARED:
            shared = apart(self.problem.images * self.tiles * self.elements, size)
            return shared, TOGETHER * self.line, shared
        panels = apart(tiles * self.elements, size)
        return 0, panels + TOGETHER * self.line, panels

    def fields(self, tile: TileShape, tiles: int, tables: list[Any]) -> dict[str, Any]:
        """Fields of a direct convolution whose tasks have `tiles` each; `tables` keep the block alive."""
        _, height, width = self.problem.axes
        _, channel, _, row, column = self.problem.x_strides
        block = PANELS.block(
            x_channel=channel,
            x_row=row * height.stride,
            x_pixel=column * width.stride,
            row_pixels=width.out,
            pixels=self.problem.pixels,
            panel=self.elements,
            line=self.line,
        )
        tables.append(block)
        return {
            "pack_panels": Code(pack_panels, self.problem.element, (tile.role, tile.vectors, tile.width)),
            "panels": address(block),
            "panel": self.elements,
            "lines": self.scratch(tiles)[2],
        }

    def step(self, fields: dict[str, Any]) -> Step:
        """Step that packs all of them, with what fields of the convolution say."""
        channel_tasks = ceil_div(self.problem.channels, PANEL_CHANNELS)
        own = {
            "channels": self.problem.channels,
            "channel_tasks": channel_tasks,
            "tiles": self.tiles,
            "width": self.width,
            "packed_batch": self.tiles * self.elements,
            "scratch_thread": self.scratch(0)[1],
            "tasks": self.problem.images * channel_tasks,
        }
        common = {name: fields[name] for name in ("pack_panels", "panels", "x_batch", "x_channel", "lines")}
        return Step(Code(panel_input, self.problem.element), common | own)


#: Fields of a direct convolution without panels.
NO_PANELS = {"pack_panels": 0, "panels": 0, "panel": 0, "lines": 0}


def suits_panels(problem: Convolution) -> bool:
    """Whether pixels are packed in panels: of filters of one tap."""
    depth, height, _ = problem.axes
    widest = max(tile.pixels(lanes_for(problem.element)) for tile in TILE_SHAPES[TARGET.registers])
    room = _LEAST_TILES * problem.channels // problem.groups * widest * problem.element.size <= SHARED_LIMIT // 2
    is_flat = depth.out == 1 or problem.x_strides[2] * depth.stride == problem.x_strides[3] * height.stride * height.out
    return (
        TARGET.registers == 16
        and problem.taps == 1
        and room
        and is_flat
        and not problem.is_padded
        and not problem.widened_from
        and not problem.element.is_integer
    )


def panels_of(problem: Convolution, tile: TileShape, blocks_outermost: bool) -> Panels:
    """Panels of a convolution, shared where each task keeps a block of weights and there is room."""
    size, width = problem.element.size, tile.pixels(lanes_for(problem.element))
    tiles, tile_bytes = ceil_div(problem.pixels, width), problem.channels // problem.groups * width * size
    if blocks_outermost and problem.groups == 1 and problem.images * tiles * tile_bytes <= SHARED_LIMIT // 2:
        return Panels(problem, width, SHARED, tiles)
    return Panels(problem, width, PRIVATE, min(tiles, max(_LEAST_TILES, PRIVATE_BYTES // tile_bytes)))
