"""One node at a time: binding it to shapes, and computing it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.limits import check_shape
from fastpool.onnx.ops import OPERATORS, Kernel, Value
from fastpool.onnx.ops.fallback import ALGORITHM, evaluate, fallback
from fastpool.onnx.ops.operator import Inputs
from fastpool.onnx.ops.prepared import Packed


def bind(node: Node, inputs: Inputs, limit: int, may_fall_back: bool = True) -> Kernel | None:
    """Bind a node to the shapes of its inputs; None where these do not tell those of its outputs."""
    binder = OPERATORS.get((node.domain, node.op))
    try:
        if binder is not None:
            try:
                return _checked(node, binder(node, inputs), limit)
            except Unsupported:
                pass
        if not may_fall_back:
            raise ModelError(f"{node.label} needs onnx.reference, and fallback=False")
        kernel = fallback(node, inputs)
        return kernel and _checked(node, kernel, limit)
    except ModelError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{node.label}: {error}") from error


def _checked(node: Node, kernel: Kernel, limit: int) -> Kernel:
    for value in (*kernel.outputs, *kernel.scratch):
        check_shape(value.shape, value.dtype.itemsize, limit, f"{node.label}: a result")
    return kernel


def is_fallback(kernel: Kernel) -> bool:
    """Whether onnx.reference computes it."""
    return kernel.algorithm == ALGORITHM


def compute(node: Node, given: Sequence[Any], limit: int, may_fall_back: bool = True) -> list[Any]:
    """Compute a node's outputs from arrays (or lists of them, of sequence types)."""
    kernel = None
    if all(array is None or isinstance(array, np.ndarray) for array in given) and not node.captured:
        inputs = [None if array is None else Value.of(array) for array in given]
        if all(value is None or value.dtype.kind not in "OUS" for value in inputs):
            kernel = bind(node, inputs, limit, may_fall_back)
            if kernel is not None and is_fallback(kernel):
                kernel = None  # its sizes are checked; what is computed need not have those that were inferred
    if kernel is None:
        if not may_fall_back:
            raise ModelError(f"{node.label} needs onnx.reference, and fallback=False")
        feeds = dict(zip((*node.inputs, *node.captured), given, strict=False))
        return evaluate(node, {name: array for name, array in feeds.items() if name})
    results = [np.empty(value.shape, value.dtype) if value.data is None else value.data for value in kernel.outputs]
    scratch = [np.empty(value.shape, value.dtype) for value in kernel.scratch]
    ready = [
        array if array is None or isinstance(array, Packed) else np.ascontiguousarray(array).reshape(array.shape)
        for array in given
    ]
    if any(value.data is None for value in kernel.outputs):
        task = kernel.make(ready, [*results, *scratch])
        if task is not None:
            with np.errstate(all="ignore"):
                task()
    return [array if name else None for name, array in zip(node.outputs, results, strict=False)]
