"""What poolings of any rank have in common: windows of each channel become one element each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import contiguous, kernel_ready, result_array
from fastpool.dtypes import POOLED, ElementType, pooled_types
from fastpool.geometry import Axis
from fastpool.memo import Memo, options_key
from fastpool.plans.plan import Plan
from fastpool.plans.pooling import is_global, plan_global, plan_pooling
from fastpool.plans.windows import AdaptiveAxis, Pooling

_DEPTH = Axis(1, 1, 1, 1, 0, 0, 1)  # images have one depth


@dataclass(frozen=True)
class Choice:
    """What a pooling does: windows, operation, and what becomes of the combined value (see `Pooling`)."""

    axes: Sequence[Axis | AdaptiveAxis]
    operation: str
    finish: str = "plain"
    number: float = 1.0
    indices: bool = False


@dataclass(frozen=True)
class Bound:
    """What is decided for one shape of x; no plan for an empty batch."""

    plan: Plan | None
    shape: tuple[int, ...]
    computed: ElementType
    stored: ElementType
    indices: bool


_bounds = Memo()


def windows(
    x: np.ndarray, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Axis, ...]:
    """Windows of each axis, from the arguments that every pooling has."""
    kernel = validation.per_axis(kernel_size, "kernel_size", axes, 1)
    steps = validation.stride_or_kernel(stride, kernel)
    spread = validation.per_axis(dilation, "dilation", axes, 1)
    ceil = validation.flag(ceil_mode, "ceil_mode")
    sizes = x.shape[-axes:]
    pads = validation.pads(padding, sizes, kernel, steps, spread)
    return validation.windows(sizes, kernel, steps, spread, pads, ceil, "kernel_size")


def pool(
    x: Any,
    axes: int,
    choose: Callable[..., Choice],
    *options: Any,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> Any:
    """Pool x as ``choose(x, axes, *options)`` says; what it says is remembered. A pair, where indices are asked for."""
    bound: Bound | None = None
    ready, plain = x, options_key(*options)
    if type(x) is np.ndarray and x.flags.aligned:  # what has been checked once is not checked again
        bound = _bounds.get((choose, axes, x.shape, x.strides, x.dtype, plain))
    if bound is None:
        validation.images(x, axes, POOLED)
        element = validation.element_type(x, POOLED)
        ready = kernel_ready(x, element)
        key = None if plain is None else (choose, axes, ready.shape, ready.strides, element.dtype, plain)
        bound = _bounds.get(key)
        if bound is None:
            bound = _bounds.keep(key, bind(ready, axes, element, choose(x, axes, *options)))
            assert bound is not None
    if out is None:
        result = written = np.empty(bound.shape, bound.stored.dtype)
    else:
        validation.out(out, bound.shape, x, bound.stored, weight=weight, bias=bias)
        result, written = result_array(out, bound.shape, bound.stored)
    where = np.empty(bound.shape, np.int64) if bound.indices else None
    if bound.plan is not None:
        find = runtime.engine().address
        weights = None if weight is None else contiguous(weight, bound.computed)
        biases = None if bias is None else contiguous(bias, bound.computed)
        bound.plan.run(
            find(ready),
            0 if weights is None else find(weights),
            0 if biases is None else find(biases),
            0,
            find(written),
            0 if where is None else find(where),
        )
    if result is not written:
        result[...] = written
    return result if where is None else (result, where)


def bind(x: np.ndarray, rank: int, element: ElementType, choice: Choice) -> Bound:
    """Decide for x, whose elements kernels can take as they are."""
    operation = "all" if choice.operation == "min" and x.dtype == np.bool_ else choice.operation
    computed, stored = pooled_types(element, operation, (operation, choice.finish) == ("sum", "plain"))
    name = "output_size" if isinstance(choice.axes[0], AdaptiveAxis) else "padding"
    shape = validation.result_shape((*x.shape[:-rank], *(axis.out for axis in choice.axes)), stored, name)
    if 0 in shape:
        return Bound(None, shape, computed, stored, choice.indices)
    batched = x if x.ndim == rank + 2 else x[np.newaxis]
    steps = [step // element.size for step in batched.strides]
    lifted = (_DEPTH,) * (3 - rank) + tuple(choice.axes)
    problem = Pooling(
        computed,
        element,
        batched.shape[0],
        batched.shape[1],
        (lifted[0], lifted[1], lifted[2]),
        (steps[0], steps[1], *(0,) * (3 - rank), *steps[2:]),  # type: ignore[arg-type]
        operation,
        choice.finish,
        choice.number,
        choice.indices,
    )
    plan = plan_global(problem) if is_global(problem) else plan_pooling(problem)
    return Bound(plan, shape, computed, stored, choice.indices)
