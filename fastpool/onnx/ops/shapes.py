"""Operators that move elements, and those that compute shapes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import AttributeProto

from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.elementwise import broadcast
from fastpool.onnx.ops.operator import (
    Arrays,
    Inputs,
    Kernel,
    Task,
    Value,
    axes_of,
    axis_of,
    computed,
    constant,
    constant_integers,
    known,
    moved,
    operator,
    optional,
    required,
)
from fastpool.onnx.tensors import array_of

#: Bytes of a tensor in a node; larger ones are initialisers.
_ATTRIBUTE_LIMIT = 2**31


@operator("Shape")
def shape_of(node: Node, inputs: Inputs) -> Kernel:
    """The sizes of an array."""
    x = required(node, inputs, "data")[0]
    start, end = node.attributes.integer("start", 0), node.attributes.integer("end", x.rank)
    return known(np.array(x.shape[slice(start, end)], np.int64))


@operator("Size")
def size_of(node: Node, inputs: Inputs) -> Kernel:
    """The number of elements."""
    return known(np.array(required(node, inputs, "data")[0].size, np.int64))


@operator("Constant")
def constant_value(node: Node, inputs: Inputs) -> Kernel:
    """A value that the node carries."""
    tensor = node.attributes.proto("value", AttributeProto.TENSOR)
    if tensor is not None:
        return known(array_of(tensor.t, None, _ATTRIBUTE_LIMIT, node.label))
    attributes = node.attributes
    if "value_float" in attributes:
        return known(np.array(attributes.number("value_float", 0), np.float32))
    if "value_int" in attributes:
        return known(np.array(attributes.integer("value_int", 0), np.int64))
    if "value_floats" in attributes:
        return known(np.array(attributes.numbers("value_floats"), np.float32))
    if "value_ints" in attributes:
        return known(np.array(attributes.integers("value_ints"), np.int64))
    raise Unsupported("another kind of value")


@operator("ConstantOfShape")
def constant_of_shape(node: Node, inputs: Inputs) -> Kernel:
    """One number all over."""
    shape = constant_integers(node, required(node, inputs, "input")[0], "shape")
    if any(size < 0 for size in shape):
        raise ModelError(f"{node.label}: bad shape {shape}")
    tensor = node.attributes.proto("value", AttributeProto.TENSOR)
    value = np.zeros(1, np.float32) if tensor is None else array_of(tensor.t, None, _ATTRIBUTE_LIMIT, node.label)
    if value.size != 1:
        raise ModelError(f"{node.label}: the attribute 'value' must be one number, got shape {value.shape}")
    return computed([Value(tuple(shape), value.dtype)], lambda *_: value.reshape(()))


@operator("Transpose")
def transpose(node: Node, inputs: Inputs) -> Kernel:
    """Axes in another order."""
    x = required(node, inputs, "data")[0]
    order = node.attributes.integers("perm", x.rank)
    axes = tuple(reversed(range(x.rank))) if order is None else tuple(axes_of(node, order, x.rank))
    return moved(Value(tuple(x.shape[axis] for axis in axes), x.dtype), lambda array: array.transpose(axes))


@operator("Concat")
def concat(node: Node, inputs: Inputs) -> Kernel:
    """Arrays one after the other; nothing is to be done for those that were written where they belong."""
    values = [value for value in inputs if value is not None]
    if not values:
        raise ModelError(f"{node.label} has no inputs")
    first = values[0]
    axis = axis_of(node, node.attributes.integer("axis", 1), first.rank)
    for value in values:
        if (
            value.dtype != first.dtype
            or value.shape[:axis] + value.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise ModelError(
                f"{node.label} cannot join {first.shape} of {first.dtype} and {value.shape} of {value.dtype}"
            )
    ends = np.cumsum([value.shape[axis] for value in values]).tolist()
    places = [
        (slice(None),) * axis + (slice(end - value.shape[axis], end),) for value, end in zip(values, ends, strict=True)
    ]
    shape = (*first.shape[:axis], ends[-1], *first.shape[axis + 1 :])
    step = prod(first.shape[axis + 1 :]) * first.dtype.itemsize
    joins = [(end - value.shape[axis]) * step for value, end in zip(values, ends, strict=True)]

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        out = outputs[0]
        copies = [(out[place], array) for place, array in zip(places, arrays, strict=True) if array.size]
        copies = [(target, array) for target, array in copies if not _same(target, array)]
        if not copies:
            return None

        def task() -> None:
            for target, array in copies:
                target[...] = array

        return task

    return Kernel([Value(shape, first.dtype)], make, "copy", joins=joins if prod(first.shape[:axis]) == 1 else [])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(a.__array_interface__["data"] == b.__array_interface__["data"])


@operator("Split")
def split(node: Node, inputs: Inputs) -> Kernel:
    """Parts along an axis."""
    x = required(node, inputs, "input")[0]
    axis = axis_of(node, node.attributes.integer("axis", 0), x.rank)
    count, size = len(node.outputs), x.shape[axis]
    given = optional(inputs, 1)
    parts = node.attributes.integers("split") if given is None else constant_integers(node, given, "split")
    if parts is None:
        count = node.attributes.integer("num_outputs", count, 1)
        each = -(-size // count)
        parts = [min(each, max(0, size - i * each)) for i in range(count)]
    if sum(parts) != size or any(part < 0 for part in parts) or len(parts) != len(node.outputs):
        raise ModelError(f"{node.label} cannot split {size} into {parts} for {len(node.outputs)} outputs")
    ends = np.cumsum(parts).tolist()
    places = [(slice(None),) * axis + (slice(end - part, end),) for part, end in zip(parts, ends, strict=True)]
    outputs = [Value((*x.shape[:axis], part, *x.shape[axis + 1 :]), x.dtype) for part in parts]
    return computed(outputs, lambda array, *_: tuple(array[place] for place in places), algorithm="copy")


@operator("Slice")
def slice_(node: Node, inputs: Inputs) -> Kernel:
    """Every so many elements from here to there."""
    x = required(node, inputs, "data")[0]
    if node.version < 10:
        starts, ends = node.attributes.integers("starts") or [], node.attributes.integers("ends") or []
        axes, steps = node.attributes.integers("axes"), None
    else:
        found = required(node, inputs, "data", "starts", "ends")
        starts, ends = (constant_integers(node, value, "starts or ends") for value in found[1:])
        axes, steps = (
            None if value is None else constant_integers(node, value, "axes or steps")
            for value in (optional(inputs, 3), optional(inputs, 4))
        )
    axes = list(range(len(starts))) if axes is None else axes_of(node, axes, x.rank)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or len(axes) > x.rank or 0 in steps:
        raise ModelError(f"{node.label}: bad starts {starts}, ends {ends}, axes {axes} or steps {steps}")
    place = [slice(None)] * x.rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = x.shape[axis]
        start, end = (value + size if value < 0 else value for value in (start, end))
        if step > 0:
            place[axis] = slice(min(max(start, 0), size), min(max(end, 0), size), step)
        else:
            last = min(max(end, -1), size - 1)
            place[axis] = slice(min(max(start, 0), size - 1), None if last < 0 else last, step)
    where = tuple(place)
    shape = tuple(len(range(*part.indices(size))) for part, size in zip(place, x.shape, strict=True))
    if x.data is not None:
        return known(np.ascontiguousarray(x.data[where]))
    return moved(Value(shape, x.dtype), lambda array: array[where], algorithm="copy")


@operator("Gather")
def gather(node: Node, inputs: Inputs) -> Kernel:
    """Elements of an axis by their indices."""
    x, indices = required(node, inputs, "data", "indices")
    if indices.dtype.kind not in "iu" or x.rank == 0:
        raise ModelError(f"{node.label}: indices must be integers, got {indices.dtype}")
    axis = axis_of(node, node.attributes.integer("axis", 0), x.rank)
    shape, size = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.shape[axis]

    def function(array: np.ndarray, where: np.ndarray) -> np.ndarray:
        if where.size and not -size <= where.min() <= where.max() < size:
            raise ModelError(f"{node.label}: indices must be in [{-size}, {size}), got {where.min()} to {where.max()}")
        return np.take(array, where, axis)

    return computed([Value(shape, x.dtype)], function, algorithm="copy")


@operator("Expand")
def expand(node: Node, inputs: Inputs) -> Kernel:
    """Repeated along axes of size 1."""
    x, wanted = required(node, inputs, "input", "shape")
    shape = constant_integers(node, wanted, "shape")
    if any(size < 0 for size in shape):
        raise ModelError(f"{node.label}: bad shape {shape}")
    return moved(Value(broadcast(node, x.shape, tuple(shape)), x.dtype), lambda array: array, algorithm="copy")


@operator("Tile")
def tile(node: Node, inputs: Inputs) -> Kernel:
    """Repeated along each axis."""
    x, wanted = required(node, inputs, "input", "repeats")
    if node.version < 6:
        raise Unsupported("another form")
    repeats = constant_integers(node, wanted, "repeats")
    if len(repeats) != x.rank or any(count < 0 for count in repeats):
        raise ModelError(f"{node.label}: repeats must be {x.rank} numbers from 0 on, got {repeats}")
    shape = tuple(size * count for size, count in zip(x.shape, repeats, strict=True))
    return computed([Value(shape, x.dtype)], lambda array, *_: np.tile(array, repeats), algorithm="copy")


_PAD_MODES = ("constant", "reflect", "edge", "wrap")


@operator("Pad")
def pad(node: Node, inputs: Inputs) -> Kernel:
    """More elements, or fewer, at the ends of axes."""
    x = required(node, inputs, "data")[0]
    mode = node.attributes.string("mode", "constant", _PAD_MODES)
    axes = list(range(x.rank))
    value: Value | None = None
    if node.version < 11:
        pads = node.attributes.integers("paddings" if node.version < 2 else "pads") or []
    else:
        pads = constant_integers(node, required(node, inputs, "data", "pads")[1], "pads")
        value = optional(inputs, 2)
        given = optional(inputs, 3)
        axes = axes if given is None else axes_of(node, constant_integers(node, given, "axes"), x.rank)
    if len(pads) != 2 * len(axes):
        raise ModelError(f"{node.label}: pads must be {2 * len(axes)} numbers, got {pads}")
    each = [(0, 0)] * x.rank
    for axis, begin, end in zip(axes, pads, pads[len(axes) :], strict=False):
        each[axis] = (begin, end)
    shape = tuple(size + sum(ends) for size, ends in zip(x.shape, each, strict=True))
    if any(size < 0 for size in shape) or (min(pads, default=0) < 0 and mode != "constant"):
        raise ModelError(f"{node.label} cannot pad shape {x.shape} by {pads}")
    fill = node.attributes.number("value", 0.0)
    if mode != "constant":
        if 0 in x.shape:
            raise ModelError(f"{node.label} cannot pad the empty shape {x.shape} in mode {mode!r}")
        return computed([Value(shape, x.dtype)], lambda array, *_: np.pad(array, each, mode), algorithm="copy")  # type: ignore[call-overload]
    inner = tuple(
        slice(max(0, begin), max(0, begin) + size + min(0, begin) + min(0, end))
        for size, (begin, end) in zip(x.shape, each, strict=True)
    )
    source = tuple(slice(max(0, -begin), size - max(0, -end)) for size, (begin, end) in zip(x.shape, each, strict=True))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        out, array = outputs[0], arrays[0][source]
        target = out[inner]

        def task() -> None:
            out[...] = fill if value is None else arrays[2].reshape(())
            np.copyto(target, array)

        return task

    return Kernel([Value(shape, x.dtype)], make, "copy")


@operator("Range")
def range_(node: Node, inputs: Inputs) -> Kernel:
    """Numbers with equal steps."""
    start, limit, delta = (constant(value).reshape(()) for value in required(node, inputs, "start", "limit", "delta"))
    if delta == 0 or not np.isfinite([float(start), float(limit), float(delta)]).all():
        raise ModelError(f"{node.label}: bad range from {start} to {limit} by {delta}")
    count = max(0, int(np.ceil((float(limit) - float(start)) / float(delta))))
    output = Value((count,), start.dtype)
    return computed([output], lambda *_: (start + np.arange(count, dtype=start.dtype) * delta).astype(start.dtype))


@operator("SpaceToDepth", "DepthToSpace")
def shuffle(node: Node, inputs: Inputs) -> Kernel:
    """Blocks of pixels to channels, and back."""
    x = required(node, inputs, "input")[0]
    block = node.attributes.integer("blocksize", 0, 1)
    is_crd = node.attributes.string("mode", "DCR", ("DCR", "CRD")) == "CRD"
    if x.rank != 4:
        raise ModelError(f"{node.label}: x must have shape (N, C, H, W), got {x.shape}")
    n, c, h, w = x.shape
    if node.op == "SpaceToDepth":
        if h % block or w % block:
            raise ModelError(f"{node.label}: blocksize {block} must divide height and width, {h} and {w}")
        parts, order = (
            (n, c, h // block, block, w // block, block),
            (0, 1, 3, 5, 2, 4) if is_crd else (0, 3, 5, 1, 2, 4),
        )
        shape = (n, c * block * block, h // block, w // block)
    else:
        if c % (block * block):
            raise ModelError(f"{node.label}: the square of blocksize {block} must divide the {c} channels")
        rest = c // (block * block)
        parts = (n, rest, block, block, h, w) if is_crd else (n, block, block, rest, h, w)
        order = (0, 1, 4, 2, 5, 3) if is_crd else (0, 3, 4, 1, 5, 2)
        shape = (n, rest, h * block, w * block)
    target = tuple(parts[axis] for axis in order)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        out, source = outputs[0].reshape(target), arrays[0].reshape(parts).transpose(order)
        return lambda: np.copyto(out, source)

    return Kernel([Value(shape, x.dtype)], make, "copy")


_REDUCTIONS: dict[str, Any] = {
    "ReduceMean": np.mean,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
}


@operator(*_REDUCTIONS)
def reduction(node: Node, inputs: Inputs) -> Kernel:
    """Axes become one element."""
    x = required(node, inputs, "data")[0]
    since = 13 if node.op == "ReduceSum" else 18
    given = optional(inputs, 1) if node.version >= since else None
    axes = node.attributes.integers("axes") if given is None else constant_integers(node, given, "axes")
    keeps = node.attributes.flag("keepdims", True)
    if not axes and node.attributes.flag("noop_with_empty_axes"):
        return moved(Value(x.shape, x.dtype), lambda array: array)
    along = tuple(axes_of(node, axes, x.rank)) if axes else tuple(range(x.rank))
    if x.dtype.kind not in "iuf" or x.dtype.isbuiltin != 1 or 0 in x.shape or x.dtype.itemsize < 4:
        raise Unsupported(f"elements of {x.dtype}")
    if node.op == "ReduceMean" and x.dtype.kind != "f":
        raise Unsupported("a mean of integers")
    shape = tuple(1 if axis in along else size for axis, size in enumerate(x.shape) if keeps or axis not in along)
    function = _REDUCTIONS[node.op]

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        source, out = arrays[0], outputs[0]
        return lambda: function(source, axis=along, keepdims=keeps, out=out)

    return Kernel([Value(shape, x.dtype)], make)


@operator("ArgMax", "ArgMin")
def arg_extremum(node: Node, inputs: Inputs) -> Kernel:
    """Where the extremum of an axis stands."""
    x = required(node, inputs, "data")[0]
    axis = axis_of(node, node.attributes.integer("axis", 0), x.rank)
    keeps = node.attributes.flag("keepdims", True)
    if node.attributes.flag("select_last_index") or x.dtype.kind not in "iuf" or x.dtype.isbuiltin != 1 or 0 in x.shape:
        raise Unsupported("another form")
    shape = tuple(1 if i == axis else size for i, size in enumerate(x.shape) if keeps or i != axis)
    function = np.argmax if node.op == "ArgMax" else np.argmin
    return computed([Value(shape, np.dtype(np.int64))], lambda array: function(array, axis=axis, keepdims=keeps))
