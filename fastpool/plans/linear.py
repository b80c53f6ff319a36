"""Plan of a matrix times a vector, which a convolution is whose x is a single window."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

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


#: Taps from which channels that are one window each are multiplied so.
_LEAST_TAPS = 4
#: Cycles to add up the lanes of a sum, and for each vector of a row that is multiplied by elements of its own.
_DOT_CYCLES, _DOT_VECTOR_CYCLES = 14.0, 2.0
#: Cycles of a task of such rows at least.
_TASK_CYCLES = 4000.0


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
    fields = {
        "outputs": outputs,
        "inputs": inputs,
        "pitch": inputs if by_rows else outputs,
        "outputs_per_task": ceil_div(groups, tasks) * step,
        "low": low,
        "high": high,
    }
    return _plan(element, shape, fields, outputs * inputs * element.size / _BYTES_A_CYCLE)


def _plan(
    element: ElementType,
    shape: tuple[str, int, int],
    fields: dict[str, Any],
    cycles: float,
    images: int = 1,
    strides: tuple[int, int, int] = (0, 0, 0),
) -> Plan:
    """Plan of images whose x, rows of x and results are so many elements apart."""
    tasks = ceil_div(fields["outputs"], fields["outputs_per_task"])
    of_images = {"tasks": images * tasks, "image_tasks": tasks}
    steps = dict(zip(("x_batch", "x_row", "out_batch"), strides, strict=True))
    return Plan((Step(Code(gemv, element, shape), of_images | fields | steps),), 0, 0, element, cycles)


def _is_matrix(problem: Convolution) -> bool:
    """Whether there is one matrix, of one image, whose window lies in the order of the weights."""
    is_one = problem.images == problem.groups == 1
    return is_one and (problem.channels == 1 or problem.x_strides[1] == problem.taps)


def is_one_window(problem: Convolution) -> bool:
    """Whether x is one window, in the order of the weights, which are a matrix then; or each channel is, with its own.

    Rows of few elements are left to others.
    """
    is_whole = problem.pixels == 1 and all(axis.pad_begin == 0 and axis.extent <= axis.size for axis in problem.axes)
    is_plain = not problem.element.is_integer and not problem.widened_from and problem.residual_batch is None
    if not (problem.images and is_whole and is_plain):
        return False
    step = 1
    for axis, stride in zip(reversed(problem.axes), reversed(problem.x_strides[2:]), strict=True):
        if axis.kernel > 1 and stride * axis.dilation != step:
            return False
        step *= axis.kernel
    are_dots = problem.channels == problem.groups == problem.out_channels and problem.taps >= _LEAST_TAPS
    return _is_matrix(problem) or are_dots


def plan_one_window(problem: Convolution) -> Plan:
    """Plan of a convolution whose windows are such."""
    element, outputs, lanes = problem.element, problem.out_channels, lanes_for(problem.element)
    if _is_matrix(problem):
        return plan_gemv(element, outputs, problem.channels * problem.taps, True, problem.low, problem.high)
    shape = row_shape(lanes, "dots")
    cycles = problem.images * outputs * (_DOT_CYCLES + _DOT_VECTOR_CYCLES * ceil_div(problem.taps, lanes))
    groups = ceil_div(outputs, shape[2])
    tasks = max(1, min(groups, int(cycles / _TASK_CYCLES / problem.images)))
    fields = {
        "outputs": outputs,
        "inputs": problem.taps,
        "pitch": problem.taps,
        "outputs_per_task": ceil_div(groups, tasks) * shape[2],
        "low": problem.low,
        "high": problem.high,
    }
    strides = *problem.x_strides[:2], problem.out_batch
    return _plan(element, shape, fields, cycles, problem.images, strides)


def is_gemv(plan: Plan) -> bool:
    """Whether a plan multiplies rows of weights by a vector, or by one each."""
    return plan.steps[-1].kernel.routine is gemv


def is_of_dots(plan: Plan) -> bool:
    """Whether it multiplies them by a vector each."""
    return is_gemv(plan) and plan.steps[-1].kernel.shape[0] == "dots"
