"""MaxPool, AveragePool, LpPool, their global forms, and MaxUnpool."""

from __future__ import annotations

from math import prod

import numpy as np

from fastpool import validation
from fastpool.adaptive import adaptive_maximum, adaptive_mean, adaptive_windows
from fastpool.dtypes import HALVES, POOLED
from fastpool.explain import never_read
from fastpool.geometry import Axis
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import (
    Arrays,
    Inputs,
    Kernel,
    Task,
    Value,
    constant_integers,
    operator,
    optional,
    required,
)
from fastpool.onnx.ops.windows import window_of
from fastpool.plans.chain import Run
from fastpool.pooling import Choice, bind
from fastpool.sum_pooling import norm_of

_INT64 = np.dtype(np.int64)


def _pooled(node: Node, inputs: Inputs, floats_only: bool) -> tuple[Value, int]:
    """The input, and its number of spatial axes."""
    x = required(node, inputs, "X")[0]
    if x.rank < 3:
        raise ModelError(f"{node.label}: x must have shape (N, C, ...), got {x.shape}")
    if x.rank > 5:
        raise Unsupported("more than three spatial axes")
    if (floats_only and x.dtype.kind in "iub") or (x.dtype not in POOLED and x.dtype.name != "bfloat16"):
        raise Unsupported(f"elements of {x.dtype}")
    validation.images(never_read(x.shape, x.dtype), x.rank - 2, POOLED)
    return x, x.rank - 2


def _windows(node: Node, x: Value, axes: int) -> tuple[Axis, ...]:
    """Windows of each axis, from the attributes that all poolings have."""
    window = window_of(node, axes)
    sizes, ceil_mode = x.shape[2:], node.attributes.flag("ceil_mode")
    pads = validation.pads(window.padding, sizes, window.kernel, window.stride, window.dilation)
    return validation.windows(sizes, window.kernel, window.stride, window.dilation, pads, ceil_mode, "kernel_shape")


def _kernel(
    x: Value, axes: int, choice: Choice, factor: np.ndarray | None = None, summand: np.ndarray | None = None
) -> Kernel:
    """A pooling, called by address; `factor` and `summand` are one for each channel."""
    bound = bind(never_read(x.shape, x.dtype), axes, POOLED[x.dtype], choice)
    outputs = [Value(bound.shape, bound.stored.dtype)]
    if choice.indices:
        outputs.append(Value(bound.shape, _INT64))

    def make(arrays: Arrays, results: Arrays) -> Task:
        plan = bound.plan
        if plan is None:
            return None
        source, target = arrays[0], results[0]
        if source.dtype in HALVES:
            source, target = source.view(np.int16), target.view(np.int16)
        return Run(plan, source, factor, summand, None, target, results[1] if choice.indices else None)

    parameters = 0 if factor is None else 2 * factor.size
    return Kernel(outputs, make, "pooling", parameters=parameters, makes_run=True)


@operator("MaxPool")
def max_pool(node: Node, inputs: Inputs) -> Kernel:
    """Maxima, and on request where they stand in the whole tensor."""
    x, axes = _pooled(node, inputs, False)
    windows = _windows(node, x, axes)
    by_columns = node.attributes.flag("storage_order")
    if len(node.outputs) < 2 or not node.outputs[1]:
        return _kernel(x, axes, Choice(windows, "max"))
    kernel = _kernel(x, axes, Choice(windows, "max", indices=True))
    shape, sizes = kernel.outputs[0].shape, x.shape[2:]
    starts = (np.arange(prod(shape[:2]), dtype=np.int64) * prod(sizes)).reshape(*shape[:2], *(1,) * axes)

    def make(arrays: Arrays, results: Arrays) -> Task:
        inner, where = kernel.make(arrays, results), results[1]

        def task() -> None:
            if inner is not None:
                inner()
            if by_columns:
                where[...] = np.ravel_multi_index(np.unravel_index(where, sizes), sizes, order="F")
            np.add(where, starts, out=where)

        return task

    return Kernel(kernel.outputs, make, "pooling with indices")


@operator("AveragePool")
def average_pool(node: Node, inputs: Inputs) -> Kernel:
    """Means; with a factor and a summand of each channel, which were merged into it, subsampling."""
    x, axes = _pooled(node, inputs, True)
    windows = _windows(node, x, axes)
    if node.merged:
        factor, summand = required(node, inputs, "X", "factor", "summand")[1:]
        if factor.data is None or summand.data is None:
            raise ModelError(f"{node.label}: its factors must be constants")
        if factor.dtype != x.dtype or summand.dtype != x.dtype:
            raise ModelError(
                f"{node.label}: its factors must have dtype {x.dtype}, got {factor.dtype} and {summand.dtype}"
            )
        if factor.shape != x.shape[1:2]:
            return _broadcast(node, _kernel(x, axes, Choice(windows, "sum", "mean")), factor.data, summand.data)
        weight = factor.data / x.dtype.type(prod(axis.kernel for axis in windows))
        return _kernel(x, axes, Choice(windows, "sum", "scale"), weight, summand.data)
    included = node.attributes.flag("count_include_pad")
    return _kernel(x, axes, Choice(windows, "sum", "mean" if included else "valid mean"))


def _broadcast(node: Node, mean: Kernel, factor: np.ndarray, summand: np.ndarray) -> Kernel:
    """Means of one channel, which several factors make several."""
    pooled = mean.outputs[0]
    if pooled.shape[1] != 1:
        raise ModelError(f"{node.label} cannot multiply {pooled.shape[1]} channels by {factor.size} factors")
    last = (-1, *(1,) * (pooled.rank - 2))

    def make(arrays: Arrays, results: Arrays) -> Task:
        out, means = results
        inner = mean.make(arrays, [means])

        def task() -> None:
            if inner is not None:
                inner()
            np.multiply(means, factor.reshape(last), out=out)
            np.add(out, summand.reshape(last), out=out)

        return task

    shape = (pooled.shape[0], factor.size, *pooled.shape[2:])
    return Kernel([Value(shape, pooled.dtype)], make, "pooling", scratch=[pooled])


def has_constant_divisor(node: Node, axes: int) -> bool:
    """Whether all windows of an average are divided by the same number."""
    padding = window_of(node, axes).padding
    is_padded = padding != "valid" and (isinstance(padding, str) or any(map(any, padding)))
    return not node.attributes.flag("ceil_mode") and not is_padded


@operator("LpPool")
def lp_pool(node: Node, inputs: Inputs) -> Kernel:
    """Lp norms."""
    x, axes = _pooled(node, inputs, True)
    return _kernel(x, axes, norm_of(_windows(node, x, axes), _norm_type(node)))


def _norm_type(node: Node) -> float:
    p = node.attributes.number("p", 2.0)
    if not p > 0:
        raise ModelError(f"{node.label}: the attribute 'p' must be above 0, got {p}")
    return p


@operator("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def global_pool(node: Node, inputs: Inputs) -> Kernel:
    """Each channel to one element."""
    x, axes = _pooled(node, inputs, node.op != "GlobalMaxPool")
    like = never_read(x.shape, x.dtype)
    if node.op == "GlobalMaxPool":
        return _kernel(x, axes, adaptive_maximum(like, axes, 1))
    if node.op == "GlobalAveragePool":
        return _kernel(x, axes, adaptive_mean(like, axes, 1))
    return _kernel(x, axes, norm_of(adaptive_windows(like, axes, 1), _norm_type(node)))


@operator("MaxUnpool")
def max_unpool(node: Node, inputs: Inputs) -> Kernel:
    """Maxima back to where they were found in the whole tensor, among zeros."""
    x, where = required(node, inputs, "X", "I")
    axes = x.rank - 2
    window = window_of(node, axes)
    if isinstance(window.padding, str):
        raise ModelError(f"{node.label}: the attribute 'auto_pad' is not one of MaxUnpool")
    if where.shape != x.shape or where.dtype != np.int64:
        raise ModelError(f"{node.label}: I must be int64 of shape {x.shape}, got {where.dtype} of {where.shape}")
    inferred = (
        *x.shape[:2],
        *(
            (size - 1) * s + k - sum(pad)
            for size, k, s, pad in zip(x.shape[2:], window.kernel, window.stride, window.padding, strict=True)
        ),
    )
    wanted = optional(inputs, 2)
    shape = inferred if wanted is None else tuple(constant_integers(node, wanted, "output_shape"))
    if len(shape) != x.rank or shape[:2] != x.shape[:2] or min(inferred) < 0:
        raise ModelError(f"{node.label} cannot make a result of shape {shape} from {x.shape}")
    # Indices count the elements of the shape that the pooling is known to have had; a larger one has zeros at its end.
    if any(most < least for most, least in zip(shape, inferred, strict=True)):
        raise ModelError(f"{node.label}: output_shape must be at least {inferred}, got {shape}")
    elements = prod(inferred)
    within = tuple(slice(0, size) for size in inferred)
    same = shape == inferred

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, places, out = arrays[0], arrays[1], outputs[0]

        def task() -> None:
            flat = places.reshape(-1)
            if flat.size and not 0 <= flat.min() <= flat.max() < elements:
                raise ModelError(f"{node.label}: indices must be in [0, {elements}), got {flat.min()} to {flat.max()}")
            out[...] = 0
            target = out if same else np.zeros(inferred, out.dtype)
            target.reshape(-1)[flat] = source.reshape(-1)
            if not same:
                out[within] = target

        return task

    return Kernel([Value(shape, x.dtype)], make, "pooling")
