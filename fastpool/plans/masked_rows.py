"""Plan of a direct convolution with lanes on pixels that reads x in place, padded or at a stride: for few channels.

Packing writes each pixel once, which few output channels of a group do not pay for; lanes on channels would be idle
beside fewer than a vector of them.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastpool.arrays import address
from fastpool.plans.ahead import is_far
from fastpool.plans.direct import ANYWHERE
from fastpool.plans.edges import NO_EDGES, omitted_share, row_taps
from fastpool.plans.in_place import fields_in_place, shares_in_place
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.routines.direct import MASKED_ROWS, MASKED_SHAPES, direct, masked
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import TileShape

#: Cycles beside the multiply-adds of a row of taps: loads, at stride 2 shuffles, and the loop; and of the begin of a
#: tile, which makes its masks.
_ROW_CYCLES, _BEGIN_CYCLES = {1: 3.0, 2: 8.0}, 30.0


def suits_masked_rows(problem: Convolution) -> bool:
    """Whether there are such tiles: rows of floats without gaps, and a padding that adds nothing."""
    depth, _, width = problem.axes
    return (
        bool(MASKED_SHAPES)
        and not problem.element.is_integer
        and not problem.widened_from
        and (problem.omits_padding or not problem.is_padded)
        and problem.x_strides[4] == 1
        and depth.kernel == depth.out == 1
        and not depth.is_padded
        and (width.kernel, width.stride) in MASKED_ROWS
        and width.dilation == 1
    )


def _cycles(problem: Convolution, tile: TileShape) -> float:
    """Estimated cycles of one core."""
    lanes, width = lanes_for(problem.element), problem.axes[2]
    rows_of_taps = problem.channels // problem.groups * problem.axes[1].kernel
    row = width.kernel * tile.step_cycles + tile.vectors * _ROW_CYCLES[width.stride]
    each = rows_of_taps * row + tile.store_cycles(lanes) + _BEGIN_CYCLES
    blocks = problem.groups * ceil_div(problem.out_channels // problem.groups, tile.width)
    return problem.images * blocks * problem.axes[1].out * ceil_div(width.out, tile.pixels(lanes)) * each


def _input_rate(problem: Convolution, tile: TileShape) -> float:
    """Bytes a cycle of the input that delay the multiplications, as of other direct convolutions.

    Tiles of one vector leave their loads time: 3x3 at stride 2 from 160 to 24 channels of four times 32x32 takes 3.1 M
    cycles, of which 2.9 M are the multiplications. Less so where sums are short: from 3 to 24 channels of 224x224 it
    takes 10 % less by masks, to 16 channels 9 % more.
    """
    if tile.vectors > 1:
        return 3.0
    return 6.0 if problem.channels // problem.groups < lanes_for(problem.element) else inf


def plan_masked_rows(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the convolution, and the tile whose packed weights it reads."""
    _, height, width = problem.axes
    tile = min((TileShape("pixels", *shape) for shape in MASKED_SHAPES), key=lambda tile: _cycles(problem, tile))
    row = problem.x_strides[3]
    offsets = table(
        [(i * height.dilation - height.pad_begin) * row for i in range(height.kernel) for _ in range(width.kernel)]
    )
    taps = table(row_taps(problem, height.out))
    tables: list[Any] = [offsets, taps]
    tiles = ceil_div(width.out, tile.pixels(lanes_for(problem.element)))
    shares = shares_in_place(problem, tile, 1, tiles)
    fields = fields_in_place(problem, tile, masked(width.kernel, width.stride, is_far(problem)), shares) | {
        "apart": 0,  # masks say where the columns of a tile begin
        "taps": problem.taps,
        "run_used": width.kernel,
        "dilation": 1,
        "offsets": address(offsets),
        "steps": 0,
        "row_taps": address(taps),
        "x_ahead": height.stride * row,
        "width": width.size,
        "pad_left": width.pad_begin,
        "last_start": ANYWHERE,
        "first_weight": 0,
    }
    omitted = omitted_share(problem, height.out, NO_EDGES, width.out)
    input_bytes = problem.images * problem.channels * height.size * width.size * problem.element.size
    cycles = _cycles(problem, tile) * (1 - omitted) + input_bytes / _input_rate(problem, tile)
    return Plan(
        (Step(Code(direct, problem.element), fields),), 0, 0, problem.element, cycles, tuple(tables), omitted
    ), tile
