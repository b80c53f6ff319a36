"""Plan of extrema of small windows in maps with several rows to a vector: orders of lanes, masks and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.shares import USUAL_BYTES, shares
from fastpool.plans.windows import Pooling, windows_of
from fastpool.routines.flatpool import doublings, flat_pool, groups_of_vectors, variant_of_flat
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.smallpool import SMALL_WINDOWS, rows_seen


def _rows_of(problem: Pooling, height: Axis, width: Axis) -> int:
    """Output rows of a vector."""
    lanes = lanes_for(problem.element)
    inputs = (lanes // width.size - 1) // height.stride + 1 if width.size <= lanes else 0
    return min(inputs, lanes // width.out, height.out)


def _least_rows(problem: Pooling, width: Axis) -> int:
    """Output rows of a vector from which it pays: rows that fit half a vector, two of which take as long, are faster.

    uint8, 3x3, on two threads: 192 channels of 28x28 take 7.9 us with two rows to a vector and 7.2 with one to half a
    vector; 256 of 32x32 take 11 and, with one to a vector, 14.
    """
    columns = (width.out - 1) * width.stride + width.kernel
    return 3 if 2 * columns <= lanes_for(problem.element) else 2


def _columns_before(width: Axis) -> int | None:
    """Columns before its own that a doubled window sees; None where two of them are not a window of every output.

    A column that such a window is taken at may be outside the row, and the nearest one within be taken instead. Then
    the window must not see what its output does not: neither beyond the end of the first nor before that of the last.
    """
    doubled, start = 1 << doublings(width.kernel), (width.out - 1) * width.stride - width.pad_begin
    beyond = max(0, start + width.kernel - width.size)
    least, most = max(0, doubled - width.kernel + width.pad_begin), min(doubled - 1, width.kernel - 1 - beyond)
    if least > most:
        return None
    return min(max(width.pad_begin, least), most)  # as the padding, the first of the two windows is in place


def is_flat(problem: Pooling) -> bool:
    """Whether `flat_pool` computes it: extrema of integers, small windows, several rows that touch to a vector."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        problem.element.size in TARGET.reordered
        and problem.element.dtype.kind in "biu"
        and problem.operation in ("max", "min", "all")
        and problem.finish == "plain"
        and problem.source.numba_name == problem.element.numba_name
        and depth.size == 1
        and windows_of(depth).count == [1]
        and (height.kernel, width.kernel) in SMALL_WINDOWS
        and height.dilation == width.dilation == 1
        and problem.x_strides[3:] == (width.size, 1)
        and _rows_of(problem, height, width) >= _least_rows(problem, width)
        and _columns_before(width) is not None
        # Its table has an entry for each padded row, which huge strides and padding make many.
        and (height.out - 1) * height.stride + height.extent <= 8 * (height.size + height.out + 1024)
    )


@dataclass(frozen=True)
class _Orders:
    """Orders of lanes, see `kernels.flatpool`."""

    rows: list[list[int]]
    in_place: bool


def _orders_of(height: Axis, width: Axis, rows: int, lanes: int) -> _Orders:
    """Orders of the doublings, and of the windows that are an output; columns outside the row are nearest ones."""
    before, steps = _columns_before(width), doublings(width.kernel)
    assert before is not None
    inputs = (rows - 1) * height.stride + 1

    def order(places: list[tuple[int, int]]) -> list[int]:
        found = [row * width.size + min(max(column, 0), width.size - 1) for row, column in places]
        return found + [0] * (lanes - len(found))

    everything = [(row, column) for row in range(inputs) for column in range(width.size)]
    outputs = [
        (row * height.stride, column * width.stride - width.pad_begin)
        for row in range(rows)
        for column in range(width.out)
    ]
    # What a window sees before its own column is a sum of doublings to the left.
    moves = [-(1 << level) if before >> level & 1 else 1 << level for level in range(steps)]
    doubled = [order([(row, column + by) for row, column in everything]) for by in moves]
    last = {before, before + width.kernel - (1 << steps)}  # of a single column there is but one
    ends = [order([(row, column + by) for row, column in outputs]) for by in sorted(last)]
    in_place = ends[0] == order(everything)
    return _Orders(doubled + (ends[1:] if in_place else ends), in_place)


def _group_of(height: Axis, rows: int, vectors: int) -> int:
    """Vectors of outputs to be done together, where a task has so many."""
    step = min(rows * height.stride, height.kernel)

    def cycles(group: int) -> int:
        return -(-vectors // group) * (10 + 2 * rows_seen(height.kernel, group, step) + 5 * group)

    fitting = [group for group in groups_of_vectors(height.kernel, step) if group <= vectors]
    return min(fitting or [1], key=cycles)


def plan_flat(problem: Pooling) -> Plan:
    """Plan of a pooling that `is_flat`."""
    element, lanes = problem.element, lanes_for(problem.element)
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    vectors = -(-height.out // _rows_of(problem, height, width))
    rows = -(-height.out // vectors)
    vectors = -(-height.out // rows)
    planes = problem.images * problem.channels
    work = -(-height.size * width.size * element.size // USUAL_BYTES)
    planes_per_task, vectors_per_task = shares(planes, vectors, work)
    vector_tasks = -(-vectors // vectors_per_task)
    group = _group_of(height, rows, vectors // vector_tasks)
    step = min(rows * height.stride, height.kernel) if group > 1 else 1  # a vector alone has no next: one code for all
    orders = _orders_of(height, width, rows, lanes)
    code = Code(
        flat_pool,
        element,
        (variant_of_flat(problem.variant, group, step, orders.in_place), height.kernel, width.kernel),
    )

    inputs = (rows - 1) * height.stride + 1
    padded = range((vectors * rows - 1) * height.stride + height.kernel)
    starts = [row - height.pad_begin for row in padded]
    inside = [(min(max(-start, 0), inputs), min(max(height.size - start, 0), inputs)) for start in starts]
    row_masks = [(1 << (end * width.size)) - (1 << (first * width.size)) if end > first else 0 for first, end in inside]
    stored = [min(rows, height.out - vector * rows) * width.out for vector in range(vectors)]
    tables: tuple[Any, ...] = (
        _words(row_masks),
        np.array(orders.rows, f"u{element.size}").reshape(-1),
        _words([(1 << count) - 1 for count in stored]),
    )
    names = ("row_masks", "orders", "store_masks")
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * vector_tasks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "channels": problem.channels,
        "x_row": width.size,
        "first": -height.pad_begin * width.size,
        **dict(zip(names, map(address, tables), strict=True)),
        "vector_rows": rows * height.stride,
        "vectors": vectors,
        "out_vector": rows * width.out,
        "out_plane": height.out * width.out,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "vector_tasks": vector_tasks,
    }
    cycles = planes * vectors * (4 + 2 * height.kernel + 2 * len(orders.rows))
    return Plan((Step(code, fields),), 0, 0, element, cycles, tables)


def _words(masks: list[int]) -> np.ndarray:
    """Table of masks of up to 64 lanes."""
    return np.array(masks, np.uint64).view(np.int64)
