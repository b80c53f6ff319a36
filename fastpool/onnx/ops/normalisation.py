"""BatchNormalization, InstanceNormalization, LayerNormalization, LRN and Softmax."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

import fastpool
from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import (
    Arrays,
    Inputs,
    Kernel,
    Task,
    Value,
    axes_of,
    axis_of,
    computed,
    operator,
    optional,
    required,
)
from fastpool.onnx.ops.scaling import scales, scaling


def folded(node: Node, scale: Any, shift: Any, mean: Any, variance: Any) -> tuple[np.ndarray, np.ndarray]:
    """Factor and summand of each channel that a normalisation with given statistics comes to, in float64."""
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + node.attributes.number("epsilon", 1e-5))
    return factor, shift.astype(np.float64) - mean.astype(np.float64) * factor


def check_inference(node: Node) -> None:
    """Leave the forms that compute statistics to the fallback."""
    trains = node.attributes.flag("training_mode")
    if node.version < 7:
        trains = not node.attributes.flag("is_test")
    if trains or any(node.outputs[1:]) or (node.version < 9 and not node.attributes.flag("spatial", True)):
        raise Unsupported("statistics of the input")


@operator("BatchNormalization")
def batch_normalization(node: Node, inputs: Inputs) -> Kernel:
    """Normalisation by given statistics."""
    x, *vectors = required(node, inputs, "X", "scale", "B", "input_mean", "input_var")
    check_inference(node)
    channels = x.shape[1] if x.rank > 1 else 1
    for value in vectors:
        if value.shape != (channels,):
            raise ModelError(f"{node.label}: its vectors must have shape ({channels},), got {value.shape}")
    output, parameters = Value(x.shape, x.dtype), 4 * channels
    arrays = [value.data for value in vectors]
    if scales(x) and all(array is not None for array in arrays):
        factor, summand = (array.astype(x.dtype) for array in folded(node, *arrays))
        make = scaling(x, factor, summand, node.bounds, False)
        return Kernel([output], make, "depthwise 1x1", x.size, parameters, makes_run=True)
    last = (-1, *(1,) * (x.rank - 2))

    def function(x: np.ndarray, *vectors: np.ndarray) -> np.ndarray:
        factor, summand = (array.reshape(last) for array in folded(node, *vectors))
        return _bounded(x * factor + summand, node)

    return computed([output], function, multiply_adds=x.size, parameters=parameters)


def _bounded(array: np.ndarray, node: Node) -> np.ndarray:
    return array if node.bounds is None else np.clip(array, *node.bounds)


@operator("InstanceNormalization")
def instance_normalization(node: Node, inputs: Inputs) -> Kernel:
    """Each channel of each image by its own statistics."""
    x, scale, shift = required(node, inputs, "input", "scale", "B")
    if x.rank < 3 or x.dtype not in FLOATS or 0 in x.shape or node.version < 6:
        raise Unsupported("another form")
    if scale.shape != x.shape[1:2] or shift.shape != x.shape[1:2]:
        raise ModelError(f"{node.label}: scale and B must have shape {x.shape[1:2]}, got {scale.shape}, {shift.shape}")
    epsilon, axes, last = node.attributes.number("epsilon", 1e-5), tuple(range(2, x.rank)), (-1, *(1,) * (x.rank - 2))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, factor, summand = arrays[0], arrays[1].reshape(last), arrays[2].reshape(last)
        return lambda: _standardise(source, axes, epsilon, factor, summand, outputs[0])

    return Kernel([Value(x.shape, x.dtype)], make, multiply_adds=x.size)


@operator("GroupNormalization")
def group_normalization(node: Node, inputs: Inputs) -> Kernel:
    """Groups of channels of each image by their statistics."""
    x, scale, shift = required(node, inputs, "X", "scale", "bias")
    groups = node.attributes.integer("num_groups", 0, 1)
    if x.rank < 3 or x.dtype not in FLOATS or 0 in x.shape:
        raise Unsupported("another form")
    count = groups if node.version < 21 else x.shape[1]
    if x.shape[1] % groups or scale.shape != (count,) or shift.shape != (count,):
        raise ModelError(
            f"{node.label}: num_groups must divide the {x.shape[1]} channels, scale and bias must have shape "
            f"({count},), got {groups}, {scale.shape} and {shift.shape}"
        )
    epsilon, parts = (
        node.attributes.number("epsilon", 1e-5),
        (x.shape[0], groups, x.shape[1] // groups, prod(x.shape[2:])),
    )
    last = (groups, -1, 1)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0].reshape(parts), outputs[0].reshape(parts)
        factor, summand = arrays[1].reshape(last), arrays[2].reshape(last)
        return lambda: _standardise(source, (2, 3), epsilon, factor, summand, out)

    return Kernel([Value(x.shape, x.dtype)], make, multiply_adds=x.size)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, inputs: Inputs) -> Kernel:
    """Some axes by their statistics."""
    x = required(node, inputs, "X")[0]
    if x.dtype not in FLOATS or 0 in x.shape or node.version < 9:
        raise Unsupported("another form")
    axes = tuple(axes_of(node, node.attributes.integers("axes") or [0, 2, 3], x.rank))

    def function(x: np.ndarray) -> np.ndarray:
        centred: np.ndarray = x - x.mean(axes, keepdims=True)
        return centred / (np.sqrt(np.mean(centred * centred, axes, keepdims=True)) + x.dtype.type(1e-9))  # type: ignore[no-any-return]

    return computed([Value(x.shape, x.dtype)], function, multiply_adds=x.size)


@operator("LayerNormalization")
def layer_normalization(node: Node, inputs: Inputs) -> Kernel:
    """The last axes by their statistics."""
    x, scale = required(node, inputs, "X", "Scale")
    shift = optional(inputs, 2)
    axis = axis_of(node, node.attributes.integer("axis", -1), x.rank)
    if any(node.outputs[1:]) or x.dtype != np.float32 or 0 in x.shape:
        raise Unsupported("another form")
    epsilon, axes = node.attributes.number("epsilon", 1e-5), tuple(range(axis, x.rank))
    for value in (scale, *([] if shift is None else [shift])):
        if np.broadcast_shapes(value.shape, x.shape) != x.shape:
            raise ModelError(f"{node.label}: Scale and B must broadcast to {x.shape}, got {value.shape}")

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        summand = arrays[2] if shift is not None else np.zeros((), x.dtype)
        return lambda: _standardise(arrays[0], axes, epsilon, arrays[1], summand, outputs[0])

    return Kernel([Value(x.shape, x.dtype)], make, multiply_adds=x.size)


def _standardise(
    x: np.ndarray, axes: tuple[int, ...], epsilon: float, factor: np.ndarray, summand: np.ndarray, out: np.ndarray
) -> None:
    np.subtract(x, x.mean(axes, keepdims=True), out=out)
    count = prod(x.shape[axis] for axis in axes)
    variance = np.einsum("ij,ij->i", out.reshape(-1, count), out.reshape(-1, count)) / count
    spread = np.sqrt(variance + x.dtype.type(epsilon)).reshape(
        [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    )
    np.divide(out, spread, out=out)
    np.multiply(out, factor, out=out)
    np.add(out, summand, out=out)


@operator("LRN")
def local_response_normalization(node: Node, inputs: Inputs) -> Kernel:
    """Each element by the squares of its neighbours in other channels."""
    x = required(node, inputs, "X")[0]
    size = node.attributes.integer("size", 0, 1)
    alpha, beta = node.attributes.number("alpha", 1e-4), node.attributes.number("beta", 0.75)
    bias = node.attributes.number("bias", 1.0)
    if x.rank < 3 or x.dtype not in FLOATS or 0 in x.shape:
        raise Unsupported("another form")
    planes = (x.shape[0], 1, x.shape[1], prod(x.shape[2:]))
    padding = (((size - 1) // 2, size // 2), (0, 0))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0].reshape(planes), outputs[0].reshape(planes)
        squares, sums = (array.reshape(planes) for array in outputs[1:])

        def task() -> None:
            np.multiply(source, source, out=squares)
            fastpool.sum_pool2d(squares, (size, 1), 1, padding, out=sums)
            np.multiply(sums, alpha / size, out=sums)
            np.add(sums, bias, out=sums)
            _power(sums, beta, squares)
            np.divide(source, squares, out=out)

        return task

    like = Value(x.shape, x.dtype)
    return Kernel([like], make, multiply_adds=x.size * (size + 1), scratch=[like, like])


def _power(x: np.ndarray, exponent: float, out: np.ndarray) -> None:
    """Raise x to a power, for the usual exponents by square roots, which are several times as fast; changes x."""
    if exponent == 0.75:
        np.sqrt(x, out=out)
        np.sqrt(out, out=x)
        np.multiply(out, x, out=out)
    elif exponent == 0.5:
        np.sqrt(x, out=out)
    else:
        np.power(x, exponent, out=out)


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, inputs: Inputs) -> Kernel:
    """Exponentials that sum to one; over all axes from the given one on before version 13."""
    x = required(node, inputs, "input")[0]
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    is_flat = node.version < 13
    axis = axis_of(node, node.attributes.integer("axis", 1 if is_flat else -1), x.rank, extra=int(is_flat))
    shape = (prod(x.shape[:axis]), prod(x.shape[axis:])) if is_flat else x.shape
    along = 1 if is_flat else axis
    is_log = node.op == "LogSoftmax"

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0].reshape(shape), outputs[0].reshape(shape)

        def task() -> None:
            np.subtract(source, np.maximum.reduce(source, along, keepdims=True), out=out)
            if is_log:
                np.subtract(out, np.log(np.add.reduce(np.exp(out), along, keepdims=True)), out=out)
            else:
                np.exp(out, out=out)
                np.divide(out, np.add.reduce(out, along, keepdims=True), out=out)

        return task

    if 0 in x.shape:
        return Kernel([Value(x.shape, x.dtype)], lambda arrays, outputs: None)
    return Kernel([Value(x.shape, x.dtype)], make, overwrites=(0,))
