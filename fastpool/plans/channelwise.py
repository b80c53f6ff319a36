"""Plan of a depthwise convolution with lanes on channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.machine.processor import TARGET
from fastpool.plans.ahead import planes_ahead
from fastpool.plans.edges import NO_EDGES, omitted_share, row_taps
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.routines.channelwise import channelwise, variant_at
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import RUNS, SCRATCH_LIMIT

#: Bytes of padded input that a task keeps: beside the results, about what a level-1 cache holds.
_PLANE_BYTES = 24 * 1024

#: What sums and transposes were measured to take, of a cycle for each of their instructions: on Zen 4, which does 512
#: bits in two halves, and where two whole vectors begin in a cycle.
_MEASURED = 1.15 if TARGET.multiplies == 1 else 0.63
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
    def reach(self) -> tuple[int, int]:
        """Rows and columns from the first tap to the last."""
        height, width = ((axis.kernel - 1) * axis.dilation + 1 for axis in self.problem.axes[1:])
        return height, width

    @property
    def pitch(self) -> int:
        """Columns of a padded row."""
        axis = self.problem.axes[2]
        return max(axis.pad_begin + axis.size, (axis.out - 1) * axis.stride + self.reach[1])

    def padded_rows(self, rows: int) -> int:
        """Rows of the padded input that so many output rows see."""
        return (rows - 1) * self.problem.axes[1].stride + self.reach[0]

    @property
    def rows(self) -> int:
        """Output rows of a task: all, or as many as a level-1 cache holds, and not fewer than are read twice."""
        out_rows = self.problem.axes[1].out
        size = self.pitch * self.lanes * self.problem.element.size
        stride = self.problem.axes[1].stride
        if self.padded_rows(out_rows) * size <= 2 * _PLANE_BYTES:
            return out_rows
        rows = max(_PLANE_BYTES // size // stride, 2 * self.reach[0] // stride, 1)
        return ceil_div(out_rows, ceil_div(out_rows, rows))

    @property
    def padded_elements(self) -> int:
        """Scratch of the padded rows: a vector of pixels may end in further rows, and a run beyond a row."""
        width = self.problem.axes[2]
        beyond = ceil_div(self.lanes, width.size) * self.pitch + self.lanes + self.run * width.stride
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
    """Whether the kernel computes it: one channel a group, planes without gaps, zeros for padding."""
    depth, height, width = problem.axes
    padded = any(axis.pad_begin or axis.pad_end for axis in (height, width))
    return (
        problem.channels == problem.groups == problem.out_channels
        and not problem.element.is_integer
        and depth.is_single
        and min(height.pad_begin, width.pad_begin) >= 0
        and problem.x_strides[4] == 1
        and (height.size == 1 or problem.x_strides[3] == width.size)
        and (problem.padding_mode == "zeros" or not padded)
        and Channelwise(problem).thread_elements * problem.element.size <= SCRATCH_LIMIT
    )


def channelwise_cycles(problem: Convolution) -> float:
    """Estimated cycles of one core: 3x3 to 7x7 over maps of 5x5 to 28x28, within 10 % with AVX-512 and 20 % without."""
    sizes = Channelwise(problem)
    _, height, width = problem.axes
    lanes, row_tasks = sizes.lanes, ceil_div(height.out, sizes.rows)
    # 75 cycles a transpose of 16 vectors from planes, 140 to planes, as most stores there lie across two cache lines.
    transposed = lanes * (lanes.bit_length() - 0.3)
    seen = min(sizes.padded_rows(sizes.rows), height.size) * width.size
    moved = row_tasks * (ceil_div(seen, lanes) + ceil_div(problem.taps, lanes)) + 1.9 * ceil_div(problem.pixels, lanes)
    moved *= _AT_STRIDES if width.stride > 2 else 1.0
    # A run loads a vector more than it multiplies; beside it stand borders of zeros, and what a task costs.
    summed = 1 - omitted_share(problem, height.out, NO_EDGES, width.out)
    runs = height.out * ceil_div(width.out, sizes.run)
    sums = runs * (summed * problem.taps * (sizes.run + 1) + 20) + 250 * row_tasks
    return _MEASURED * problem.images * sizes.blocks * (sums + moved * transposed)


def plan_channelwise(problem: Convolution) -> Plan:
    """Plan of the convolution; weights are read as they are given."""
    element, sizes, lanes = problem.element, Channelwise(problem), lanes_for(problem.element)
    _, height, width = problem.axes
    pitch, rows = sizes.pitch, sizes.rows
    places = (np.arange(height.size)[:, None] + height.pad_begin) * pitch + width.pad_begin + np.arange(width.size)
    places = np.append(places, places[-1, -1] + 1 + np.arange(lanes)) * lanes
    offsets = [
        (i * height.dilation * pitch + j * width.dilation) * lanes
        for i in range(height.kernel)
        for j in range(width.kernel)
    ]
    taps_of_rows = row_taps(problem, height.out)
    tables: list[Any] = [table(places), table(offsets), table(np.arange(lanes) * lanes), table(taps_of_rows)]
    row_tasks = ceil_div(height.out, rows)
    fields: dict[str, Any] = {
        "tasks": problem.images * sizes.blocks * row_tasks,
        "channels": problem.channels,
        "channel_blocks": sizes.blocks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        **planes_ahead(problem, element.size, lanes),
        "height": height.size,
        "width": width.size,
        "places": address(tables[0]),
        "in_order": address(tables[2]),
        "padded_columns": pitch,
        "pad_top": height.pad_begin,
        "pad_left": width.pad_begin,
        "stride_row": height.stride,
        "stride_column": width.stride,
        "reach_rows": sizes.reach[0],
        "taps": problem.taps,
        "offsets": address(tables[1]),
        "row_taps": address(tables[3]),
        "out_rows": height.out,
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
    omitted = omitted_share(problem, height.out, NO_EDGES, width.out)
    cycles = channelwise_cycles(problem)
    return Plan((Step(code, fields),), 0, sizes.thread_elements, element, cycles, tuple(tables), omitted)
