"""ConvInteger and QLinearConv: 8-bit products in int32 sums; and the change between integers and floats."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

import fastpool
from fastpool.explain import never_read
from fastpool.layer import layer_for
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.convolution import checked
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value, axis_of, operator, optional, required
from fastpool.onnx.ops.windows import window_of

_FUNCTIONS = {1: fastpool.conv1d, 2: fastpool.conv2d, 3: fastpool.conv3d}
_INT32 = np.dtype(np.int32)


def _eight_bits(node: Node, *values: Value) -> None:
    for value in values:
        if value.dtype not in (np.int8, np.uint8):
            raise Unsupported(f"elements of {value.dtype}")


def _sums(node: Node, x: Value, weight: Value) -> tuple[tuple[int, ...], Any, int]:
    """Shape of the convolution, a function that computes it in int32 from arrays and zero points, multiply-adds."""
    axes = checked(node, x, weight)
    window = window_of(node, axes, weight.shape[2:])
    groups = node.attributes.integer("group", 1, 1)
    options = (window.stride, window.padding, window.dilation, groups)
    layer = layer_for(never_read(weight.shape, np.dtype(np.int16)), axes, *options, "zeros", None, "auto", False, False)
    shape = layer.result_shape(never_read(x.shape, np.dtype(np.int16)))[1]
    function = _FUNCTIONS[axes]

    def convolve(x: np.ndarray, weight: np.ndarray, x_zero: Any, w_zero: Any, bias: np.ndarray | None) -> np.ndarray:
        # What pads x is its zero point, so that it has to be subtracted first. Without one, 8 bits stay 8 bits.
        if x_zero is not None and x_zero.any():
            x = np.subtract(x, x_zero, dtype=np.int16)
        if w_zero is not None and w_zero.any():
            weight = np.subtract(weight, w_zero.reshape(-1, *(1,) * (weight.ndim - 1)), dtype=np.int16)
        sums = function(x, weight, bias, *options)
        return sums.astype(np.int32, copy=False)

    return shape, convolve, prod(shape) * prod(weight.shape[1:])


def _check_points(node: Node, *points: tuple[str, Value | None, int]) -> None:
    """Refuse scales and zero points that are neither one number nor one for each channel."""
    for name, value, channels in points:
        if value is not None and value.shape not in ((), (1,), (channels,)):
            raise ModelError(f"{node.label}: {name} must be one number or {channels}, got shape {value.shape}")


@operator("ConvInteger")
def conv_integer(node: Node, inputs: Inputs) -> Kernel:
    """Convolution of integers of 8 bits, less their zero points."""
    x, weight = required(node, inputs, "x", "w")
    _eight_bits(node, x, weight)
    shape, convolve, work = _sums(node, x, weight)
    _check_points(
        node, ("x_zero_point", optional(inputs, 2), 1), ("w_zero_point", optional(inputs, 3), weight.shape[0])
    )

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        x_zero, w_zero = (*arrays[2:], None, None)[:2]
        out = outputs[0]
        return lambda: np.copyto(out, convolve(arrays[0], arrays[1], x_zero, w_zero, None))

    return Kernel([Value(shape, _INT32)], make, "direct, 8 bits", work, prod(weight.shape))


@operator("QLinearConv")
def qlinear_conv(node: Node, inputs: Inputs) -> Kernel:
    """Convolution of scaled integers to scaled integers: rounded half to even, then saturated."""
    names = ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point")
    x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero = required(node, inputs, *names)
    _eight_bits(node, x, weight, y_zero)
    shape, convolve, work = _sums(node, x, weight)
    outs = weight.shape[0]
    _check_points(
        node,
        ("x_scale", x_scale, 1),
        ("x_zero_point", x_zero, 1),
        ("w_scale", w_scale, outs),
        ("w_zero_point", w_zero, outs),
        ("y_scale", y_scale, 1),
        ("y_zero_point", y_zero, 1),
    )
    bias = optional(inputs, 8)
    if bias is not None and (bias.shape != (outs,) or bias.dtype != np.int32):
        raise ModelError(f"{node.label}: B must be int32 of shape ({outs},), got {bias.dtype} of {bias.shape}")
    limits = np.iinfo(y_zero.dtype)
    last = (-1, *(1,) * (x.rank - 2))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, sx, zx, weights, sw, zw, sy, zy, *rest = arrays
        out, added = outputs[0], rest[0] if rest else None

        def task() -> None:
            sums = convolve(source, weights, zx, zw, added)
            scale = (sx.reshape(()).astype(np.float32) * sw.astype(np.float32).reshape(last)) / sy.reshape(())
            scaled = np.rint(np.multiply(sums, scale, dtype=np.float32))
            scaled += zy.reshape(())
            np.copyto(out, np.clip(scaled, limits.min, limits.max, out=scaled), casting="unsafe")

        return task

    return Kernel([Value(shape, y_zero.dtype)], make, "direct, 8 bits", work, prod(weight.shape))


def _broadcast(node: Node, x: Value, scale: Value) -> tuple[int, ...]:
    """Shape in which scales and zero points meet x."""
    if scale.shape in ((), (1,)):
        return ()
    if scale.rank != 1 or "block_size" in node.attributes:
        raise Unsupported("scales of blocks")
    axis = axis_of(node, node.attributes.integer("axis", 1), x.rank)
    if scale.shape != (x.shape[axis],):
        raise ModelError(f"{node.label}: its scale must have shape ({x.shape[axis]},), got {scale.shape}")
    return (-1, *(1,) * (x.rank - axis - 1))


@operator("QuantizeLinear")
def quantize(node: Node, inputs: Inputs) -> Kernel:
    """Floats to integers of 8 or 16 bits."""
    x, scale = required(node, inputs, "x", "y_scale")
    zero = optional(inputs, 2)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if dtype.kind not in "iu" or dtype.isbuiltin != 1 or dtype.itemsize > 2 or x.dtype != np.float32:
        raise Unsupported(f"{x.dtype} to {dtype}")
    if scale.dtype != np.float32 or "output_dtype" in node.attributes or "precision" in node.attributes:
        raise Unsupported("another precision")
    shape, limits = _broadcast(node, x, scale), np.iinfo(dtype)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, scales, *rest = arrays
        out, wide = outputs
        points = rest[0].reshape(shape) if rest and rest[0] is not None else None

        def task() -> None:
            np.divide(source, scales.reshape(shape), out=wide)
            np.rint(wide, out=wide)
            if points is not None:
                np.add(wide, points, out=wide, casting="unsafe")
            np.copyto(out, np.clip(wide, limits.min, limits.max, out=wide), casting="unsafe")

        return task

    return Kernel([Value(x.shape, dtype)], make, scratch=[Value(x.shape, np.dtype(np.float32))])


@operator("DequantizeLinear")
def dequantize(node: Node, inputs: Inputs) -> Kernel:
    """Integers to floats."""
    x, scale = required(node, inputs, "x", "x_scale")
    if (
        x.dtype.kind not in "iu"
        or x.dtype.isbuiltin != 1
        or scale.dtype != np.float32
        or "output_dtype" in node.attributes
    ):
        raise Unsupported(f"{x.dtype} to {scale.dtype}")
    shape = _broadcast(node, x, scale)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, scales, *rest = arrays
        out = outputs[0]
        points = rest[0].reshape(shape) if rest and rest[0] is not None else None

        def task() -> None:
            np.copyto(out, source, casting="unsafe")
            if points is not None:
                np.subtract(out, points, out=out, casting="unsafe")
            np.multiply(out, scales.reshape(shape), out=out)

        return task

    return Kernel([Value(x.shape, scale.dtype)], make)
