"""Plan of a matrix times a vector."""

from __future__ import annotations

from functools import lru_cache

from fastpool.dtypes import ElementType
from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.problem import ceil_div
from fastpool.routines.gemv import COLUMNS, gemv, row_shape
from fastpool.routines.routine import lanes as lanes_for

#: Weights of a task at least, and tasks at most.
_TASK_WEIGHTS = 16 * 1024
_TASKS = 64
#: Bytes that a task reads side by side where weights are columns: two pages. With less than one, memory has half its
#: speed.
_COLUMN_BYTES = 8192
#: Outputs of a task at least.
_LEAST_COLUMNS = 64
#: Bytes of weights that one core reads in a cycle, from the caches.
_BYTES_A_CYCLE = 16


@lru_cache(maxsize=256)
def plan_gemv(element: ElementType, outputs: int, inputs: int, by_rows: bool, low: float, high: float) -> Plan:
    """Plan of ``clip(weights @ x + bias, low, high)``; weights are (output, input), or (input, output)."""
    if by_rows:
        shape = row_shape(lanes_for(element))
        step, most = shape[2], _TASKS
    else:
        shape, step, most = COLUMNS, _LEAST_COLUMNS, max(2, outputs * element.size // _COLUMN_BYTES)
    groups = ceil_div(outputs, step)
    tasks = max(1, min(groups, most, outputs * inputs // _TASK_WEIGHTS))
    outputs_per_task = ceil_div(groups, tasks) * step
    fields = {
        "tasks": ceil_div(outputs, outputs_per_task),
        "outputs": outputs,
        "inputs": inputs,
        "pitch": inputs if by_rows else outputs,
        "outputs_per_task": outputs_per_task,
        "low": low,
        "high": high,
    }
    cycles = outputs * inputs * element.size / _BYTES_A_CYCLE
    return Plan((Step(Code(gemv, element, shape), fields),), 0, 0, element, cycles)
