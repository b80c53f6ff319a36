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
    operator,
    optional,
    required,
)
from fastpool.onnx.ops.scaling import scales, scaling
from fastpool.onnx.tensors import dtype_of

_BOOL = np.dtype(bool)


def _numbers(node: Node, x: Value, kinds: str = "iuf") -> None:
    if x.dtype.kind not in kinds or x.dtype.isbuiltin != 1:
        raise Unsupported(f"elements of {x.dtype}")


def _unary(x: Value, function: Callable[[np.ndarray, np.ndarray], object], **fields: Any) -> Kernel:
    """A kernel of a function (x, out) that may write over x."""

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        source, out = inputs[0], outputs[0]
        return lambda: function(source, out)

    return Kernel([Value(x.shape, x.dtype)], make, overwrites=(0,), **fields)


def bounds_of(node: Node, inputs: Inputs) -> tuple[float | None, float | None] | None:
    """Bounds of a Relu or a Clip, None if they are computed."""
    if node.op == "Relu":
        return 0.0, None
    if node.version < 11:
        low, high = (node.attributes.number(name, default) for name, default in (("min", -np.inf), ("max", np.inf)))
        limit = float(np.finfo(np.float32).max)
        return (None if low <= -limit else low), (None if high >= limit else high)
    found: list[float | None] = []
    for index in (1, 2):
        value = optional(inputs, index)
        if value is not None and value.data is None:
            return None
        if value is not None and value.size != 1:
            raise ModelError(f"{node.label}: its bounds must be single numbers, got shape {value.shape}")
        found.append(None if value is None else value.data.reshape(()).item())  # type: ignore[union-attr]
    return found[0], found[1]


@operator("Relu", "Clip")
def clip(node: Node, inputs: Inputs) -> Kernel:
    """Bounded elements."""
    x = required(node, inputs, "X")[0]
    _numbers(node, x)
    bounds = bounds_of(node, inputs)
    if bounds is None:

        def make(arrays: Arrays, outputs: Arrays) -> Task:
            source, *limits = arrays
            out = outputs[0]

            def task() -> None:
                np.copyto(out, source)
                for limit, ufunc in zip(limits, (np.maximum, np.minimum), strict=False):
                    if limit is not None:
                        ufunc(out, limit.reshape(()), out=out)

            return task

        return Kernel([Value(x.shape, x.dtype)], make)
    low, high = bounds
    if scales(x) and are_ordered(bounds):
        return Kernel([Value(x.shape, x.dtype)], scaling(x, None, None, bounds, False), "depthwise 1x1")

    def function(x: np.ndarray, out: np.ndarray) -> None:
        if low is not None:
            x = np.maximum(x, low, out=out, casting="unsafe")
        if high is not None:
            np.minimum(x, high, out=out, casting="unsafe")
        elif low is None:
            np.copyto(out, x)

    return _unary(x, function)


def are_ordered(bounds: tuple[float | None, float | None]) -> bool:
    """Whether a kernel takes these bounds: no NaN, the lower one first."""
    low, high = bounds
    return (-np.inf if low is None else low) <= (np.inf if high is None else high)


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
_OF_NUMBERS = ("Neg", "Abs", "Sign")


@operator(*_FUNCTIONS)
def unary(node: Node, inputs: Inputs) -> Kernel:
    """A function of each element."""
    x = required(node, inputs, "X")[0]
    if node.op in _OF_NUMBERS:
        _numbers(node, x)
    elif x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    return _unary(x, _FUNCTIONS[node.op])


@operator("HardSigmoid", "HardSwish")
def hard_sigmoid(node: Node, inputs: Inputs) -> Kernel:
    """A sigmoid of straight lines, and x times it."""
    x = required(node, inputs, "X")[0]
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    is_swish = node.op == "HardSwish"
    alpha = 1 / 6 if is_swish else node.attributes.number("alpha", 0.2)
    beta = 0.5 if is_swish else node.attributes.number("beta", 0.5)

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        source, out = inputs[0], outputs[0]

        def task() -> None:
            np.multiply(source, alpha, out=out)
            np.add(out, beta, out=out)
            np.maximum(out, 0, out=out)
            np.minimum(out, 1, out=out)
            if is_swish:
                np.multiply(out, source, out=out)

        return task

    return Kernel([Value(x.shape, x.dtype)], make, overwrites=() if is_swish else (0,))


@operator("LeakyRelu", "PRelu", "ThresholdedRelu", "Elu")
def leaky(node: Node, inputs: Inputs) -> Kernel:
    """Another function of the elements below zero."""
    x = required(node, inputs, "X")[0]
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    output = Value(x.shape, x.dtype)
    if node.op == "PRelu":
        slope = required(node, inputs, "X", "slope")[1]
        shape = slope.shape
        if node.version < 7 and slope.rank == 1 and x.rank > 1:
            shape = (-1, *(1,) * (x.rank - 2))
        elif np.broadcast_shapes(shape, x.shape) != x.shape:
            raise ModelError(f"{node.label}: slope must broadcast to {x.shape}, got {shape}")
    alpha = node.attributes.number("alpha", {"LeakyRelu": 0.01}.get(node.op, 1.0))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, (out, below) = arrays[0], outputs
        slopes = arrays[1].reshape(shape) if node.op == "PRelu" else alpha

        def task() -> None:
            if node.op == "ThresholdedRelu":
                np.copyto(out, source)
                np.copyto(out, 0, where=np.less_equal(source, alpha, out=below))
                return
            np.less(source, 0, out=below)
            if node.op == "Elu":
                np.minimum(source, 0, out=out)
                np.expm1(out, out=out)
                np.multiply(out, alpha, out=out)
            else:
                np.multiply(source, slopes, out=out)
            np.copyto(out, source, where=np.logical_not(below, out=below))

        return task

    return Kernel([output], make, scratch=[Value(x.shape, _BOOL)])


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
    _numbers(node, a, kinds)
    _numbers(node, b, kinds)
    if a.dtype != b.dtype and node.op != "Pow":
        raise ModelError(f"{node.label}: its inputs must have the same dtype, got {a.dtype} and {b.dtype}")
    turned = _legacy_shape(node, a, b)
    shape = broadcast(node, a.shape, turned)
    output = Value(shape, _BOOL if is_truth else a.dtype)
    if node.op == "Add" and a.shape == turned == shape and node.bounds is not None and scales(a):
        return Kernel([output], scaling(a, None, None, node.bounds, True), "depthwise 1x1")
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
        _numbers(node, value)
        if value.dtype != values[0].dtype:
            raise ModelError(f"{node.label}: its inputs must have the same dtype, got {values[0].dtype}, {value.dtype}")
    shape = broadcast(node, *(value.shape for value in values))
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
    _numbers(node, x, "b")
    return _unary(x, lambda x, out: np.logical_not(x, out=out))


@operator("Where")
def where(node: Node, inputs: Inputs) -> Kernel:
    """One of two elements."""
    condition, x, y = required(node, inputs, "condition", "X", "Y")
    _numbers(node, condition, "b")
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
    _numbers(node, x, "iufb")
    if dtype.isbuiltin != 1 or dtype.kind not in "iufb":
        raise Unsupported(f"{x.dtype} to {dtype}")
    if x.data is not None:
        return known(constant(x).astype(dtype))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0], outputs[0]
        return lambda: np.copyto(out, source, casting="unsafe")

    return Kernel([Value(x.shape, dtype)], make)
