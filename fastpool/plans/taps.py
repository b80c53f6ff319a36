"""Tables of windows for the reductions that need all taps of a window at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.plans.plan import table
from fastpool.plans.shares import shares
from fastpool.plans.windows import windows_of
from fastpool.routines.routine import lanes as lanes_for


@dataclass(frozen=True)
class Tapped:
    """All that decides how such a reduction is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType
    images: int
    channels: int
    axes: tuple[Axis, ...]
    x_strides: tuple[int, ...]
    source: ElementType | None = None  #: of x; None is `element`, anything narrower is widened

    @property
    def taps(self) -> int:
        """Most taps of a window."""
        return prod(max(windows_of(axis).count) for axis in self.axes)

    @property
    def widened_from(self) -> str:
        """Variant of the spec."""
        return f"from {self.source.numba_name}" if self.source not in (None, self.element) else ""

    @property
    def outputs(self) -> int:
        """Elements of the result."""
        return self.images * self.channels * prod(axis.out for axis in self.axes)

    @property
    def scratch_elements(self) -> int:
        """Scratch of a thread: the taps of one vector of outputs."""
        return -(-self.taps * lanes_for(self.element) // 16) * 16


def tapped_fields(problem: Tapped, tables: list[Any], scratch: int) -> dict[str, Any]:
    """Fields of a call block; the arrays that they point to are added to `tables`."""
    d, h, w = (windows_of(axis) for axis in problem.axes)
    depth, height, width = problem.axes
    planes, rows = problem.images * problem.channels, depth.out * height.out
    work = rows * width.out * max(1, problem.taps)
    planes_per_task, rows_per_task = shares(planes, rows, work)
    row_tasks = -(-rows // rows_per_task)

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    plain = problem.x_strides[4] == 1 and not problem.widened_from and width.stride <= 2
    return {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        **dict(zip(("x_batch", "x_channel", "x_depth", "x_row", "x_column"), problem.x_strides, strict=True)),
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
        "whole": width.kernel,
        "kernel": max(w.count),
        "taps": problem.taps,
        "vector_stride": width.stride if plain else 0,
        "scratch_thread": scratch,
    }
