"""Operators that treat each element on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import (
    Arrays,
    Inputs,
    Kernel,
    Task,
    Value,
    constant,
    known,
    numbers,
    operator,
    required,
    unary,
)
from fastpool.onnx.ops.pointwise import has_kernel, paired, pointwise
from fastpool.onnx.tensors import dtype_of

_BOOL = np.dtype(bool)


def _sigmoid(x: np.ndarray, out: np.ndarray) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.reciprocal(out, out=out)


#: Operator -> function (x, out) that may write over x.
_FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "Sigmoid": _sigmoid,
    "Tanh": lambda x, out: np.tanh(x, out=out),
    "Exp": lambda x, out: np.exp(x, out=out),
    "Log": lambda x, out: np.log(x, out=out),
    "Sqrt": lambda x, out: np.sqrt(x, out=out),
    "Reciprocal": lambda x, out: np.reciprocal(x, out=out),
    "Softsign": lambda x, out: np.copyto(out, x / (1 + np.abs(x))),
    "Softplus": lambda x, out: np.logaddexp(x, 0, out=out),
    "Sin": lambda x, out: np.sin(x, out=out),
    "Cos": lambda x, out: np.cos(x, out=out),
    "Floor": lambda x, out: np.floor(x, out=out),
    "Ceil": lambda x, out: np.ceil(x, out=out),
    "Round": lambda x, out: np.rint(x, out=out),
    "Neg": lambda x, out: np.negative(x, out=out),
    "Abs": lambda x, out: np.abs(x, out=out),
    "Sign": lambda x, out: np.sign(x, out=out),
}
_SMOOTH = ("sigmoid", "tanh")
_OF_NUMBERS = ("Neg", "Abs", "Sign")


@operator(*_FUNCTIONS)
def function(node: Node, inputs: Inputs) -> Kernel:
    """A function of each element."""
    x = required(node, inputs, "X")[0]
    if node.op in _OF_NUMBERS:
        numbers(node, x)
    elif x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    name = node.op.lower()
    if name in _SMOOTH and has_kernel(x, name):
        return pointwise(x, name)
    return unary(x, _FUNCTIONS[node.op])


def _quotient(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Division; of integers towards zero."""
    if out.dtype.kind == "f":
        np.divide(a, b, out=out)
    elif out.dtype.kind == "u":
        np.floor_divide(a, b, out=out)
    else:
        quotient = np.floor_divide(a, b)
        np.add(quotient, (quotient < 0) & (quotient * b != a), out=out)


#: Operator -> (function (a, b, out), whether the result is a truth value, kinds of dtypes).
_BINARY: dict[str, tuple[Callable[..., object], bool, str]] = {
    "Add": (lambda a, b, out: np.add(a, b, out=out), False, "iuf"),
    "Sub": (lambda a, b, out: np.subtract(a, b, out=out), False, "iuf"),
    "Mul": (lambda a, b, out: np.multiply(a, b, out=out), False, "iuf"),
    "Div": (_quotient, False, "iuf"),
    "Pow": (lambda a, b, out: np.power(a, b, out=out, casting="unsafe"), False, "f"),
    "Equal": (lambda a, b, out: np.equal(a, b, out=out), True, "iufb"),
    "Less": (lambda a, b, out: np.less(a, b, out=out), True, "iuf"),
    "Greater": (lambda a, b, out: np.greater(a, b, out=out), True, "iuf"),
    "LessOrEqual": (lambda a, b, out: np.less_equal(a, b, out=out), True, "iuf"),
    "GreaterOrEqual": (lambda a, b, out: np.greater_equal(a, b, out=out), True, "iuf"),
    "And": (lambda a, b, out: np.logical_and(a, b, out=out), True, "b"),
    "Or": (lambda a, b, out: np.logical_or(a, b, out=out), True, "b"),
}


#: Those that the kernel has.
_PAIRED = ("Add", "Sub", "Mul", "Div")


def broadcast(node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of several that are broadcast."""
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise ModelError(f"{node.label} cannot broadcast {', '.join(map(str, shapes))}") from None


@operator(*_BINARY)
def binary(node: Node, inputs: Inputs) -> Kernel:
    """A function of two elements, and the activation that was merged into an addition."""
    a, b = required(node, inputs, "A", "B")
    function, is_truth, kinds = _BINARY[node.op]
    numbers(node, a, kinds)
    numbers(node, b, kinds)
    if a.dtype != b.dtype and node.op != "Pow":
        raise ModelError(f"{node.label}: its inputs must have the same dtype, got {a.dtype} and {b.dtype}")
    turned = _legacy_shape(node, a, b)
    shape = broadcast(node, a.shape, turned)
    output = Value(shape, _BOOL if is_truth else a.dtype)
    if node.op in _PAIRED:
        kernel = paired(node.op.lower(), a, b, turned, shape, node.bounds, node.op in ("Add", "Mul"))
        if kernel is not None:
            return kernel
    reshapes = turned != b.shape
    low, high = node.bounds or (None, None)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        x, y, out = arrays[0], arrays[1], outputs[0]
        y = y.reshape(turned) if reshapes else y
        if low is None and high is None:
            return lambda: function(x, y, out)

        def task() -> None:
            function(x, y, out)
            np.clip(out, low, high, out=out)

        return task

    if a.data is not None and b.data is not None:
        overwrites: tuple[int, ...] = ()
    else:
        overwrites = tuple(i for i, v in enumerate((a, b)) if v.shape == shape and v.dtype == output.dtype)
    return Kernel([output], make, overwrites=() if node.op == "Div" and a.dtype.kind != "f" else overwrites)


def _legacy_shape(node: Node, a: Value, b: Value) -> tuple[int, ...]:
    """Shape of b for NumPy's rule; before version 7 an attribute says where its axes go."""
    if node.version >= 7 or not node.attributes.flag("broadcast") or "axis" not in node.attributes:
        return b.shape
    axis = node.attributes.integer("axis", 0)
    axis = axis + a.rank if axis < 0 else axis
    if not 0 <= axis <= a.rank - b.rank:
        raise ModelError(f"{node.label}: the attribute 'axis' does not place {b.shape} within {a.shape}")
    return (*b.shape, *(1,) * (a.rank - axis - b.rank))


@operator("Sum", "Max", "Min", "Mean")
def several(node: Node, inputs: Inputs) -> Kernel:
    """A function of one or more elements."""
    values = [value for value in inputs if value is not None]
    if not values:
        raise ModelError(f"{node.label} has no inputs")
    for value in values:
        numbers(node, value)
        if value.dtype != values[0].dtype:
            raise ModelError(f"{node.label}: its inputs must have the same dtype, got {values[0].dtype}, {value.dtype}")
    shape = broadcast(node, *(value.shape for value in values))
    if node.op == "Sum" and len(values) == 2:
        kernel = paired("add", values[0], values[1], values[1].shape, shape, None, True)
        if kernel is not None:
            return kernel
    ufunc: Any = {"Max": np.maximum, "Min": np.minimum}.get(node.op, np.add)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        out = outputs[0]

        def task() -> None:
            if len(arrays) == 1:
                np.copyto(out, arrays[0])
            else:
                ufunc(arrays[0], arrays[1], out=out)
            for array in arrays[2:]:
                ufunc(out, array, out=out)
            if node.op == "Mean":
                np.divide(out, len(arrays), out=out, casting="unsafe")

        return task

    return Kernel([Value(shape, values[0].dtype)], make)


@operator("Not")
def logical_not(node: Node, inputs: Inputs) -> Kernel:
    """Negation."""
    x = required(node, inputs, "X")[0]
    numbers(node, x, "b")
    return unary(x, lambda x, out: np.logical_not(x, out=out))


@operator("Where")
def where(node: Node, inputs: Inputs) -> Kernel:
    """One of two elements."""
    condition, x, y = required(node, inputs, "condition", "X", "Y")
    numbers(node, condition, "b")
    if x.dtype != y.dtype or x.dtype.isbuiltin != 1:
        raise Unsupported(f"elements of {x.dtype} and {y.dtype}")
    shape = broadcast(node, condition.shape, x.shape, y.shape)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        out = outputs[0]

        def task() -> None:
            np.copyto(out, arrays[2])
            np.copyto(out, arrays[1], where=arrays[0])

        return task

    return Kernel([Value(shape, x.dtype)], make)


@operator("Cast")
def cast(node: Node, inputs: Inputs) -> Kernel:
    """Elements of another type."""
    x = required(node, inputs, "input")[0]
    if node.version < 6:
        raise Unsupported("a type by name")
    dtype = dtype_of(node.attributes.integer("to", 0), node.label)
    numbers(node, x, "iufb")
    if dtype.isbuiltin != 1 or dtype.kind not in "iufb":
        raise Unsupported(f"{x.dtype} to {dtype}")
    if x.data is not None:
        return known(constant(x).astype(dtype))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0], outputs[0]
        return lambda: np.copyto(out, source, casting="unsafe")

    return Kernel([Value(x.shape, dtype)], make)
