"""MaxPool, AveragePool, LpPool, their global forms, and MaxUnpool."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

import fastpool
from fastpool import validation
from fastpool.dtypes import POOLED
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

_MAX = {1: fastpool.max_pool1d, 2: fastpool.max_pool2d, 3: fastpool.max_pool3d}
_AVERAGE = {1: fastpool.avg_pool1d, 2: fastpool.avg_pool2d, 3: fastpool.avg_pool3d}
_NORM = {1: fastpool.lp_pool1d, 2: fastpool.lp_pool2d, 3: fastpool.lp_pool3d}
_GLOBAL_MAX = {1: fastpool.global_max_pool1d, 2: fastpool.global_max_pool2d, 3: fastpool.global_max_pool3d}
_GLOBAL_AVERAGE = {1: fastpool.global_avg_pool1d, 2: fastpool.global_avg_pool2d, 3: fastpool.global_avg_pool3d}
_GLOBAL_NORM = {1: fastpool.global_lp_pool1d, 2: fastpool.global_lp_pool2d, 3: fastpool.global_lp_pool3d}


def _pooled(node: Node, inputs: Inputs, floats_only: bool) -> tuple[Value, int]:
    """The input, and its number of spatial axes."""
    x = required(node, inputs, "X")[0]
    if x.rank < 3:
        raise ModelError(f"{node.label}: x must have shape (N, C, ...), got {x.shape}")
    if x.rank > 5:
        raise Unsupported("more than three spatial axes")
    if (floats_only and x.dtype.kind in "iub") or (x.dtype not in POOLED and x.dtype.name != "bfloat16"):
        raise Unsupported(f"elements of {x.dtype}")
    return x, x.rank - 2


def _windowed(node: Node, x: Value, axes: int) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """Arguments that all poolings have, the shape of the result, and taps of a window."""
    window = window_of(node, axes)
    ceil_mode = node.attributes.flag("ceil_mode")
    pads = validation.pads(window.padding, x.shape[2:], window.kernel, window.stride, window.dilation)
    windows = validation.windows(
        x.shape[2:], window.kernel, window.stride, window.dilation, pads, ceil_mode, "kernel_shape"
    )
    options = {
        "kernel_size": window.kernel,
        "stride": window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
        "ceil_mode": ceil_mode,
    }
    return options, (*x.shape[:2], *(axis.out for axis in windows)), prod(window.kernel)


def _called(function: Any, output: Value, **options: Any) -> Kernel:
    """A kernel that calls one of the public functions."""

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        return partial(function, inputs[0], **options, out=outputs[0]) if outputs[0].size else None

    return Kernel([output], make, "pooling")


@operator("MaxPool")
def max_pool(node: Node, inputs: Inputs) -> Kernel:
    """Maxima, and on request where they stand in the whole tensor."""
    x, axes = _pooled(node, inputs, False)
    options, shape, _ = _windowed(node, x, axes)
    by_columns = node.attributes.flag("storage_order")
    function = _MAX[axes]
    output = Value(shape, x.dtype)
    if len(node.outputs) < 2 or not node.outputs[1]:
        return _called(function, output, **options)
    sizes, plane = x.shape[2:], prod(x.shape[2:])
    starts = (np.arange(prod(shape[:2]), dtype=np.int64) * plane).reshape(*shape[:2], *(1,) * axes)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, (values, indices) = arrays[0], outputs

        def task() -> None:
            _, where = function(source, **options, return_indices=True, out=values)
            if by_columns:
                where = np.ravel_multi_index(np.unravel_index(where, sizes), sizes, order="F")
            np.add(where, starts, out=indices)

        return task

    values = [output, Value(shape, np.dtype(np.int64))]
    if 0 in shape:
        return Kernel(values, lambda arrays, outputs: None)
    return Kernel(values, make, "pooling with indices")


@operator("AveragePool")
def average_pool(node: Node, inputs: Inputs) -> Kernel:
    """Means."""
    x, axes = _pooled(node, inputs, True)
    options, shape, _ = _windowed(node, x, axes)
    included = node.attributes.flag("count_include_pad")
    return _called(_AVERAGE[axes], Value(shape, x.dtype), **options, count_include_pad=included)


@operator("LpPool")
def lp_pool(node: Node, inputs: Inputs) -> Kernel:
    """Lp norms."""
    x, axes = _pooled(node, inputs, True)
    options, shape, _ = _windowed(node, x, axes)
    return _called(_NORM[axes], Value(shape, x.dtype), **options, norm_type=_norm_type(node))


def _norm_type(node: Node) -> float:
    p = node.attributes.number("p", 2.0)
    if not p > 0:
        raise ModelError(f"{node.label}: the attribute 'p' must be above 0, got {p}")
    return p


def _global(node: Node, inputs: Inputs, functions: dict[int, Any], floats_only: bool, **options: Any) -> Kernel:
    x, axes = _pooled(node, inputs, floats_only)
    if 0 in x.shape[1:]:
        raise Unsupported("an empty channel")
    return _called(functions[axes], Value((*x.shape[:2], *(1,) * axes), x.dtype), **options)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, inputs: Inputs) -> Kernel:
    """Maximum of each channel."""
    return _global(node, inputs, _GLOBAL_MAX, False)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, inputs: Inputs) -> Kernel:
    """Mean of each channel."""
    return _global(node, inputs, _GLOBAL_AVERAGE, True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, inputs: Inputs) -> Kernel:
    """Lp norm of each channel."""
    return _global(node, inputs, _GLOBAL_NORM, True, norm_type=_norm_type(node))


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
