"""Plan of a pooling with small windows: sizes of its vectors and groups, and tables of masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import FLOATS
from fastpool.geometry import Axis
from fastpool.plans.ahead import steps_ahead
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.shares import shares
from fastpool.plans.windows import Pooling, finishing, windows_of
from fastpool.routines.pool import neutral_of
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.smallpool import NO_ROW, SMALL_WINDOWS, groups_in_registers, rows_seen, small_pool, variant_of
from fastpool.routines.tiles import CACHED_BYTES


def _vector_of(problem: Pooling, width: Axis) -> tuple[int, bool]:
    """Lanes of the vectors of `small_pool`, and whether they are half a register, where that leaves fewer unused."""
    whole, stride = lanes_for(problem.element), width.stride
    half = whole // 2
    same = problem.source.numba_name == problem.element.numba_name and problem.element.dtype in FLOATS
    if same and width.out <= half and half > (width.kernel - 1) // stride:
        return half, True
    return whole, False


def is_small(problem: Pooling) -> bool:
    """Whether `small_pool` computes it: certain windows, at stride 1 or 2, from plain rows of one depth."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        depth.size == 1
        and windows_of(depth).count == [1]
        and (height.kernel, width.kernel) in SMALL_WINDOWS
        and width.stride <= 2
        and (height.stride <= 2 or height.stride >= height.kernel)
        and height.dilation == width.dilation == 1
        and problem.x_strides[4] == 1
        and problem.operation != "powersum"
        # Windows reach into the next vector, and not beyond it.
        and (width.kernel - 1) // width.stride <= lanes_for(problem.element)
        # Its table has an entry for each padded row, which huge strides and padding make many.
        and (height.out - 1) * height.stride + height.extent <= 8 * (height.size + height.out + 1024)
    )


def _group_of(problem: Pooling, height: Axis, width: Axis, rows: int, stores: int) -> int:
    """Output rows to be done together, where a task has so many, of that many vectors."""
    if _input_bytes(problem, height, width) > CACHED_BYTES:
        # Row after row, as the hardware foresees few rows at a time: 32x64x112x112, 2x2: 3.7 ms; pairs 4.7, fours 6.6.
        return 1
    stride, step = width.stride, min(height.stride, height.kernel)
    fitting = [group for group in groups_in_registers(width.kernel, stride) if group <= rows]

    def cycles(group: int) -> int:
        # Loads take two cycles, as they lie across lines; addresses of the rows 30.
        down, along = 2 * stride * rows_seen(height.kernel, group, step), 4 * group
        return -(-rows // group) * (30 + stores * (down + along))

    return min(fitting or [1], key=cycles)


def _input_bytes(problem: Pooling, height: Axis, width: Axis) -> int:
    return problem.images * problem.channels * height.size * width.size * problem.source.size


def _ahead(problem: Pooling, height: Axis, width: Axis) -> int:
    """Elements to rows that are fetched from beyond the level-2 caches, beside those that a group sees.

    Of rows read side by side hardware foresees little: on a Zen 5 3x3 at stride 2 over 32x64x112x112 takes 4 ms so
    instead of 8 to 12, 2x2 3.8 instead of 8; over 4x64x112x112 0.6 and 0.5 of the time, over 2x64x112x112 0.8 to 0.9.
    """
    row = problem.x_strides[3]
    return row * steps_ahead(_input_bytes(problem, height, width), abs(row) * problem.source.size)


def mask_words(width: int, first: int, lanes: int, count: int) -> list[int]:
    """Masks of `count` vectors, the first of which begins at column `first`: a bit for each column below `width`."""
    found = []
    for start in range(first, first + count * lanes, lanes):
        inside = range(max(0, -start), max(0, min(lanes, width - start)))
        found.append(sum(1 << lane for lane in inside))
    return [word - (1 << 64) if word >= 1 << 63 else word for word in found]


#: Bits of infinity.
_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}


def outside_row(problem: Pooling, spec: Any, width: int) -> np.ndarray:
    """Row that changes no window."""
    neutral, name = neutral_of(spec), problem.source.numba_name
    if name not in _INFINITY:
        return np.full(width, neutral, name)
    return np.full(width, 0 if neutral == 0 else _INFINITY[name] | (0x8000 if neutral < 0 else 0), np.uint16)


def plan_small(problem: Pooling) -> Plan:
    """Plan of a pooling that `is_small`."""
    element = problem.element
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    planes, stride = problem.images * problem.channels, width.stride
    planes_per_task, rows_per_task = shares(planes, height.out, height.size * width.size)
    row_tasks = -(-height.out // rows_per_task)
    lanes, narrow = _vector_of(problem, width)
    stores = -(-width.out // lanes)
    group = _group_of(problem, height, width, height.out // row_tasks, stores)
    step = min(height.stride, height.kernel) if group > 1 else 1  # a row alone has no next: one code for all
    variant = variant_of(problem.variant, group, step, stride, narrow)
    code = Code(small_pool, element, (variant, height.kernel, width.kernel))
    padded = range((height.out - 1) * height.stride + height.kernel)
    sources = [i - height.pad_begin for i in padded]
    offsets = [i * problem.x_strides[3] if 0 <= i < height.size else NO_ROW for i in sources]
    loads = -(-((width.out - 1) * stride + width.kernel) // (lanes * stride))
    tables: list[Any] = [
        table(offsets),
        outside_row(problem, code.spec, width.size),
        table(mask_words(width.size, -width.pad_begin, lanes, loads * stride)),
        table(mask_words(width.out, 0, lanes, stores)),
    ]
    names = ("row_offsets", "outside", "load_masks", "store_masks")
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "channels": problem.channels,
        **dict(zip(names, map(address, tables), strict=True)),
        "row_stride": height.stride,
        "x_row": problem.x_strides[3],
        "first_column": -width.pad_begin,
        "ahead": _ahead(problem, height, width),
        "loads": loads,
        "stores": stores,
        "out_rows": height.out,
        "out_columns": width.out,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "row_tasks": row_tasks,
        **finishing(problem, tables),
    }
    del fields["power"]
    vectors = planes * height.out * stores
    cycles = vectors * stride * (height.kernel + width.kernel + 6)
    return Plan((Step(code, fields),), 0, 0, element, cycles, tuple(tables))
