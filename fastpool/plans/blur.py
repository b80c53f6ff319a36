"""Plan of a blur: tables of its padding, and how planes and rows are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis, padding_source
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.shares import shares
from fastpool.routines.blur import blur
from fastpool.routines.routine import lanes as lanes_for


@dataclass(frozen=True)
class Blur:
    """All that decides how a blur is carried out. Strides are in elements of x (N, C, H, W)."""

    element: ElementType
    images: int
    channels: int
    axes: tuple[Axis, Axis]
    x_strides: tuple[int, ...]
    weights: tuple[float, ...]  #: of the filter, along each axis
    padding_mode: str


def _sources(axis: Axis, mode: str, places: range) -> list[int]:
    return [padding_source(place, axis.size, mode) for place in places]


@lru_cache(maxsize=1024)
def plan_blur(problem: Blur) -> Plan:
    """Plan of a blur."""
    element, lanes, mode = problem.element, lanes_for(problem.element), problem.padding_mode
    height, width = problem.axes
    planes = problem.images * problem.channels
    planes_per_task, rows_per_task = shares(planes, height.out, height.size * width.size)
    row_tasks = -(-height.out // rows_per_task)
    starts = [o * height.stride - height.pad_begin for o in range(height.out)]
    rows = [source for start in starts for source in _sources(height, mode, range(start, start + height.kernel))]
    outside = (range(-width.pad_begin, 0), range(width.size, width.size + width.pad_end))
    columns = [source for part in outside for source in _sources(width, mode, part)]
    reach = width.pad_begin + width.size + width.pad_end
    if width.stride <= 2:  # whole vectors are loaded, two at stride 2, for the last, partly used group of outputs
        reach = max(reach, -(-width.out // lanes) * lanes * width.stride + width.kernel + 2 * lanes)
    buffer = -(-reach // 16) * 16
    tables: list[Any] = [np.array(problem.weights, element.dtype), table(rows), table(columns)]
    fields = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        **dict(zip(("x_batch", "x_channel", "x_row", "x_column"), problem.x_strides, strict=True)),
        "channels": problem.channels,
        "width": width.size,
        "taps": width.kernel,
        **dict(zip(("filter", "row_sources", "column_sources"), map(address, tables), strict=True)),
        "pad_left": width.pad_begin,
        "pad_right": width.pad_end,
        "stride": width.stride,
        "buffer": buffer,
        "out_rows": height.out,
        "out_columns": width.out,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "rows_per_task": rows_per_task,
        "row_tasks": row_tasks,
    }
    cycles = 2.0 * planes * height.out * width.kernel * (width.size + width.stride * width.out) / lanes
    return Plan((Step(Code(blur, element), fields),), 0, buffer, element, cycles, tuple(tables))
