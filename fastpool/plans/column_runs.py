"""Plan of a direct convolution that sums for each run of columns the taps which find pixels there.

Dilated taps lie far out: of 3x3 dilated by 18 over 33 columns, the outer ones find pixels for 15 of them. Such a run of
columns reads x in place, without padding, and is a step of its own. Rows of taps that meet padding are left out, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.direct import ends_of, parts_of_channels
from fastpool.plans.edges import NO_EDGES, omitted_share, row_taps
from fastpool.plans.in_place import fields_in_place, shares_in_place
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.private import Part
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.tasks import Grid
from fastpool.plans.tile_choice import direct_cycles
from fastpool.routines.direct import direct
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import IS_ZEN_5, LEVEL_2_BYTES, TILE_SHAPES, TileShape

#: Cycles that a step more takes, for which workers wait for the last of them; and how much longer all takes than
#: estimated, as rows are read in pieces: 3x3 over 256 channels of 33x33 dilated by 18 1.15 times, over 512 channels of
#: 65x65 by 36 1.3, by 24 1.3; in 9 and 17 parts of 1024 and 2048 channels of 33x33 by 12 1.8. Not on Zen 5: in 5 to 18
#: parts of 512 to 2048 channels as much as in one, beside what Winograd takes.
_STEP_CYCLES, _LONGER, _LONGER_BY_PART, _LONGEST = 6000.0, 1.25, 0.0 if IS_ZEN_5 else 0.06, 1.75

#: Bytes of pixels and weights of a block from which on channels are done in parts, and those of a part: 3x3 from 2048
#: to 256 channels of 33x33 dilated by 12 takes 56 ms so instead of 145, dilated by 24 30 instead of 79, over 1024
#: channels by 12 28 instead of 42; from 320 channels, 1.8 MB, as long.
_LARGE_BYTES, _PART_BYTES = 2 * LEVEL_2_BYTES, LEVEL_2_BYTES * 5 // 8

#: Whether it pays: not with 16 registers, whose tiles are too narrow to wait for a cache line in each channel. Two of
#: these layers took 1.06 and 1.3 times as long as packed, 16 times 64 to 64 channels of 7x7 dilated by 4 2.2 times.
PAYS = TARGET.registers == 32


#: Channels to the one whose pixels are fetched beside a run of a single tile, which sees a line or two of a row in each
#: channel: over 320 to 2048 channels of 33x33 dilated by 12 3x3 takes 8 to 18 % less time so. In longer runs a tile
#: brings lines of the next one: it made no difference there, or takes up to 9 % longer.
_CHANNELS_AHEAD = 4


@dataclass(frozen=True)
class Run:
    """Columns of outputs, from `first` up to `end`, that see the same columns of taps."""

    first: int
    end: int
    taps: range

    @property
    def columns(self) -> int:
        """How many they are."""
        return self.end - self.first

    def problem(self, problem: Convolution) -> Convolution:
        """The convolution with these taps alone, in these columns: without padding there."""
        depth, height, width = problem.axes
        taps, columns = len(self.taps), self.columns
        reach = (taps - 1) * width.dilation
        return replace(problem, axes=(depth, height, Axis(columns + reach, taps, 1, width.dilation, 0, 0, columns)))


def runs(width: Axis) -> list[Run]:
    """Runs of columns, from the left to the right."""
    shifts = [tap * width.dilation - width.pad_begin for tap in range(width.kernel)]
    # Where a tap begins to find pixels, and where it ends to.
    bounds = {0, width.out} | {-(shift // width.stride) for shift in shifts}
    bounds |= {-((shift - width.size) // width.stride) for shift in shifts}
    found: list[Run] = []
    for first, end in pairwise(sorted(bound for bound in bounds if 0 <= bound <= width.out)):
        taps = width.taps(first)
        if found and found[-1].taps == taps:
            found[-1] = Run(found[-1].first, end, taps)
        else:
            found.append(Run(first, end, taps))
    return found


def suits_runs(problem: Convolution) -> bool:
    """Whether it can be done, and may pay: rows of floats without gaps, dilated, a padding of zeros, finite weights."""
    depth, height, width = problem.axes
    return (
        PAYS
        and not problem.element.is_integer
        and not problem.widened_from
        and problem.omits_padding
        and problem.x_strides[4] == 1
        and depth.kernel == depth.out == 1
        and not depth.is_padded
        and height.kernel > 1
        and width.dilation > 1
        and width.stride == 1
        and width.is_padded
    )


def _tile(problem: Convolution, run: Run, vectors: int) -> TileShape | None:
    """Tile with the fewest cycles of those that read no pixel beyond a row."""
    width = problem.axes[2]
    last = run.first + run.taps[-1] * width.dilation - width.pad_begin
    tiles = [
        tile
        for tile in TILE_SHAPES[TARGET.registers]
        if tile.role == "channels"
        and tile.vectors == vectors
        and (tile.width <= run.columns or last + tile.width <= width.size)
    ]
    of_run, grid = run.problem(problem), Grid(1, problem.axes[1].out, run.columns)
    return min(tiles, key=lambda tile: direct_cycles(of_run, tile, grid), default=None)


def _parts(problem: Convolution, tile: TileShape) -> tuple[Part, ...]:
    """Parts of the channels whose pixels and weights of a block stay in the level-2 cache together."""
    block = problem.taps * tile.block(lanes_for(problem.element))
    channel_bytes = (prod(axis.size for axis in problem.axes) + block) * problem.element.size
    needed = problem.channels // problem.groups * channel_bytes
    return parts_of_channels(problem, 1 if needed <= _LARGE_BYTES else ceil_div(needed, _PART_BYTES))


def plan_runs(problem: Convolution) -> tuple[Plan, TileShape] | None:
    """Plan of the convolution, and the tile whose packed weights it reads; None where a run is too short, or blind."""
    element, lanes = problem.element, lanes_for(problem.element)
    _, height, width = problem.axes
    vectors = 1 if problem.out_channels // problem.groups <= lanes and TARGET.registers == 32 else 2
    wanted = runs(width)
    found = [(run, tile) for run in wanted if run.taps and (tile := _tile(problem, run, vectors))]
    if not found or len(found) < len(wanted):
        return None

    block, parts = found[0][1].block(lanes), _parts(problem, found[0][1])
    longer = min(_LONGEST, _LONGER + _LONGER_BY_PART * (len(parts) - 1))
    shares = shares_in_place(problem, found[0][1], height.kernel)
    tables: list[Any] = []
    steps, cycles, of_all, multiplied = [], 0.0, 0, 0.0
    for run, tile in found:
        of_run, used = run.problem(problem), len(run.taps)
        columns = np.asarray(run.taps) * width.dilation - width.pad_begin + run.first
        rows = (np.arange(height.kernel) * height.dilation - height.pad_begin) * problem.x_strides[3]
        to_next = np.tile([block] * (used - 1) + [(width.kernel - used + 1) * block], height.kernel)
        of_step = [table(rows[:, None] + columns), table(to_next), table(row_taps(of_run, height.out))]
        tables.extend(of_step)
        offsets, to_next_tap, taps = map(address, of_step)
        grid = Grid(1, height.out, run.columns)
        fields = fields_in_place(problem, tile, tile.role, replace(shares, grid=grid)) | {
            "taps": used * height.kernel,
            "run_used": used,
            "dilation": width.dilation,
            "offsets": offsets,
            "steps": to_next_tap,
            "row_taps": taps,
            "last_start": max(0, run.columns - tile.width),
            "out_row": width.out,
            "x_ahead": _CHANNELS_AHEAD * problem.x_strides[1] if run.columns <= tile.width else 0,
            "first_column": run.first,
        }
        for part, ends in zip(parts, ends_of(problem, len(parts), tables), strict=True):
            of_part = {
                "channels": part.problem.channels // problem.groups,
                "first_channel": part.channel,
                "first_weight": (part.weight + run.taps[0]) * block,
            }
            steps.append(Step(Code(direct, element), fields | of_part | ends))
        share = 1 - omitted_share(of_run, height.out, NO_EDGES, run.columns)
        cycles += longer * direct_cycles(of_run, tile, grid) * share + len(parts) * _STEP_CYCLES
        pixels = ceil_div(run.columns, tile.width) * tile.width
        of_all, multiplied = of_all + pixels * width.kernel, multiplied + pixels * used * share
    widest = max(found, key=lambda pair: pair[0].columns)
    steps.sort(key=lambda step: step.fields["first_channel"])  # pixels of a part stay for all runs
    return Plan(tuple(steps), 0, 0, element, cycles, tuple(tables), 1 - multiplied / of_all), widest[1]
