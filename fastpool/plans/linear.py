"""Plan of a matrix times a vector, which a convolution is whose x is a single window."""

from __future__ import annotations

from functools import lru_cache

from fastpool.dtypes import ElementType
from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.problem import Convolution, ceil_div
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


def is_one_window(problem: Convolution) -> bool:
    """Whether all of x is one window, in the order of the weights, which are the rows of a matrix then."""
    is_one = problem.images == problem.groups == problem.pixels == 1
    is_whole = all(axis.pad_begin == 0 and axis.extent <= axis.size for axis in problem.axes)
    is_plain = not problem.element.is_integer and not problem.widened_from and problem.residual_batch is None
    if not (is_one and is_whole and is_plain):
        return False
    step = 1
    for axis, stride in zip(reversed(problem.axes), reversed(problem.x_strides[2:]), strict=True):
        if axis.kernel > 1 and stride * axis.dilation != step:
            return False
        step *= axis.kernel
    return problem.channels == 1 or problem.x_strides[1] == step


def plan_one_window(problem: Convolution) -> Plan:
    """Plan of a convolution whose x is one window."""
    inputs = problem.channels * problem.taps
    return plan_gemv(problem.element, problem.out_channels, inputs, True, problem.low, problem.high)


def is_gemv(plan: Plan) -> bool:
    """Whether a plan multiplies a matrix by a vector."""
    return plan.steps[-1].kernel.routine is gemv
