"""Activations: Relu and its kin, sigmoids and what is made of them."""

from __future__ import annotations

import numpy as np

from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value, numbers, operator, optional, required, unary
from fastpool.onnx.ops.pointwise import has_kernel, paired, pointwise


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
    numbers(node, x)
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
    if has_kernel(x, "clip") and are_ordered(bounds):
        return pointwise(x, "clip", bounds=bounds)

    def function(x: np.ndarray, out: np.ndarray) -> None:
        if low is not None:
            x = np.maximum(x, low, out=out, casting="unsafe")
        if high is not None:
            np.minimum(x, high, out=out, casting="unsafe")
        elif low is None:
            np.copyto(out, x)

    return unary(x, function)


def are_ordered(bounds: tuple[float | None, float | None]) -> bool:
    """Whether a kernel takes these bounds: no NaN, the lower one first."""
    low, high = bounds
    return (-np.inf if low is None else low) <= (np.inf if high is None else high)


@operator("HardSigmoid", "HardSwish")
def hard_sigmoid(node: Node, inputs: Inputs) -> Kernel:
    """A sigmoid of straight lines, and x times it."""
    x = required(node, inputs, "X")[0]
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    is_swish = node.op == "HardSwish"
    alpha = 1 / 6 if is_swish else node.attributes.number("alpha", 0.2)
    beta = 0.5 if is_swish else node.attributes.number("beta", 0.5)

    return pointwise(x, node.op.lower(), alpha, beta)


@operator("Swish")
def swish(node: Node, inputs: Inputs) -> Kernel:
    """A value times its sigmoid."""
    x = required(node, inputs, "X")[0]
    if x.dtype not in FLOATS or node.attributes.number("alpha", 1.0) != 1:
        raise Unsupported("another form")
    if has_kernel(x, "swish"):
        return pointwise(x, "swish")
    return unary(x, lambda x, out: np.divide(x, 1 + np.exp(-x), out=out))


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
            shape = (slope.size, *(1,) * (x.rank - 2))
        if slope.dtype != x.dtype:
            raise ModelError(f"{node.label}: its inputs must have the same dtype, got {x.dtype} and {slope.dtype}")
        if np.broadcast_shapes(shape, x.shape) != x.shape:
            raise ModelError(f"{node.label}: slope must broadcast to {x.shape}, got {shape}")
    alpha = node.attributes.number("alpha", {"LeakyRelu": 0.01}.get(node.op, 1.0))
    if node.op == "LeakyRelu":
        return pointwise(x, "leaky", alpha)
    if node.op == "PRelu":
        kernel = paired("prelu", x, slope, shape, x.shape, None)
        if kernel is not None:
            return kernel

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

    return Kernel([output], make, scratch=[Value(x.shape, np.dtype(bool))])
