"""Windows of poolings: what decides a pooling, tables of its windows, and what becomes of what they combine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis, adaptive_window
from fastpool.plans.plan import table
from fastpool.plans.shares import shares
from fastpool.routines.pool import DIVIDE, PLAIN, ROOT, SCALE, SQUARE_ROOT


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


def divisors(axis: Axis | AdaptiveAxis, finish: str) -> list[int]:
    """Elements along an axis that each window's sum is divided by."""
    if finish not in ("mean", "valid mean"):
        return [1] * axis.out
    if finish == "mean" and isinstance(axis, Axis):
        counts = [axis.covered(o) for o in range(axis.out)]
    else:
        counts = windows_of(axis).count
    return [max(1, count) for count in counts]  # an empty window's sum is 0, and so is its mean


#: Elements of a vector at most: so many divisors are there beyond the last column.
LINE = 64


def finishing(problem: Pooling, tables: list[Any]) -> dict[str, Any]:
    """Fields that say what becomes of a combined value."""
    codes = {"plain": PLAIN, "scale": SCALE, "root": SQUARE_ROOT if problem.operation == "squaresum" else ROOT}
    depth, height, width = (divisors(axis, problem.finish) for axis in problem.axes)
    rows = np.outer(depth, height).astype(problem.element.dtype)
    if problem.finish == "override":
        rows[...] = problem.number
    columns = np.ones(len(width) + LINE, problem.element.dtype)
    columns[: len(width)] = width
    tables += [rows, columns]
    return {
        "finish": codes.get(problem.finish, DIVIDE),
        "row_divisor": address(rows),
        "column_divisor": address(columns),
        "power": problem.number,
    }


def window_fields(
    axes: Sequence[Axis | AdaptiveAxis],
    x_strides: Sequence[int],
    images: int,
    channels: int,
    work: int,
    kept: list[Any],
) -> dict[str, Any]:
    """Fields of `routines.pool.WINDOWS`, and the number of tasks; `work` is that of a plane, as in `shares`.

    The tables that the fields point to are added to `kept`.
    """
    planes, rows = images * channels, axes[0].out * axes[1].out
    planes_per_task, rows_per_task = shares(planes, rows, work)
    row_tasks = -(-rows // rows_per_task)
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * row_tasks,
        **dict(zip(("x_batch", "x_channel", "x_depth", "x_row", "x_column"), x_strides, strict=True)),
        "channels": channels,
        "width": axes[2].size,
        "planes": planes,
        "planes_per_task": planes_per_task,
        "rows_per_task": rows_per_task,
        "row_tasks": row_tasks,
    }
    for name, axis in zip(("depth", "row", "column"), axes, strict=True):
        windows = windows_of(axis)
        tables = table(windows.first), table(windows.count)
        kept += tables
        fields |= {
            f"out_{name}s": axis.out,
            f"{name}_first": address(tables[0]),
            f"{name}_count": address(tables[1]),
            f"{name}_step": windows.step,
        }
    return fields
