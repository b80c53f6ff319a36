"""Plans of pooling: tables of windows, and how planes and rows are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis, adaptive_window
from fastpool.kernels import lanes as lanes_for
from fastpool.kernels.argpool import argpool
from fastpool.kernels.pool import DIVIDE, PLAIN, ROOT, SCALE, SQUARE_ROOT, pool
from fastpool.kernels.reduce import MOST_PLANES, reduce_planes
from fastpool.kernels.smallpool import LARGEST_WINDOW, small_pool
from fastpool.kernels.tiles import CACHED_INPUT_BYTES, TASKS
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.shares import TASK_WORK, shares

#: Output rows that `small_pool` does before the next vector of columns: the masks of the columns are made once for all
#: of them (128x112x112, 2x2: 250 us with 1 row, 200 with 8). Input from memory goes row by row instead, as the
#: hardware prefetcher follows rows only (32x64x112x112, 2x2: 5.5 ms with 1 row, 11.9 with 8).
_BLOCK_ROWS = 8


@dataclass(frozen=True)
class AdaptiveAxis:
    """Windows of adaptive pooling along one axis."""

    size: int
    out: int


@dataclass(frozen=True)
class Pooling:
    """All that decides how a pooling is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType  #: what windows are combined in
    source: ElementType  #: what x has
    images: int
    channels: int
    axes: tuple[Axis | AdaptiveAxis, Axis | AdaptiveAxis, Axis | AdaptiveAxis]
    x_strides: tuple[int, int, int, int, int]
    operation: str  #: variant of the kernel
    finish: str = "plain"  #: "plain", "mean" (padding counts), "valid mean", "override", "scale" or "root"
    number: float = 1.0  #: power of "root", divisor of "override"
    indices: bool = False

    @property
    def variant(self) -> str:
        """Operation, and what it reads where that is not what it computes in."""
        same = self.source.numba_name == self.element.numba_name
        return self.operation if same else f"{self.operation} from {self.source.numba_name}"


@dataclass(frozen=True)
class Windows:
    """Tables of one axis: first source element and number of taps of each window, and their distance."""

    first: list[int]
    count: list[int]
    step: int


def windows_of(axis: Axis | AdaptiveAxis) -> Windows:
    """Windows clipped to the input."""
    if isinstance(axis, AdaptiveAxis):
        ends = [adaptive_window(axis.size, axis.out, o) for o in range(axis.out)]
        return Windows([first for first, _ in ends], [end - first for first, end in ends], 1)
    taps = [axis.taps(o) for o in range(axis.out)]
    starts = [o * axis.stride - axis.pad_begin for o in range(axis.out)]
    first = [s + t.start * axis.dilation if len(t) else 0 for s, t in zip(starts, taps, strict=True)]
    return Windows(first, [len(t) for t in taps], axis.dilation)


def _divisors(axis: Axis | AdaptiveAxis, finish: str) -> list[int]:
    if finish not in ("mean", "valid mean"):
        return [1] * axis.out
    if finish == "mean" and isinstance(axis, Axis):
        counts = [axis.covered(o) for o in range(axis.out)]
    else:
        counts = windows_of(axis).count
    return [max(1, count) for count in counts]  # an empty window's sum is 0, and so is its mean


def _finishing(problem: Pooling, tables: list[Any]) -> dict[str, Any]:
    """Fields that say what becomes of a combined value."""
    codes = {"plain": PLAIN, "scale": SCALE, "root": SQUARE_ROOT if problem.operation == "squaresum" else ROOT}
    depth, height, width = (_divisors(axis, problem.finish) for axis in problem.axes)
    rows = np.outer(depth, height).astype(problem.element.dtype)
    if problem.finish == "override":
        rows[...] = problem.number
    columns = np.array(width, problem.element.dtype)
    tables += [rows, columns]
    return {
        "finish": codes.get(problem.finish, DIVIDE),
        "row_divisor": address(rows),
        "column_divisor": address(columns),
        "power": problem.number,
    }


def _is_small(problem: Pooling) -> bool:
    """Whether `small_pool` computes it: few taps, at column stride 1 or 2, from plain rows of one depth."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        depth.size == 1
        and windows_of(depth).count == [1]
        and height.kernel * width.kernel <= LARGEST_WINDOW
        and width.stride <= 2
        and width.dilation == 1
        and problem.x_strides[4] == 1
        and problem.operation != "powersum"
        # Its table has an entry for each padded row, which huge strides and padding make many.
        and (height.out - 1) * height.stride + height.extent <= 8 * (height.size + height.out + 1024)
    )


def _plan_small(problem: Pooling) -> Plan:
    element = problem.element
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    planes = problem.images * problem.channels
    planes_per_task, rows_per_task = shares(planes, height.out, height.size * width.size)
    row_tasks = -(-height.out // rows_per_task)
    input_bytes = planes * height.size * width.size * problem.source.size
    padded = range((height.out - 1) * height.stride + height.extent)
    sources = [i - height.pad_begin if 0 <= i - height.pad_begin < height.size else -1 for i in padded]
    tables: list[Any] = [table(sources)]
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "x_row": problem.x_strides[3],
        "channels": problem.channels,
        "width": width.size,
        "row_map": address(tables[0]),
        "block_rows": _BLOCK_ROWS if input_bytes <= CACHED_INPUT_BYTES else 1,
        "row_stride": height.stride,
        "row_step": height.dilation,
        "column_stride": width.stride,
        "pad_left": width.pad_begin,
        "out_rows": height.out,
        "out_columns": width.out,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "rows_per_task": rows_per_task,
        "row_tasks": row_tasks,
        **_finishing(problem, tables),
    }
    shape = (f"{problem.variant} stride {width.stride}", height.kernel, width.kernel)
    vectors = planes * height.out * -(-width.out // lanes_for(element))
    cycles = vectors * (2 * height.kernel * width.kernel + 10)
    return Plan((Step(Code(small_pool, element, shape), fields),), 0, 0, element, cycles, tuple(tables))


@lru_cache(maxsize=1024)
def plan_pooling(problem: Pooling) -> Plan:
    """Plan of a pooling."""
    if _is_small(problem):
        return _plan_small(problem)
    element, lanes = problem.element, lanes_for(problem.element)
    depth, height, width = problem.axes
    d, h, w = (windows_of(axis) for axis in problem.axes)
    planes, rows = problem.images * problem.channels, depth.out * height.out
    elements = depth.size * height.size * width.size
    planes_per_task, rows_per_task = shares(planes, rows, elements)
    row_tasks = -(-rows // rows_per_task)

    tables: list[Any] = []

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    strides = zip(("x_batch", "x_channel", "x_depth", "x_row", "x_column"), problem.x_strides, strict=True)
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        **dict(strides),
        "channels": problem.channels,
        "width": width.size,
        "out_depths": depth.out,
        "out_rows": height.out,
        "out_columns": width.out,
        "depth_first": kept(d.first),
        "depth_count": kept(d.count),
        "depth_step": d.step,
        "row_first": kept(h.first),
        "row_count": kept(h.count),
        "row_step": h.step,
        "column_first": kept(w.first),
        "column_count": kept(w.count),
        "column_step": w.step,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "rows_per_task": rows_per_task,
        "row_tasks": row_tasks,
    }
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

    finishing = _finishing(problem, tables)
    fields |= {
        "regular": int(regular),
        "kernel": width.kernel if isinstance(width, Axis) else 0,
        "stride": width.stride if isinstance(width, Axis) else 0,
        "pad_left": pad_left,
        "buffer": buffer,
        "scratch_thread": -(-scratch // 16) * 16,
        **finishing,
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
    planes_per_task = min(planes, max(1, TASK_WORK // elements, planes // (4 * TASKS)))
    planes_per_task = -(-planes_per_task // lanes) * lanes if planes_per_task >= lanes else planes_per_task
    together = lanes if lanes <= MOST_PLANES else 1
    evenly = together > 1 and batch == problem.channels * channel and sizes[:2] == [1, 1] and column == 1
    divisor = problem.number if problem.finish == "override" else 1.0
    if problem.finish in ("mean", "valid mean"):
        divisor = float(prod(_divisors(axis, problem.finish)[0] for axis in problem.axes))
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
        "divisor": divisor,
    }
    step = Step(Code(reduce_planes, element, (problem.variant, 1, together)), fields)
    return Plan((step,), 0, 0, element, planes * elements / 3)
