"""Plan of unpooling: planes are shared out, each a task's as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from fastpool.dtypes import ElementType
from fastpool.plans.plan import Code, Plan, Step
from fastpool.routines.tiles import TASKS
from fastpool.routines.unpool import unpool

#: Elements that a task reads and writes at least: 10 us.
_TASK_ELEMENTS = 16 * 1024


@dataclass(frozen=True)
class Unpooling:
    """All that decides how it is carried out. Strides are in elements of x and of the indices (N, C, D, H, W)."""

    element: ElementType  #: that carries those of x: an integer of their size
    images: int
    channels: int
    sizes: tuple[int, ...]  #: of x (D, H, W)
    out_elements: int  #: of a plane of the result
    x_strides: tuple[int, ...]
    indices_strides: tuple[int, ...]


@lru_cache(maxsize=1024)
def plan_unpooling(problem: Unpooling) -> Plan:
    """Plan of an unpooling."""
    planes = problem.images * problem.channels
    elements = problem.out_elements + prod(problem.sizes)
    planes_per_task = max(1, min(-(-_TASK_ELEMENTS // elements), planes), planes // (4 * TASKS))
    names = ("batch", "channel", "depth", "row", "column")
    fields = {
        "tasks": -(-planes // planes_per_task),
        **{f"x_{name}": stride for name, stride in zip(names, problem.x_strides, strict=True)},
        **{f"indices_{name}": stride for name, stride in zip(names, problem.indices_strides, strict=True)},
        "channels": problem.channels,
        **dict(zip(("depths", "rows", "width"), problem.sizes, strict=True)),
        "size": problem.out_elements,
        "planes": planes,
        "planes_per_task": planes_per_task,
    }
    cycles = planes * (problem.out_elements * problem.element.size / 8 + 3 * prod(problem.sizes))
    return Plan((Step(Code(unpool, problem.element), fields),), 0, 0, problem.element, cycles)
