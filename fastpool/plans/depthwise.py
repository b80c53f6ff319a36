"""Plan of a depthwise convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import padding_source
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.shares import shares
from fastpool.routines.depthwise import DILATED_FILTERS, HALVES_PAY, LARGEST_FILTER, NO_ROW, SINGLES_PAY, depthwise
from fastpool.routines.routine import lanes as lanes_for

#: Bytes of the input rows of a strip: the next strip finds them in the level-1 cache.
_STRIP_BYTES = 16 * 1024


#: Output rows below which the masks of a strip cost more than can be neglected.
_FEW_ROWS = 4


@dataclass(frozen=True)
class PlainForm:
    """Weights as they are given: (out channel, tap)."""


def is_depthwise(problem: Convolution) -> bool:
    """Whether the depthwise kernel computes it: one input channel a group, small filters, stride 1 or 2, plain rows.

    Dilated ones are taken of some sizes.
    """
    depth, height, width = problem.axes
    dilated_too = height.stride == 1 and (height.kernel, width.kernel) in DILATED_FILTERS
    padded = problem.padding_mode != "zeros" and (width.pad_begin or width.pad_end)
    return (
        problem.channels == problem.groups
        and not problem.element.is_integer
        and depth.is_single
        and height.kernel <= LARGEST_FILTER
        and width.kernel <= LARGEST_FILTER
        and height.stride == width.stride <= 2
        and (height.dilation == width.dilation == 1 or dilated_too)
        and problem.x_strides[4] == 1
        and not padded
    )


def plan_depthwise(problem: Convolution) -> Plan:
    """Plan of the convolution; weights are read as they are given."""
    element = problem.element
    _, height, width = problem.axes
    planes = problem.images * problem.out_channels
    dilation = height.dilation if height.kernel > 1 else 1
    phase_out, phases = ceil_div(height.out, dilation), min(height.out, dilation)
    planes_per_task, rows_per_task = shares(planes, phase_out, problem.pixels * problem.taps)
    row_tasks = ceil_div(phase_out, rows_per_task)
    rows = phase_out * height.stride + height.kernel
    source_rows = [
        padding_source(i - height.pad_begin, height.size, problem.padding_mode)
        if i - height.pad_begin < height.size + height.pad_end
        else -1
        for phase in range(phases)
        for i in range(phase, phase + rows * dilation, dilation)
    ]
    offsets = [row * problem.x_strides[3] if row >= 0 else NO_ROW for row in source_rows]
    zeros = np.zeros(width.size, element.dtype)
    tables: list[Any] = [table(offsets), zeros]
    fields: dict[str, Any] = {
        "tasks": ceil_div(planes, planes_per_task) * row_tasks,
        "channels": problem.out_channels,
        "multiplier": problem.out_channels // problem.channels,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "width": width.size,
        "row_offsets": address(tables[0]),
        "phase_rows": rows,
        "row_dilation": dilation,
        "column_dilation": width.dilation,
        "zeros": address(zeros),
        "pad_left": width.pad_begin,
        "out_rows": height.out,
        "out_columns": width.out,
        "out_batch": problem.out_batch,
        "residual_batch": problem.residual_batch or 0,
        "has_residual": int(problem.residual_batch is not None),
        "planes": planes,
        "planes_per_task": planes_per_task,
        "rows_per_task": rows_per_task,
        "block_rows": max(4 * height.kernel, _STRIP_BYTES // (width.size * element.size * height.stride)),
        "row_tasks": row_tasks,
        "low": problem.low,
        "high": problem.high,
    }
    dilated = "dilated " if is_dilated(problem) else ""
    code = Code(depthwise, element, (f"{_part(problem)}{dilated}stride {height.stride}", height.kernel, width.kernel))
    return Plan((Step(code, fields),), 0, 0, element, depthwise_cycles(problem), tuple(tables))


def _part(problem: Convolution) -> str:
    """What part of a vector takes the columns of a row, or its last ones, if not whole ones take all."""
    lanes, columns = lanes_for(problem.element), problem.axes[2].out
    # Half a vector at a time costs as much as a whole one on some processors and half as much on others.
    if 1 < lanes // 2 >= columns:
        return "narrow "
    if SINGLES_PAY and columns <= lanes:
        return "single "
    return "halved " if ends_in_half(problem) else ""


def is_dilated(problem: Convolution) -> bool:
    """Whether there are gaps between the taps."""
    _, height, width = problem.axes
    return (height.kernel > 1 and height.dilation > 1) or width.dilation > 1


def ends_in_half(problem: Convolution) -> bool:
    """Whether half a vector takes the last columns of each row."""
    lanes, columns = lanes_for(problem.element), problem.axes[2].out
    return HALVES_PAY and not is_dilated(problem) and columns > lanes and 0 < columns % lanes <= lanes // 2


def vectors_of_row(problem: Convolution) -> float:
    """Vectors that the columns of a row take, of which the last may be half of one."""
    whole = ceil_div(problem.axes[2].out, lanes_for(problem.element))
    return whole - 0.5 if ends_in_half(problem) else whole


def depthwise_cycles(problem: Convolution) -> float:
    """Estimated cycles of one core: 17 and 37 a vector with 3x3 and 5x5 taps; at stride 2, 27 and 48.

    Strips of one row pay for their masks by themselves: 1x3 over 64 channels of 1000 takes 27 a vector.

    With larger filters sums that are under way at the begin of a strip take their time, too: 7x7 over 384 channels of
    14x14 takes 425,000 cycles, and over 96 of 56x56 1.27 M.
    """
    _, height, width = problem.axes
    strips = problem.images * problem.out_channels * vectors_of_row(problem)
    if problem.taps <= 25:
        masks = 16 if height.out < _FEW_ROWS else 0
        return strips * (height.out * (problem.taps * 1.25 + 7 * height.stride) + masks)
    begun = sum(row // height.stride + 1 for row in range(height.kernel - height.stride)) * width.kernel
    return strips * (height.out * (problem.taps * 1.1 + 7 * height.stride) + 1.25 * begun)
