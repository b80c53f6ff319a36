"""Plan of a function of each element."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fastpool.dtypes import ElementType
from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.problem import ceil_div
from fastpool.routines.elementwise import SMOOTH, elementwise
from fastpool.routines.routine import lanes

#: Elements of a task at least, and tasks at most.
_TASK_ELEMENTS = 4096
_TASKS = 32
#: Cycles of one vector: of arithmetic and memory, and of an exponential and a division.
_CYCLES, _SMOOTH_CYCLES = 4.0, 24.0


@dataclass(frozen=True)
class Function:
    """A function of each element: its name in `kernels.elementwise`, its numbers, and bounds of its result."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True)
class Operands:
    """Planes of `length` elements, and what the second array has for them.

    It has nothing (""), one number for each of `period` planes ("plane"), or `pitch` elements for each plane ("array");
    a pitch of 0 are the same elements for all.
    """

    planes: int
    length: int
    second: str = ""
    period: int = 1
    pitch: int = 0


def is_computed(name: str, element: ElementType) -> bool:
    """Whether the kernel has a function of such elements."""
    return name not in SMOOTH or element.numba_name == "float32"


@lru_cache(maxsize=1024)
def plan_elementwise(element: ElementType, function: Function, operands: Operands) -> Plan:
    """Plan of ``clip(function(x, weights), low, high)``; `out` may be x, or the second array where that has as many."""
    width = lanes(element)
    planes, length = operands.planes, operands.length
    tasks = max(1, min(_TASKS, planes * length // _TASK_ELEMENTS))
    pieces = min(ceil_div(tasks, planes), ceil_div(length, width)) if planes < tasks else 1
    piece = ceil_div(ceil_div(length, pieces), width) * width
    pieces = ceil_div(length, piece)
    planes_per_task = ceil_div(planes, max(1, tasks // pieces))
    fields = {
        "tasks": ceil_div(planes, planes_per_task) * pieces,
        "planes": planes,
        "length": length,
        "planes_per_task": planes_per_task,
        "piece": piece,
        "pieces": pieces,
        "period": operands.period,
        "pitch": operands.pitch,
        "alpha": function.alpha,
        "beta": function.beta,
        "low": function.low,
        "high": function.high,
    }
    code = Code(elementwise, element, (f"{function.name} {operands.second}".strip(), 1, 1))
    cycles = planes * ceil_div(length, width) * (_SMOOTH_CYCLES if function.name in SMOOTH else _CYCLES)
    return Plan((Step(code, fields),), 0, 0, element, cycles)
