"""How a direct convolution is cut into tasks: rows of pixels, tiles of a row, blocks of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastpool.machine.processor import TARGET, THREADS
from fastpool.plans.ahead import is_output_far
from fastpool.plans.plan import Code
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.routines.direct import row_of_tiles
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import DIRECT_TASKS, TILE_SHAPES, TileShape, even_shares

#: Steps of a sum from which a tile's output is fetched meanwhile, unless it comes from memory: 1x1 from 128 to 64
#: channels of 112x112 takes 5 % less so, from 256 22 %, 32 to 128 of 16 times 56x56 3 %. Beside shorter sums fetching
#: takes longer than it saves: 4x4 at stride 4 from 3 to 96 channels of 224x224 takes 2 to 5 % less without, 3x3 stems
#: 3 to 4 %.
_FETCHED_STEPS = 100
#: Tiles to the one whose output is fetched where it comes from memory, as a tile takes less time than that. Of 16
#: images of 224x224, measured on a Zen 5: 3x3 at stride 2 from 3 to 32 channels takes 0.57 to 0.70 of the time so, 4x4
#: at stride 4 from 3 to 96 0.6; 1x1 from 16 to 96 of 112x112 0.66 to 0.72. One tile ahead as long as two, eight up to
#: 40 % longer.
_TILES_AHEAD = 2

#: Share of the columns that a narrower last tile has to spare: it is a routine more, which takes 0.2 s to compile.
_LEAST_SPARED = 0.03


@dataclass(frozen=True)
class Grid:
    """Output seen by the kernel: rows of columns, several of which may have been joined into one."""

    depths: int
    rows: int
    columns: int


def last_tile(problem: Convolution, tile: TileShape) -> TileShape:
    """Tile of the last block of channels."""
    group_out = problem.out_channels // problem.groups
    return tile.last(group_out, lanes_for(problem.element), problem.axes[2].kernel)


def rest_tile(problem: Convolution, tile: TileShape, columns: int) -> TileShape:
    """Tile of the last columns of a row, of a single tap: as narrow as they are, where that spares enough.

    1x1 on 7x7, 49 pixels, takes 4 to 5 % less by three tiles of 2x13 and one of 2x10 than by four of 2x13.
    """
    rest = columns - (ceil_div(columns, tile.width) - 1) * tile.width
    narrow = TileShape(tile.role, tile.vectors, rest)
    if problem.taps > 1 or TARGET.registers < 32 or narrow not in TILE_SHAPES[TARGET.registers]:
        return tile
    is_worth = tile.role == "channels" and rest < columns and tile.width - rest >= _LEAST_SPARED * columns
    return narrow if is_worth else tile


def pieces(others: int, most: int, least: int = 1) -> int:
    """Pieces of rows or tiles, beside `others` independent tasks: about as many tasks as wanted, evenly shared."""
    least = max(least, DIRECT_TASKS // others)
    # A task more costs the reading of its pixels or weights once more: 2 % are put against an uneven share.
    # Shares are even within as many pieces more as there are threads.
    return min(
        range(min(least, most), min(2 * least, least + THREADS, most) + 1),
        key=lambda pieces: even_shares(others * pieces) * (1 + 0.02 * pieces),
    )


#: Fields of some direct convolutions, which are packed, or have edges, masks, parts, joined images, or much to fetch.
_OF_SOME = (
    *("pack_channel", "packing", "pack_panels", "panels", "panel", "panel_channels", "lines"),
    *("edges", "edges_begin", "edges_end", "width", "pad_left", "adds", "no_bias", "x_ahead"),
    *("image_pixels", "image_gap", "residual_gap"),
)


@dataclass(frozen=True)
class Shares:
    """How the work is cut into tasks."""

    grid: Grid
    row_tasks: int
    tile_tasks: int
    blocks_per_task: int
    blocks_outermost: bool

    def fields(self, problem: Convolution, tile: TileShape, variant: str) -> dict[str, Any]:
        """Fields that say so, the routines of the tiles, and what holds unless pixels are packed or at an edge."""
        lanes, grid = lanes_for(problem.element), self.grid
        group_channels, group_out = problem.channels // problem.groups, problem.out_channels // problem.groups
        blocks = ceil_div(group_out, tile.block(lanes))
        block_tasks, pixels = ceil_div(blocks, self.blocks_per_task), tile.pixels(lanes)
        pixel_tasks = problem.images * problem.groups * grid.depths * self.row_tasks * self.tile_tasks
        is_far = is_output_far(problem)
        tiles, last, rest = ceil_div(grid.columns, pixels), last_tile(problem, tile), tile
        if variant in ("channels", "strided"):
            rest = rest_tile(problem, tile, grid.columns)
        return {
            "tasks": pixel_tasks * block_tasks,
            "row_of_tiles": Code(row_of_tiles, problem.element, (variant, tile.vectors, tile.width)),
            "row_of_last": Code(row_of_tiles, problem.element, (variant, last.vectors, last.width)),
            "row_of_rest": Code(row_of_tiles, problem.element, (variant, rest.vectors, rest.width)),
            "whole_tiles": tiles - int(rest is not tile),
            "whole_of_last": tiles - int(rest is not tile and last is tile),
            **dict.fromkeys(_OF_SOME, 0),
            "apart": 1,
            "x_batch": problem.x_strides[0],
            "x_channel": problem.x_strides[1],
            "images": problem.images,
            "groups": problem.groups,
            "group_inputs": group_channels,
            "group_channels": group_out,
            "block": tile.block(lanes),
            "blocks": blocks,
            "weights_block": group_channels * problem.taps * tile.block(lanes),
            "out_batch": problem.out_batch,
            "out_channel": problem.pixels,
            "residual_batch": problem.residual_batch or 0,
            "has_residual": int(problem.residual_batch is not None),
            "has_bounds": int(problem.is_bounded),
            "out_depths": grid.depths,
            "out_rows": grid.rows,
            "out_columns": grid.columns,
            "first_column": 0,
            "out_row": grid.columns,
            "row_tasks": self.row_tasks,
            "tiles": tiles,
            "pixels": pixels,
            "tile_tasks": self.tile_tasks,
            "blocks_per_task": self.blocks_per_task,
            "block_tasks": block_tasks,
            "blocks_outermost": int(self.blocks_outermost),
            "fetches_output": int(group_channels * problem.taps >= _FETCHED_STEPS or is_far),
            "out_ahead": _TILES_AHEAD * pixels if is_far else 0,
            "low": problem.low,
            "high": problem.high,
        }
