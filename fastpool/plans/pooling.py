"""Plans of pooling: which kernel, and how planes and rows are shared out."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from fastpool.geometry import Axis
from fastpool.plans.ahead import AHEAD_BYTES, FAR_BYTES, NO_PLANES, planes_ahead
from fastpool.plans.flatpool import is_flat, plan_flat
from fastpool.plans.largepool import is_large, plan_large
from fastpool.plans.plan import Code, Plan, Step, thread_scratch
from fastpool.plans.shares import TASK_WORK, USUAL_BYTES
from fastpool.plans.shortpool import is_short, plan_short
from fastpool.plans.smallpool import is_small, plan_small
from fastpool.plans.windows import Pooling, divisors, finishing, window_fields, windows_of
from fastpool.routines.argpool import argpool
from fastpool.routines.pool import pool
from fastpool.routines.reduce import planes_together, reduce_planes
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import TASKS


@lru_cache(maxsize=1024)
def plan_pooling(problem: Pooling) -> Plan:
    """Plan of a pooling."""
    if is_flat(problem):
        return plan_flat(problem)
    if is_short(problem):
        return plan_short(problem)
    if is_small(problem):
        return plan_small(problem)
    large = plan_large(problem) if is_large(problem) else None
    if large is not None:
        return large
    element, lanes = problem.element, lanes_for(problem.element)
    depth, height, width = problem.axes
    d, h, w = (windows_of(axis) for axis in problem.axes)
    planes, rows = problem.images * problem.channels, depth.out * height.out
    elements = depth.size * height.size * width.size
    tables: list[Any] = []
    fields = window_fields(problem.axes, problem.x_strides, problem.images, problem.channels, elements, tables)
    if problem.indices:
        step = Step(Code(argpool, element, (problem.variant, 1, 1)), fields | {"height": height.size})
        work = planes * prod(axis.out for axis in problem.axes) * max(d.count) * max(h.count) * max(w.count)
        return Plan((step,), 0, 0, element, 3.0 * work, tuple(tables))

    # Else windows come from the tables, which leave out the padding, however much there is.
    regular, pad_left, reach = False, 0, width.size
    if isinstance(width, Axis) and width.stride <= 2:
        # Whole vectors are loaded: two of them at stride 2, from the last, partly used group of outputs.
        groups = -(-width.out // lanes) * lanes
        padded = max(width.pad_begin + width.size, groups * width.stride + width.extent + 2 * lanes)
        if padded <= 8 * (width.size + width.out + 1024):
            regular, pad_left, reach = True, width.pad_begin, padded
    buffer = -(-reach // lanes) * lanes
    scratch = buffer + (width.size if problem.x_strides[4] != 1 else 0) + lanes

    fields |= {
        "regular": int(regular),
        "kernel": width.kernel if isinstance(width, Axis) else 0,
        "stride": width.stride if isinstance(width, Axis) else 0,
        "pad_left": pad_left,
        "buffer": buffer,
        "scratch_thread": thread_scratch(scratch, element),
        **finishing(problem, tables),
    }
    cycles = planes * rows * (max(h.count) * max(d.count) + max(w.count)) * width.size / lanes
    step = Step(Code(pool, element, (problem.variant, 1, 1)), fields)
    return Plan((step,), 0, fields["scratch_thread"], element, 2 * cycles, tuple(tables))


def is_global(problem: Pooling) -> bool:
    """Whether one window sees all of each plane, and what it combines is used as it is or divided."""
    seen = all(axis.out == 1 and windows_of(axis).count[0] == axis.size for axis in problem.axes)
    return seen and not problem.indices and problem.finish not in ("scale", "root") and problem.operation in _REDUCED


_REDUCED = ("max", "min", "all", "sum")


@lru_cache(maxsize=1024)
def plan_global(problem: Pooling) -> Plan:
    """Plan of a global pooling: a plane becomes one element."""
    element, lanes = problem.element, lanes_for(problem.element)
    sizes = [axis.size for axis in problem.axes]
    elements = prod(sizes)
    batch, channel, depth, row, column = problem.x_strides
    if column == 1 and row == sizes[2]:  # rows that touch are one long row
        sizes = [sizes[0], 1, sizes[1] * sizes[2]]
    planes = problem.images * problem.channels
    together = planes_together(lanes)
    work = -(-elements * min(element.size, USUAL_BYTES) // USUAL_BYTES) if together > 1 else elements
    planes_per_task = min(planes, max(1, TASK_WORK // work, planes // (4 * TASKS)))
    if planes_per_task >= together:
        planes_per_task = -(-planes_per_task // together) * together
    evenly = together > 1 and batch == problem.channels * channel and sizes[:2] == [1, 1] and column == 1
    group_bytes = together * elements * element.size
    # Large planes come from memory sooner one after the other: extrema of 28x28 and of 17x17 take 0.6 of the time so,
    # means 0.95; both of 14x14 1.05 to 1.1.
    is_far = planes * elements * element.size > FAR_BYTES
    evenly = evenly and not (is_far and group_bytes > AHEAD_BYTES)
    fetched = planes_ahead(problem, element.size, together) if evenly and group_bytes <= AHEAD_BYTES else NO_PLANES
    divisor = problem.number if problem.finish == "override" else 1.0
    if problem.finish in ("mean", "valid mean"):
        divisor = float(prod(divisors(axis, problem.finish)[0] for axis in problem.axes))
    fields = {
        "tasks": -(-planes // planes_per_task),
        "x_batch": batch,
        "x_channel": channel,
        "x_depth": depth,
        "x_row": row,
        "x_column": column,
        "channels": problem.channels,
        "depths": sizes[0],
        "rows": sizes[1],
        "width": sizes[2],
        "planes": planes,
        "planes_per_task": planes_per_task,
        "evenly": channel if evenly else 0,
        "ahead": AHEAD_BYTES // element.size if is_far else 0,
        **fetched,
        "divisor": divisor,
    }
    step = Step(Code(reduce_planes, element, (problem.variant, 1, together)), fields)
    return Plan((step,), 0, 0, element, planes * work / 3)
