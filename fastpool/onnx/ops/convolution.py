"""Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

import fastpool
from fastpool.arrays import contiguous
from fastpool.dtypes import FLOATS
from fastpool.explain import never_read
from fastpool.geometry import extent
from fastpool.layer import are_finite, layer_for
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value, operator, optional, required
from fastpool.onnx.ops.prepared import Prepared
from fastpool.onnx.ops.windows import window_of
from fastpool.plans.chain import Run
from fastpool.transposed_layer import TransposedWeights, transposed_layer_for

_FUNCTIONS = {1: fastpool.conv1d, 2: fastpool.conv2d, 3: fastpool.conv3d}
_TRANSPOSED = {1: fastpool.conv_transpose1d, 2: fastpool.conv_transpose2d, 3: fastpool.conv_transpose3d}
_FLOAT32 = np.dtype(np.float32)


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is a float of 16 bits, which is computed in float32."""
    return dtype.name in ("float16", "bfloat16")


def checked(node: Node, x: Value, weight: Value) -> int:
    """Number of spatial axes; refuse ranks that do not fit each other."""
    if weight.rank != x.rank or x.rank < 3:
        raise ModelError(
            f"{node.label}: x and its weights must have the same rank from 3 on, got {x.shape}, {weight.shape}"
        )
    if x.rank > 5:
        raise Unsupported("more than three spatial axes")
    return x.rank - 2


@operator("Conv")
def conv(node: Node, inputs: Inputs) -> Kernel:
    """Convolution, with the residual and the activation that were merged into it."""
    x, weight = required(node, inputs, "X", "W")
    bias = optional(inputs, 2)
    axes = checked(node, x, weight)
    if weight.dtype != x.dtype:
        raise ModelError(f"{node.label}: x and its weights must have the same dtype, got {x.dtype} and {weight.dtype}")
    if x.dtype not in FLOATS:
        return _half(node, inputs)
    window = window_of(node, axes, weight.shape[2:])
    groups = node.attributes.integer("group", 1, 1)
    options = (window.stride, window.padding, window.dilation, groups, "zeros", node.bounds, "auto")
    work = prod(weight.shape[1:])
    if weight.data is None or (bias is not None and bias.data is None):
        return _unprepared(node, inputs, axes, options, work)
    prepared = prepare(node, weight.data, None if bias is None else bias.data, options)
    shape = prepared.shape(x.shape)
    return Kernel(
        [Value(shape, x.dtype)],
        prepared_task(prepared, node.has_residual),
        lambda: prepared.algorithm(x.shape, node.has_residual),
        prod(shape) * work,
        prod(weight.shape) + (0 if bias is None else prod(bias.shape)),
        makes_run=True,
    )


def prepare(node: Node, weight: np.ndarray, bias: np.ndarray | None, options: tuple[Any, ...]) -> Prepared:
    """Give a node's convolution, with the weights that were packed for other shapes of x."""
    found: Prepared | None = node.state.get(options)
    if found is None or found.source is not weight:
        _check_bias(node, bias, weight)
        found = node.state[options] = Prepared(weight, bias, *options)
    elif bias is not None:  # which may be one that was computed for these inputs
        _check_bias(node, bias, weight)
        found = found.with_bias(bias)
    return found


def _check_bias(node: Node, bias: np.ndarray | None, weight: np.ndarray) -> None:
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        raise ModelError(
            f"{node.label}: its bias must have shape {weight.shape[:1]} and dtype {weight.dtype}, "
            f"got {bias.shape} and {bias.dtype}"
        )


def prepared_task(prepared: Prepared, has_residual: bool) -> Any:
    """What binds a prepared convolution to arrays."""

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        if not outputs[0].size:
            return None
        return prepared.task(inputs[0], inputs[-1] if has_residual else None, outputs[0])

    return make


def _unprepared(node: Node, inputs: Inputs, axes: int, options: tuple[Any, ...], work: int) -> Kernel:
    """Weights that are computed: a call of the function."""
    x, weight = required(node, inputs, "X", "W")
    function = _FUNCTIONS[axes]
    layer = layer_for(never_read(weight.shape, weight.dtype), axes, *options, False, False)
    shape = layer.result_shape(never_read(x.shape, x.dtype))[1]
    has_bias = optional(inputs, 2) is not None
    *arguments, mode, activation, algorithm = options
    given = {"padding_mode": mode, "activation": activation, "algorithm": algorithm}

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        bias = arrays[2] if has_bias else None
        residual = arrays[-1] if node.has_residual else None
        return lambda: function(
            arrays[0],
            arrays[1],
            bias,
            *arguments,
            residual=residual,
            out=outputs[0],
            **given,
        )

    return Kernel([Value(shape, x.dtype)], make, "weights packed in every run", prod(shape) * work)


def _half(node: Node, inputs: Inputs) -> Kernel:
    """16-bit floats: computed in float32 and rounded at the end."""
    x = required(node, inputs, "X")[0]
    if not is_half(x.dtype):
        raise Unsupported(f"elements of {x.dtype}")
    widened = [
        None if v is None else Value(v.shape, _FLOAT32, None if v.data is None else v.data.astype(_FLOAT32))
        for v in inputs
    ]
    kernel = conv(node, widened)
    wide = [Value(v.shape, _FLOAT32) for v in (*[v for v in inputs if v is not None], *kernel.outputs)]

    def make(arrays: Arrays, results: Arrays) -> Task:
        given, target = [a for a in arrays if a is not None], results[0]
        copies = results[1:]
        feeds = iter(copies)
        inner = kernel.make([None if a is None else next(feeds) for a in arrays], [copies[len(given)]])

        def task() -> None:
            for source, copy in zip(given, copies, strict=False):
                copy[...] = source
            if inner is not None:
                inner()
            target[...] = copies[len(given)]

        return task

    return Kernel(
        [Value(kernel.outputs[0].shape, x.dtype)],
        make,
        "in float32",
        kernel.multiply_adds,
        kernel.parameters,
        scratch=wide,
    )


@operator("ConvTranspose")
def conv_transpose(node: Node, inputs: Inputs) -> Kernel:
    """Transposed convolution."""
    x, weight = required(node, inputs, "X", "W")
    axes = checked(node, x, weight)
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    window = window_of(node, axes, weight.shape[2:])
    groups = node.attributes.integer("group", 1, 1)
    extra = node.attributes.integers("output_padding", axes, 0) or [0] * axes
    wanted = node.attributes.integers("output_shape")
    if wanted is not None:
        if len(wanted) not in (axes, axes + 2):
            raise ModelError(f"{node.label}: the attribute 'output_shape' must have {axes} integers, got {wanted}")
        wanted = wanted[-axes:]
    pads, natural = [], []
    for axis, (size, k, s, d, more) in enumerate(
        zip(x.shape[2:], window.kernel, window.stride, window.dilation, extra, strict=True)
    ):
        full = s * (size - 1) + more + extent(k, d)
        if wanted is None and not isinstance(window.padding, str):
            pad = window.padding[axis]
        elif wanted is None and window.padding == "valid":
            pad = (0, 0)
        else:
            total = max(0, full - (size * s if wanted is None else wanted[axis]))
            half = total // 2
            pad = (half, total - half) if window.padding == "same_upper" else (total - half, half)
        pads.append(pad)
        natural.append(full - sum(pad))
    sizes = natural if wanted is None else wanted
    channels = weight.shape[1] * groups
    shape = (x.shape[0], channels, *sizes)
    if min(sizes) < 1 or any(most < least for most, least in zip(sizes, natural, strict=True)):
        raise ModelError(f"{node.label} cannot make a result of shape {shape}")
    bias = optional(inputs, 2)
    options = (window.stride, pads, extra, groups, window.dilation, node.bounds)
    # What the windows do not reach of an output that is asked to be larger holds the bias.
    is_larger = list(sizes) != natural
    is_constant = weight.data is not None and (bias is None or bias.data is not None) and weight.dtype == x.dtype
    is_prepared = is_constant and not is_larger
    if is_prepared:
        make = _prepared_transposed(node, weight, bias, options, channels)
    else:
        make = _unprepared_transposed(axes, bias is not None, options, natural, is_larger)
    return Kernel(
        [Value(shape, x.dtype)],
        make,
        "by phases or overlapping sums" if is_prepared else "weights packed in every run",
        prod(x.shape) * prod(weight.shape[1:]),
        prod(weight.shape) if weight.data is not None else 0,
        makes_run=is_prepared,
    )


Make = Callable[[Arrays, Arrays], Task]


def _prepared_transposed(
    node: Node, weight: Value, bias: Value | None, options: tuple[Any, ...], channels: int
) -> Make:
    """What binds a transposed convolution of constant weights, packed once for each plan that reads them."""
    array, added = weight.data, None if bias is None else bias.data
    assert array is not None
    if added is not None and (added.shape != (channels,) or added.dtype != array.dtype):
        raise ModelError(
            f"{node.label}: its bias must have shape {(channels,)} and dtype {array.dtype}, "
            f"got {added.shape} and {added.dtype}"
        )
    key = repr(options)
    known = node.state.get(key)
    if known is None or known[0] is not array or known[1] is not added:
        layer = transposed_layer_for(array, array.dtype, *options, True, are_finite(array))
        known = array, added, TransposedWeights(layer, contiguous(array, layer.element), added)
        node.state[key] = known
    weights: TransposedWeights = known[2]

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        if not outputs[0].size:
            return None
        planned = weights.layer.bind(inputs[0]).planned
        packed, biases, filters = weights.arrays(planned)
        return Run(planned.plan, inputs[0], packed, biases, None, outputs[0], None, filters)

    return make


def _unprepared_transposed(
    axes: int, has_bias: bool, options: tuple[Any, ...], natural: list[int], is_larger: bool
) -> Make:
    """Weights that are computed, or a part of the output only: a call of the function."""
    function = _TRANSPOSED[axes]
    *arguments, bounds = options
    low, high = bounds or (None, None)
    within = (..., *(slice(0, size) for size in natural))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        bias = arrays[2] if has_bias else None
        out = outputs[0]

        def task() -> None:
            if is_larger:
                nothing = np.zeros(1, out.dtype) if bias is None else bias.reshape(-1, *(1,) * axes)
                out[...] = np.clip(nothing, low, high)
            function(arrays[0], arrays[1], bias, *arguments, activation=bounds, out=out[within])

        return task

    return make
