"""Plan of a depthwise convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis, padding_source
from fastpool.machine.processor import TARGET
from fastpool.plans.ahead import NO_PLANES, is_output_far, planes_ahead
from fastpool.plans.edges import NO_EDGES, omitted_share
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.shares import shares
from fastpool.routines.depthwise import (
    DILATED_FILTERS,
    HALVES_PAY,
    NO_ROW,
    TWO_PAY,
    ZERO_ROW,
    depthwise,
    has_filter,
    in_registers,
    is_one_strip,
    skips_padding,
)
from fastpool.routines.routine import lanes as lanes_for

#: Bytes of the input rows of a strip: the next strip finds them in the level-1 cache.
_STRIP_BYTES = 16 * 1024
_MASKS_ARE_CHEAP = TARGET.name == "avx512"
#: Cycles of a multiply-add of vectors and of a column tap at stride 2; then, with filters in registers and others, what
#: else an output row of a vector takes, and the begin of a strip.
_SUM = 1.04 if TARGET.multiplies == 1 else 0.625
_PAIR = 4.4 if _MASKS_ARE_CHEAP else 3.1
_ROW_AND_STRIP = (
    {True: (4.0, 10.0), False: (5.5, 25.0)} if _MASKS_ARE_CHEAP else {True: (4.0, 45.0), False: (6.5, 75.0)}
)


#: Share of the time of two vectors, one after the other, that both take at once: measured on Zen 5, 7x7 over 28x28,
#: 56x56 and 128x128 0.74 to 0.78, 5x5 0.77 to 0.82, 4x7 0.85. 3x3, whose filter is in registers, would take 1.07 to
#: 1.3.
_OF_TWO = 0.8


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
        and height.stride == width.stride
        and has_filter(height.kernel, width.kernel, height.stride)
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
    padded = (i - height.pad_begin for phase in range(phases) for i in range(phase, phase + rows * dilation, dilation))
    offsets = [_row_offset(problem, row) for row in padded]
    zeros = np.zeros(width.size, element.dtype)
    tables: list[Any] = [table(offsets), zeros]
    is_short = is_one_strip(_variant(problem)) and row_tasks == 1  # longer rows are fetched as strips go down
    fields: dict[str, Any] = {
        "tasks": ceil_div(planes, planes_per_task) * row_tasks,
        "channels": problem.out_channels,
        "multiplier": problem.out_channels // problem.channels,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "width": width.size,
        **(planes_ahead(problem, element.size) if is_short else NO_PLANES),
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
    code = Code(depthwise, element, (_variant(problem), height.kernel, width.kernel))
    return Plan((Step(code, fields),), 0, 0, element, depthwise_cycles(problem), tuple(tables), _omitted(problem))


def _row_offset(problem: Convolution, row: int) -> int:
    """Where a row of the padded input begins within a plane, or what stands for a row that is not there."""
    height = problem.axes[1]
    if row >= height.size + height.pad_end:
        return NO_ROW  # no output sees it
    source = padding_source(row, height.size, problem.padding_mode)
    if source >= 0:
        return source * problem.x_strides[3]
    return NO_ROW if problem.omits_padding else ZERO_ROW


def _variant(problem: Convolution) -> str:
    dilated, far = "dilated " * is_dilated(problem), "far " * is_output_far(problem)
    return f"{_part(problem)}{dilated}{far}stride {problem.axes[1].stride}"


def begun_rows(height: Axis) -> int:
    """Rows of taps that are added before the first output of a strip is complete, and as many beyond its last one."""
    return sum(row // height.stride + 1 for row in range(height.kernel - height.stride))


def summed_rows(problem: Convolution) -> int:
    """Rows of taps that a strip from the first row to the last adds to sums, also to some beyond the last output."""
    _, height, width = problem.axes
    kernel, stride, dilation = height.kernel, height.stride, height.dilation if height.kernel > 1 else 1
    skips = skips_padding(_variant(problem), kernel, width.kernel)
    begin, total = max(0, kernel - stride), 0
    for phase in range(min(dilation, height.out)):
        # Each output is complete with the last rows that it sees; those before came with others.
        last_rows = np.arange(begin, kernel)
        outputs = np.arange(ceil_div(height.out - phase, dilation))[:, np.newaxis]
        places = np.append(np.arange(begin), outputs * stride + last_rows)
        seen_by = np.append(np.arange(begin), np.tile(last_rows, outputs.size)) // stride + 1
        rows = phase + places * dilation - height.pad_begin
        left_out = rows >= height.size + (0 if problem.omits_padding else height.pad_end)
        if problem.omits_padding:
            left_out |= rows < 0
        total += int(seen_by[~left_out].sum() if skips else seen_by.sum())
    return total


def _omitted(problem: Convolution) -> float:
    """Share of the multiplications that are left out."""
    _, height, width = problem.axes
    if not skips_padding(_variant(problem), height.kernel, width.kernel):
        return 0.0
    return omitted_share(problem, height.out, NO_EDGES, width.out)


def _part(problem: Convolution) -> str:
    """What part of a vector takes the columns of a row, or its last ones, if not whole ones take all."""
    lanes, columns = lanes_for(problem.element), problem.axes[2].out
    # Half a vector at a time costs as much as a whole one on some processors and half as much on others.
    if 1 < lanes // 2 >= columns:
        return "narrow "
    # Masks are made once for all planes, then. On AVX-512 3x3 over 14x14 takes 0.87 of the time so, at stride 2 from
    # 28x28 0.92; on AVX2, where masks take more, 960 channels of 7x7 0.83 to 0.90, at stride 2 from 14x14 0.89.
    if columns <= lanes:
        return "single "
    if takes_two(problem):
        return "double "
    return "halved " if ends_in_half(problem) else ""


def is_dilated(problem: Convolution) -> bool:
    """Whether there are gaps between the taps."""
    _, height, width = problem.axes
    return (height.kernel > 1 and height.dilation > 1) or width.dilation > 1


def ends_in_half(problem: Convolution) -> bool:
    """Whether half a vector takes the last columns of each row."""
    lanes, columns = lanes_for(problem.element), problem.axes[2].out
    return HALVES_PAY and not is_dilated(problem) and columns > lanes and 0 < columns % lanes <= lanes // 2


def takes_two(problem: Convolution) -> bool:
    """Whether two vectors of columns are taken at once, the last two of a row as well."""
    _, height, width = problem.axes
    vectors = ceil_div(width.out, lanes_for(problem.element))
    is_able = TWO_PAY and height.stride == 1 and not is_dilated(problem)
    is_held = in_registers(height.kernel, width.kernel, height.stride)
    return is_able and not is_held and _OF_TWO * (vectors + vectors % 2) < vectors


def vectors_of_row(problem: Convolution) -> float:
    """Vectors that the columns of a row take, of which the last may be half of one."""
    whole = ceil_div(problem.axes[2].out, lanes_for(problem.element))
    if takes_two(problem):
        return whole + whole % 2
    return whole - 0.5 if ends_in_half(problem) else whole


def depthwise_cycles(problem: Convolution) -> float:
    """Estimated cycles of one core: multiply-adds, what else an output row takes, and the begin of strips.

    Measured a plane with AVX-512 (Zen 4) and without: 3x3 over 14x14 183 and 356, at stride 2 from 14x14 112 and 159;
    5x5 over 14x14 415 and 730, over 28x28 1635 and 2500, at stride 2 from 28x28 655 and 990; 7x7 over 14x14 780 and
    1190, over 28x28 3055 and 4210, at stride 2 from 28x28 1085 and 1640; 1x3 over a row of 1000 27 a vector.
    """
    _, height, width = problem.axes
    stride, vectors = height.stride, vectors_of_row(problem)
    sums = _SUM * summed_rows(problem) * width.kernel * (_OF_TWO if takes_two(problem) else 1.0)
    if HALVES_PAY and _part(problem) == "narrow ":
        sums /= 2
    row, strip = _ROW_AND_STRIP[in_registers(height.kernel, width.kernel, stride)]
    if stride == 2:
        row = _PAIR * width.kernel
    # Only the outer strips of a row have masks where these cost much.
    strips = vectors if _MASKS_ARE_CHEAP else min(vectors, 2)
    return problem.images * problem.out_channels * (vectors * (sums + height.out * row) + strips * strip)
