"""Operators that change the shape and move nothing: the result is the input's memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

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
    constant,
    constant_integers,
    known,
    operator,
    optional,
    required,
)


def viewed(x: Value, shape: Sequence[int]) -> Kernel:
    """A kernel that only copies where the plan could not give both the same memory."""
    if x.data is not None:
        return known(x.data.reshape(shape))

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        source, out = inputs[0], outputs[0]
        if out.__array_interface__["data"] == source.__array_interface__["data"]:
            return None
        source = source.reshape(out.shape)
        return lambda: np.copyto(out, source)

    return Kernel([Value(tuple(shape), x.dtype)], make, "none", is_view=True)


@operator("Identity")
def identity(node: Node, inputs: Inputs) -> Kernel:
    """The input."""
    x = required(node, inputs, "input")[0]
    return viewed(x, x.shape)


@operator("Dropout")
def dropout(node: Node, inputs: Inputs) -> Kernel:
    """The input, as nothing is dropped at inference."""
    x = required(node, inputs, "data")[0]
    trains = node.version < 7 and not node.attributes.flag("is_test")
    mode = optional(inputs, 2)
    if mode is not None:
        trains = bool(constant(mode).any())
    if trains and node.version >= 7:
        raise Unsupported("random numbers")
    if any(node.outputs[1:]):
        raise Unsupported("a mask")
    return viewed(x, x.shape)


@operator("Flatten")
def flatten(node: Node, inputs: Inputs) -> Kernel:
    """Two dimensions."""
    x = required(node, inputs, "input")[0]
    axis = axis_of(node, node.attributes.integer("axis", 1), x.rank, extra=1)
    return viewed(x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


@operator("Reshape")
def reshape(node: Node, inputs: Inputs) -> Kernel:
    """Another shape, where 0 is the input's size and -1 what is left."""
    x = required(node, inputs, "data")[0]
    if node.version < 5:
        wanted = node.attributes.integers("shape") or []
    else:
        wanted = constant_integers(node, required(node, inputs, "data", "shape")[1], "shape")
    shape = list(wanted)
    if not node.attributes.flag("allowzero"):
        for axis, size in enumerate(shape):
            if size == 0:
                if axis >= x.rank:
                    raise ModelError(f"{node.label}: shape {wanted} copies an axis that {x.shape} does not have")
                shape[axis] = x.shape[axis]
    if shape.count(-1) > 1 or any(size < -1 for size in shape):
        raise ModelError(f"{node.label}: bad shape {wanted}")
    if -1 in shape:
        others = prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = x.size // others if others and x.size % others == 0 else -1
    if prod(shape) != x.size or -1 in shape:
        raise ModelError(f"{node.label} cannot turn shape {x.shape} into {wanted}")
    return viewed(x, shape)


def _axes(node: Node, inputs: Inputs) -> list[int] | None:
    if node.version < 13:
        return node.attributes.integers("axes")
    value = optional(inputs, 1)
    return None if value is None else constant_integers(node, value, "axes")


@operator("Squeeze")
def squeeze(node: Node, inputs: Inputs) -> Kernel:
    """Without axes of size 1."""
    x = required(node, inputs, "data")[0]
    given = _axes(node, inputs)
    axes = [i for i, size in enumerate(x.shape) if size == 1] if given is None else axes_of(node, given, x.rank)
    if any(x.shape[axis] != 1 for axis in axes):
        raise ModelError(f"{node.label} cannot squeeze the axes {axes} of shape {x.shape}")
    return viewed(x, [size for axis, size in enumerate(x.shape) if axis not in axes])


@operator("Unsqueeze")
def unsqueeze(node: Node, inputs: Inputs) -> Kernel:
    """With further axes of size 1."""
    x = required(node, inputs, "data")[0]
    given = _axes(node, inputs)
    if given is None:
        raise ModelError(f"{node.label} lacks its axes")
    rank = x.rank + len(given)
    axes, sizes = axes_of(node, given, rank), iter(x.shape)
    return viewed(x, [1 if axis in axes else next(sizes) for axis in range(rank)])
