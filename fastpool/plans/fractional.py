"""Plan of fractional max pooling: a task is a plane, as its windows are its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from fastpool.dtypes import ElementType
from fastpool.plans.plan import Code, Plan, Step, thread_scratch
from fastpool.routines.fractional import fractional, fractional_indices
from fastpool.routines.routine import lanes as lanes_for


@dataclass(frozen=True)
class Fractional:
    """All that decides how it is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType
    images: int
    channels: int
    sizes: tuple[int, ...]  #: of x (D, H, W)
    kernel: tuple[int, ...]
    outs: tuple[int, ...]
    x_strides: tuple[int, ...]
    indices: bool


@lru_cache(maxsize=1024)
def plan_fractional(problem: Fractional) -> Plan:
    """Plan of a fractional max pooling."""
    element = problem.element
    planes = problem.images * problem.channels
    buffer = -(-problem.sizes[2] // 16) * 16
    scratch = thread_scratch(buffer + -(-problem.outs[2] * 8 // element.size // 16) * 16, element)
    fields = {
        "tasks": planes,
        **dict(zip(("x_batch", "x_channel", "x_depth", "x_row", "x_column"), problem.x_strides, strict=True)),
        "channels": problem.channels,
        **dict(zip(("depths", "rows", "width"), problem.sizes, strict=True)),
        **dict(zip(("depth_kernel", "row_kernel", "column_kernel"), problem.kernel, strict=True)),
        **dict(zip(("out_depths", "out_rows", "out_columns"), problem.outs, strict=True)),
        "planes": planes,
        "buffer": buffer,
        "scratch_thread": scratch,
    }
    outputs = planes * prod(problem.outs)
    if problem.indices:
        routine, cycles = fractional_indices, 3.0 * outputs * prod(problem.kernel)
    else:
        rows = planes * problem.outs[0] * problem.outs[1]
        vertical = 2.0 * rows * prod(problem.kernel[:2]) * problem.sizes[2] / lanes_for(element)
        routine, cycles = fractional, vertical + 2.0 * outputs * problem.kernel[2]
    return Plan((Step(Code(routine, element, ("max", 1, 1)), fields),), 0, scratch, element, cycles)
