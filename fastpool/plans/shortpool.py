"""Plan of extrema of small windows in maps with short rows: sizes of vectors and groups, and tables."""

from __future__ import annotations

from typing import Any

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.ahead import NO_PLANES, planes_ahead
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.shares import USUAL_BYTES, shares
from fastpool.plans.smallpool import mask_words
from fastpool.plans.windows import Pooling, windows_of
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.shortpool import groups_of_short_rows, short_pool, variant_of_short
from fastpool.routines.smallpool import SMALL_WINDOWS, rows_seen
from fastpool.routines.tiles import CACHED_BYTES


def _vectors_of(problem: Pooling, width: Axis) -> tuple[int, int] | None:
    """Lanes of the vectors, a whole or half a register, and how many a row is; None where it is no short row."""
    whole, columns = lanes_for(problem.element), (width.out - 1) * width.stride + width.kernel
    for lanes in (whole // 2, whole):
        parts = -(-columns // lanes)
        if width.out <= lanes and parts <= width.stride:
            return lanes, parts
    return None


def is_short(problem: Pooling) -> bool:
    """Whether `short_pool` computes it: extrema of certain windows, at stride 1 or 2, in rows that fit a vector."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        # Elsewhere loads that end within a vector go byte by byte.
        TARGET.name == "avx512"
        and problem.operation in ("max", "min", "all")
        and problem.finish == "plain"
        and problem.source.numba_name == problem.element.numba_name
        and depth.size == 1
        and windows_of(depth).count == [1]
        and (height.kernel, width.kernel) in SMALL_WINDOWS
        and width.stride <= 2
        and height.stride <= min(2, height.kernel)
        and height.dilation == width.dilation == 1
        and problem.x_strides[4] == 1
        and _vectors_of(problem, width) is not None
        and 0 not in windows_of(height).count  # there is a nearest row that the window sees
    )


def _group_of(problem: Pooling, height: Axis, width: Axis, rows: int, parts: int) -> int:
    """Output rows to be done together, where a task has so many."""
    step = height.stride
    input_bytes = problem.images * problem.channels * height.size * width.size * problem.source.size
    if input_bytes > CACHED_BYTES and step >= height.kernel:
        # From memory, where no row is read twice, row after row: 16x512x28x28, 2x2, float32: 450 us; by seven 510-640.
        return 1

    def cycles(group: int) -> int:
        return -(-rows // group) * (10 + 2 * parts * rows_seen(height.kernel, group, step) + 5 * group)

    fitting = [group for group in groups_of_short_rows(height.kernel, parts) if group <= rows]
    return min(fitting or [1], key=cycles)


def plan_short(problem: Pooling) -> Plan:
    """Plan of a pooling that `is_short`."""
    element = problem.element
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    vectors = _vectors_of(problem, width)
    assert vectors is not None
    lanes, parts = vectors
    planes = problem.images * problem.channels
    work = -(-height.size * width.size * element.size // USUAL_BYTES)
    planes_per_task, rows_per_task = shares(planes, height.out, work)
    row_tasks = -(-height.out // rows_per_task)
    group = _group_of(problem, height, width, height.out // row_tasks, parts)
    step = height.stride if group > 1 else 1  # a row alone has no next: one code for all
    variant = variant_of_short(problem.variant, group, step, parts, width.stride, lanes < lanes_for(element))
    code = Code(short_pool, element, (variant, height.kernel, width.kernel))
    padded = range((height.out - 1) * height.stride + height.kernel)
    nearest = [min(max(i - height.pad_begin, 0), height.size - 1) for i in padded]
    tables: tuple[Any, ...] = (
        table([row * problem.x_strides[3] for row in nearest]),
        table(mask_words(width.size, -width.pad_begin, lanes, parts) + mask_words(width.out, 0, lanes, 1)),
    )
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "channels": problem.channels,
        **dict(zip(("row_offsets", "masks"), map(address, tables), strict=True)),
        "row_stride": height.stride,
        "first_column": -width.pad_begin,
        **(planes_ahead(problem, element.size) if row_tasks == 1 else NO_PLANES),
        "out_rows": height.out,
        "out_columns": width.out,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "row_tasks": row_tasks,
    }
    cycles = planes * height.out * parts * (3 + (height.kernel + width.kernel) / 2)
    return Plan((Step(code, fields),), 0, 0, element, cycles, tables)
