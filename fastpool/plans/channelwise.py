"""Plan of a depthwise convolution with lanes on channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastpool.arrays import address
from fastpool.machine.processor import TARGET
from fastpool.plans.ahead import planes_ahead
from fastpool.plans.edges import row_taps, taps_inside
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.routines.channelwise import channelwise, variant_at
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import LEVEL_2_BYTES, RUNS, SCRATCH_LIMIT

Integers = NDArray[np.int64]

#: Bytes of padded input that a task keeps: beside the results, about what a level-1 cache holds.
_PLANE_BYTES = 24 * 1024
#: Bytes of several depths of it, which the level-2 cache holds beside the results.
_DEPTHS_BYTES = LEVEL_2_BYTES // 2

#: What sums and transposes were measured to take, of a cycle for each of their instructions: on Zen 4, which does 512
#: bits in two halves, and where two whole vectors begin in a cycle.
_MEASURED = 1.15 if TARGET.multiplies == 1 else 0.63
#: Pixels and padded rows of which there are tables, 8 bytes each: a padding may be far larger than x.
_MOST_PLACES = 1 << 20
#: How many times as long transposes take at strides of three and more, where so few sums follow that they wait for
#: the level-2 cache: 115 to 155 cycles each (Zen 5), of 1 to 512 channels of 9x9 to 512x512, instead of 47.
_AT_STRIDES = 2.4


@dataclass(frozen=True)
class Channelwise:
    """Sizes that follow from a problem."""

    problem: Convolution

    @property
    def lanes(self) -> int:
        """Channels of a vector."""
        return lanes_for(self.problem.element)

    @property
    def blocks(self) -> int:
        """Vectors of channels."""
        return ceil_div(self.problem.channels, self.lanes)

    @property
    def run(self) -> int:
        """Outputs that are summed together: a step loads a vector for each, and the weights."""
        columns = self.problem.axes[2].out
        return min(RUNS, key=lambda run: (ceil_div(columns, run) * (run + 1), run))

    @property
    def reach(self) -> tuple[int, int, int]:
        """Depths, rows and columns from the first tap to the last."""
        depth, height, width = ((axis.kernel - 1) * axis.dilation + 1 for axis in self.problem.axes)
        return depth, height, width

    def _padded(self, axis: int) -> int:
        """Length of an axis with its padding, as far as windows see it."""
        of = self.problem.axes[axis]
        return max(of.pad_begin + of.size, (of.out - 1) * of.stride + self.reach[axis])

    @property
    def pitch(self) -> int:
        """Columns of a padded row."""
        return self._padded(2)

    @property
    def depth_pitch(self) -> int:
        """Rows from one depth of the padded input to the next."""
        return self._padded(1)

    @property
    def row_starts(self) -> Integers:
        """First padded row that each output row sees, rows being those of all depths, one depth after the other."""
        depth, height, _ = self.problem.axes
        starts = np.arange(depth.out)[:, np.newaxis] * depth.stride * self.depth_pitch
        return (starts + np.arange(height.out) * height.stride).ravel()

    @property
    def reach_rows(self) -> int:
        """Padded rows from the first that an output row sees to the last."""
        return (self.reach[0] - 1) * self.depth_pitch + self.reach[1]

    @property
    def source_rows(self) -> Integers:
        """Padded row that each row of x is."""
        depth, height, _ = self.problem.axes
        starts = (np.arange(depth.size) + depth.pad_begin)[:, np.newaxis] * self.depth_pitch
        return (starts + np.arange(height.size) + height.pad_begin).ravel()

    @property
    def all_padded_rows(self) -> int:
        """Padded rows that all outputs see."""
        depth, height, _ = self.problem.axes
        return (depth.out - 1) * depth.stride * self.depth_pitch + (height.out - 1) * height.stride + self.reach_rows

    @property
    def row_taps(self) -> Integers:
        """First and end tap of each output row; of several depths none is left out but whole ones."""
        depth, height, _ = self.problem.axes
        if depth.kernel == 1:
            return np.tile(row_taps(self.problem, height.out), (depth.out, 1))
        taps = np.tile((0, depth.kernel), (depth.out, 1))
        if self.problem.omits_padding:
            taps = taps_inside(depth)
        return np.repeat(taps, height.out, 0) * (self.problem.taps // depth.kernel)

    @property
    def omitted(self) -> float:
        """Share of the multiplications that are left out."""
        taps = self.row_taps
        return 1 - float((taps[:, 1] - taps[:, 0]).mean()) / self.problem.taps

    def padded_rows(self, rows: int) -> int:
        """Rows of the padded input that so many output rows see, at most."""
        depth, height, _ = self.problem.axes
        depths, more = (rows - 1) // height.out, (rows - 1) % height.out
        return depths * depth.stride * self.depth_pitch + more * height.stride + self.reach_rows

    @property
    def rows(self) -> int:
        """Output rows of a task: all, or as many as a cache holds, and not fewer than are read twice."""
        depth, height, _ = self.problem.axes
        size = self.pitch * self.lanes * self.problem.element.size
        if depth.kernel > 1 or depth.out > 1:
            return self._depths(size) * height.out
        if self.padded_rows(height.out) * size <= 2 * _PLANE_BYTES:
            return height.out
        rows = max(_PLANE_BYTES // size // height.stride, 2 * self.reach[1] // height.stride, 1)
        return ceil_div(height.out, ceil_div(height.out, rows))

    def _depths(self, row_bytes: int) -> int:
        """Depths of outputs of a task: each of x is read anew for every task that sees it."""
        depth, height, _ = self.problem.axes
        further = (_DEPTHS_BYTES // row_bytes - self.padded_rows(height.out)) // (depth.stride * self.depth_pitch)
        return ceil_div(depth.out, ceil_div(depth.out, 1 + max(0, further)))

    @property
    def padded_elements(self) -> int:
        """Scratch of the padded rows: a vector of pixels may end in further rows, and a run beyond a row."""
        _, height, width = self.problem.axes
        beyond = ceil_div(self.lanes, width.size) * self.pitch + self.lanes + self.run * width.stride
        beyond += ceil_div(self.lanes, height.size * width.size) * (self.depth_pitch - height.size) * self.pitch
        return apart((self.padded_rows(self.rows) * self.pitch + beyond) * self.lanes, self.problem.element.size)

    @property
    def filter_elements(self) -> int:
        """Scratch of the transposed weights."""
        return apart(ceil_div(self.problem.taps, self.lanes) * self.lanes**2, self.problem.element.size)

    @property
    def stage_elements(self) -> int:
        """Scratch of the results, before they are transposed."""
        outputs = self.rows * self.problem.axes[2].out + max(self.lanes, self.run)
        return apart(outputs * self.lanes, self.problem.element.size)

    @property
    def thread_elements(self) -> int:
        """Scratch of a thread."""
        needed = self.padded_elements + self.filter_elements + self.stage_elements
        return thread_scratch(needed, self.problem.element)


def is_channelwise(problem: Convolution) -> bool:
    """Whether the kernel computes it: one channel a group, whose pixels have no gaps, zeros for padding."""
    depth, height, width = problem.axes
    padded = any(axis.pad_begin or axis.pad_end for axis in problem.axes)
    _, _, of_depth, of_row, of_column = problem.x_strides
    has_gaps = of_column != 1 or (height.size > 1 and of_row != width.size)
    has_gaps |= depth.size > 1 and of_depth != height.size * width.size
    return (
        problem.channels == problem.groups == problem.out_channels
        and not problem.element.is_integer
        and min(axis.pad_begin for axis in problem.axes) >= 0
        and not has_gaps
        and (problem.padding_mode == "zeros" or not padded)
        and Channelwise(problem).thread_elements * problem.element.size <= SCRATCH_LIMIT
        and max(Channelwise(problem).all_padded_rows, depth.size * height.size * width.size) <= _MOST_PLACES
    )


def channelwise_cycles(problem: Convolution) -> float:
    """Estimated cycles of one core: 3x3 to 7x7 over maps of 5x5 to 28x28, within 10 % with AVX-512 and 20 % without."""
    sizes = Channelwise(problem)
    width = problem.axes[2]
    lanes, all_rows = sizes.lanes, len(sizes.row_starts)
    row_tasks = ceil_div(all_rows, sizes.rows)
    # 75 cycles a transpose of 16 vectors from planes, 140 to planes, as most stores there lie across two cache lines.
    transposed = lanes * (lanes.bit_length() - 0.3)
    seen = min(sizes.padded_rows(sizes.rows), len(sizes.source_rows)) * width.size
    moved = row_tasks * (ceil_div(seen, lanes) + ceil_div(problem.taps, lanes)) + 1.9 * ceil_div(problem.pixels, lanes)
    moved *= _AT_STRIDES if width.stride > 2 else 1.0
    # A run loads a vector more than it multiplies; beside it stand borders of zeros, and what a task costs.
    runs = all_rows * ceil_div(width.out, sizes.run)
    sums = runs * ((1 - sizes.omitted) * problem.taps * (sizes.run + 1) + 20) + 250 * row_tasks
    return _MEASURED * problem.images * sizes.blocks * (sums + moved * transposed)


def plan_channelwise(problem: Convolution) -> Plan:
    """Plan of the convolution; weights are read as they are given."""
    element, sizes, lanes = problem.element, Channelwise(problem), lanes_for(problem.element)
    depth, height, width = problem.axes
    pitch, rows, starts, source_rows = sizes.pitch, sizes.rows, sizes.row_starts, sizes.source_rows
    places = source_rows[:, np.newaxis] * pitch + width.pad_begin + np.arange(width.size)
    places = np.append(places, places[-1, -1] + 1 + np.arange(lanes)) * lanes
    offsets = [
        ((d * depth.dilation * sizes.depth_pitch + i * height.dilation) * pitch + j * width.dilation) * lanes
        for d in range(depth.kernel)
        for i in range(height.kernel)
        for j in range(width.kernel)
    ]
    rows_before = np.searchsorted(source_rows, np.arange(sizes.all_padded_rows + 1))
    tables: list[Any] = [
        table(places),
        table(offsets),
        table(np.arange(lanes) * lanes),
        table(sizes.row_taps),
        table(starts),
        table(rows_before),
    ]
    row_tasks = ceil_div(len(starts), rows)
    fields: dict[str, Any] = {
        "tasks": problem.images * sizes.blocks * row_tasks,
        "channels": problem.channels,
        "channel_blocks": sizes.blocks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        **planes_ahead(problem, element.size, lanes),
        "rows": len(source_rows),
        "width": width.size,
        "places": address(tables[0]),
        "in_order": address(tables[2]),
        "padded_columns": pitch,
        "pad_left": width.pad_begin,
        "row_starts": address(tables[4]),
        "rows_before": address(tables[5]),
        "stride_column": width.stride,
        "reach_rows": sizes.reach_rows,
        "taps": problem.taps,
        "offsets": address(tables[1]),
        "row_taps": address(tables[3]),
        "out_rows": len(starts),
        "out_columns": width.out,
        "out_batch": problem.out_batch,
        "residual_batch": problem.residual_batch or 0,
        "has_residual": int(problem.residual_batch is not None),
        "has_bounds": int(problem.is_bounded),
        "row_tasks": row_tasks,
        "rows_per_task": rows,
        "scratch_thread": sizes.thread_elements,
        "filters_offset": sizes.padded_elements,
        "stage_offset": sizes.padded_elements + sizes.filter_elements,
        "low": problem.low,
        "high": problem.high,
    }
    code = Code(channelwise, element, (variant_at(width.stride), 1, sizes.run))
    cycles = channelwise_cycles(problem)
    return Plan((Step(code, fields),), 0, sizes.thread_elements, element, cycles, tuple(tables), sizes.omitted)
