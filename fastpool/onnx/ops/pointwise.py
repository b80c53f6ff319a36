"""Functions of each element in fastpool's kernel, of one value or of two of which one may be broadcast."""

from __future__ import annotations

from math import prod
from typing import Any

from fastpool import validation
from fastpool.dtypes import FLOATS
from fastpool.onnx.ops.operator import Arrays, Kernel, Task, Value
from fastpool.onnx.ops.prepared import Bounds
from fastpool.plans.chain import Run
from fastpool.plans.elementwise import Function, Operands, is_computed, plan_elementwise


def has_kernel(x: Value, name: str) -> bool:
    """Whether the kernel has a function of x's elements."""
    return x.dtype in FLOATS and is_computed(name, FLOATS[x.dtype])


def pointwise(x: Value, name: str, alpha: float = 0.0, beta: float = 0.0, bounds: Bounds = None) -> Kernel:
    """A function of each element of x."""
    low, high = validation.activation(bounds)
    function, operands = Function(name, alpha, beta, low, high), Operands(1, x.size)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        if not x.size:
            return None
        return Run(plan_elementwise(FLOATS[x.dtype], function, operands), arrays[0], out=outputs[0])

    return Kernel([Value(x.shape, x.dtype)], make, "elementwise", overwrites=(0,), makes_run=True)


def operands_of(shape: tuple[int, ...], second: tuple[int, ...]) -> Operands | None:
    """How the elements of a second array lie beside those of `shape`; None where that is not so simple.

    It may have one axis, or several in a row, and be broadcast along all others.
    """
    second = (1,) * (len(shape) - len(second)) + second
    if len(second) != len(shape) or any(size not in (1, own) for own, size in zip(shape, second, strict=True)):
        return None
    own = [axis for axis, size in enumerate(second) if size > 1]
    if not own:
        return Operands(1, prod(shape), "plane")
    first, last = own[0], own[-1] + 1
    if second[first:last] != shape[first:last]:
        return None
    outer, period, inner = prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])
    if inner > 1:
        return Operands(outer * period, inner, "plane", period)
    return Operands(outer, period, "array", 1, 0 if outer > 1 else period)


def paired(
    name: str,
    a: Value,
    b: Value,
    b_shape: tuple[int, ...],
    shape: tuple[int, ...],
    bounds: Bounds,
    commutes: bool = False,
) -> Kernel | None:
    """A function of the elements of a and b, which is seen in `b_shape`; None where the kernel does not have it."""
    order = (0, 1) if a.shape == shape or not commutes else (1, 0)
    full, other = (a.shape, b_shape) if order == (0, 1) else (b_shape, a.shape)
    operands = operands_of(shape, other) if full == shape and 0 not in shape else None
    if operands is None or a.dtype != b.dtype or not has_kernel(a, name):
        return None
    low, high = validation.activation(bounds)
    plan = plan_elementwise(FLOATS[a.dtype], Function(name, low=low, high=high), operands)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        x, y = (arrays[index] for index in order)
        return Run(plan, x, y, out=outputs[0])

    places: Any = tuple(i for i, value in enumerate((a, b)) if value.shape == shape and value.data is None)
    return Kernel([Value(shape, a.dtype)], make, "elementwise", overwrites=places, makes_run=True)
