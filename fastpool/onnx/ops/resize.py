"""Resize and Upsample by the nearest element or by straight lines: each axis on its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
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
    axes_of,
    computed,
    constant,
    constant_integers,
    operator,
    optional,
    required,
)

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


#: Times a number of 32 bits, it is that number twice.
_TWICE = np.uint64(2**32 + 1)


def _positions(rule: str, size: int, out: int, scale: float) -> np.ndarray:
    """Where the elements of the result stand among those of the input."""
    index = np.arange(out, dtype=np.float64)
    if rule == "asymmetric":
        return index / scale
    if rule == "align_corners":
        return index * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if rule == "pytorch_half_pixel":
        return (index + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    if rule == "tf_half_pixel_for_nn":
        return (index + 0.5) / scale
    if rule == "half_pixel_symmetric":
        adjustment = out / (scale * size)
        return size / 2 * (1 - adjustment) + (index + 0.5) / scale - 0.5
    return (index + 0.5) / scale - 0.5


def _nearest(rule: str, positions: np.ndarray, size: int) -> np.ndarray:
    """Indices of the elements that stand nearest."""
    if rule == "floor":
        found = np.floor(positions)
    elif rule == "ceil":
        found = np.ceil(positions)
    elif rule == "round_prefer_floor":
        found = np.ceil(positions - 0.5)
    else:
        found = np.floor(positions + 0.5)
    indices: np.ndarray = np.clip(found, 0, size - 1).astype(np.intp)
    return indices


def _sizes(node: Node, inputs: Inputs, x: Value) -> tuple[list[int], list[float]]:
    """Sizes of the result, and its scales."""
    scales: Sequence[float] | None = None
    sizes: list[int] | None = None
    axes = list(range(x.rank))
    if node.op == "Upsample" and node.version < 9:
        scales = node.attributes.numbers("scales")
    else:
        index = 1 if node.op == "Upsample" or node.version < 11 else 2
        given = optional(inputs, index)
        if given is not None and given.size:
            scales = [float(scale) for scale in constant(given).reshape(-1)]
        wanted = optional(inputs, 3) if node.version >= 11 else None
        if wanted is not None and wanted.size:
            sizes = constant_integers(node, wanted, "sizes")
        if "axes" in node.attributes:
            axes = axes_of(node, node.attributes.integers("axes") or [], x.rank)
    if (scales is None) == (sizes is None):
        raise ModelError(f"{node.label} needs either scales or sizes")
    found = sizes if scales is None else scales
    if found is None or len(found) != len(axes):
        raise ModelError(f"{node.label} needs {len(axes)} scales or sizes, got {found}")
    if not all(np.isfinite(item) and item > 0 for item in found):
        raise ModelError(f"{node.label}: scales and sizes must be above 0, got {list(found)}")
    outs, factors = list(x.shape), [1.0] * x.rank
    for axis, item in zip(axes, found, strict=True):
        size = x.shape[axis]
        outs[axis] = int(item) if scales is None else int(np.floor(size * item))
        factors[axis] = outs[axis] / size if scales is None and size else float(item)
    if sizes is not None and node.attributes.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("an aspect ratio that is kept")
    return outs, factors


@operator("Resize", "Upsample")
def resize(node: Node, inputs: Inputs) -> Kernel:
    """Another size."""
    x = required(node, inputs, "X")[0]
    mode = node.attributes.string("mode", "nearest")
    if node.op == "Upsample" and node.version < 7:
        raise Unsupported("another form")
    if mode not in ("nearest", "linear") or node.attributes.flag("antialias") or 0 in x.shape:
        raise Unsupported(mode)
    outs, factors = _sizes(node, inputs, x)
    is_old = node.op == "Upsample" or node.version < 11
    rule = (
        "asymmetric" if is_old else node.attributes.string("coordinate_transformation_mode", "half_pixel", _COORDINATES)
    )
    if rule == "tf_crop_and_resize":
        raise Unsupported(rule)
    output = Value(tuple(outs), x.dtype)
    changed = [axis for axis in range(x.rank) if outs[axis] != x.shape[axis] or factors[axis] != 1]
    places = {axis: _positions(rule, x.shape[axis], outs[axis], factors[axis]) for axis in changed}
    if mode == "nearest":
        rounding = node.attributes.string("nearest_mode", "round_prefer_floor", _NEAREST)
        indices = {}
        for axis in changed:
            # Older versions do not say how to round; ONNX Runtime's is what models were made for.
            own = rounding if not is_old else "ceil" if factors[axis] < 1 else "floor"
            indices[axis] = _nearest(own, places[axis], x.shape[axis])
        return _by_repeats(x, output, indices) or computed([output], lambda array, *_: _taken(array, indices))
    if x.dtype not in FLOATS:
        raise Unsupported(f"elements of {x.dtype}")
    steps = [(axis, *_between(places[axis], x.shape[axis], x.dtype, x.rank - axis)) for axis in changed]

    def function(array: np.ndarray, *_: Any) -> np.ndarray:
        for axis, below, above, part in steps:
            low, high = np.take(array, below, axis), np.take(array, above, axis)
            np.subtract(high, low, out=high)
            np.multiply(high, part, out=high)
            array = np.add(low, high, out=low)
        return array

    return computed([output], function, multiply_adds=prod(outs) * len(changed))


def _by_repeats(x: Value, output: Value, indices: dict[int, np.ndarray]) -> Kernel | None:
    """Whole numbers of equal neighbours are a broadcast, without a table."""
    factors = [out // size for out, size in zip(output.shape, x.shape, strict=True)]
    for axis, found in indices.items():
        if (
            not np.array_equal(found, np.arange(output.shape[axis]) // max(1, factors[axis]))
            or output.shape[axis] % x.shape[axis]
        ):
            return None
    split = [size for pair in zip(x.shape, factors, strict=True) for size in pair]
    single = [size for length in x.shape for size in (length, 1)]
    is_wide = factors[-1] == 2 and x.dtype.itemsize == 4 and not any(size != 1 for size in factors[:-2])

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        target, source = outputs[0].reshape(split), arrays[0].reshape(single)
        if not is_wide:
            return lambda: np.copyto(target, source)
        # Two equal elements of 4 bytes are one of 8: NumPy copies rows of these fast, and single elements slowly.
        height, width = x.shape[-2:]
        narrow = arrays[0].view(np.uint32).reshape(-1, height, width)
        wide = outputs[0].view(np.uint64).reshape(-1, height, factors[-2], width)
        first, others = wide[:, :, 0], wide[:, :, 1:]

        def task() -> None:
            np.multiply(narrow, _TWICE, out=first, dtype=np.uint64)
            np.copyto(others, first[:, :, np.newaxis])

        return task

    return Kernel([output], make, "copy")


def _taken(array: np.ndarray, indices: dict[int, np.ndarray]) -> np.ndarray:
    for axis, found in indices.items():
        array = np.take(array, found, axis)
    return array


def _between(
    positions: np.ndarray, size: int, dtype: np.dtype[Any], rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the neighbours of each position, and how far it is from the lower one."""
    positions = np.clip(positions, 0, size - 1)
    below = np.floor(positions).astype(np.intp)
    above = np.minimum(below + 1, size - 1)
    return below, above, (positions - below).astype(dtype).reshape(-1, *(1,) * (rank - 1))
