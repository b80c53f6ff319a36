"""Gemm and MatMul."""

from __future__ import annotations

from math import prod

import numpy as np

from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.elementwise import broadcast
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value, operator, optional, required


def _bounded(node: Node, out: np.ndarray) -> None:
    if node.bounds is not None:
        np.clip(out, *node.bounds, out=out)


@operator("Gemm")
def gemm(node: Node, inputs: Inputs) -> Kernel:
    """alpha * A @ B + beta * C, and the activation that was merged into it."""
    a, b = required(node, inputs, "A", "B")
    c = optional(inputs, 2)
    if a.rank != 2 or b.rank != 2:
        raise ModelError(f"{node.label}: A and B must be matrices, got {a.shape} and {b.shape}")
    if a.dtype not in FLOATS:
        raise Unsupported(f"elements of {a.dtype}")
    if b.dtype != a.dtype or (c is not None and c.dtype != a.dtype):
        raise ModelError(f"{node.label}: its inputs must have the same dtype, got {a.dtype} and {b.dtype}")
    turn_a, turn_b = node.attributes.flag("transA"), node.attributes.flag("transB")
    alpha, beta = node.attributes.number("alpha", 1.0), node.attributes.number("beta", 1.0)
    rows, inner = a.shape[::-1] if turn_a else a.shape
    depth, columns = b.shape[::-1] if turn_b else b.shape
    if inner != depth:
        raise ModelError(f"{node.label} cannot multiply {(rows, inner)} by {(depth, columns)}")
    shape = (rows, columns)
    if c is not None and broadcast(node, c.shape, shape) != shape:
        raise ModelError(f"{node.label}: C must broadcast to {shape}, got {c.shape}")
    has_c = c is not None and beta != 0

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        left, right = arrays[0].T if turn_a else arrays[0], arrays[1].T if turn_b else arrays[1]
        out = outputs[0]
        added = arrays[2] if has_c else None

        def task() -> None:
            np.matmul(left, right, out=out)
            if alpha != 1:
                np.multiply(out, alpha, out=out)
            if added is not None:
                np.add(out, added if beta == 1 else added * beta, out=out)
            _bounded(node, out)

        return task

    parameters = sum(prod(v.shape) for v in (b, c) if v is not None and v.data is not None)
    return Kernel([Value(shape, a.dtype)], make, "BLAS", rows * columns * inner, parameters)


@operator("MatMul")
def matmul(node: Node, inputs: Inputs) -> Kernel:
    """Matrix products of the last two axes."""
    a, b = required(node, inputs, "A", "B")
    if a.dtype != b.dtype or a.dtype.kind not in "iuf" or a.dtype.isbuiltin != 1:
        raise Unsupported(f"elements of {a.dtype} and {b.dtype}")
    if a.rank == 0 or b.rank == 0 or a.shape[-1] != b.shape[-2 if b.rank > 1 else 0]:
        raise ModelError(f"{node.label} cannot multiply {a.shape} by {b.shape}")
    batch = broadcast(node, a.shape[:-2], b.shape[:-2])
    shape = (*batch, *a.shape[-2:-1], *(b.shape[-1:] if b.rank > 1 else ()))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        left, right, out = arrays[0], arrays[1], outputs[0]
        if a.rank == 1 or b.rank == 1:
            return lambda: np.copyto(out, np.matmul(left, right))
        return lambda: np.matmul(left, right, out=out)

    parameters = prod(b.shape) if b.data is not None else 0
    return Kernel([Value(shape, a.dtype)], make, "BLAS", prod(shape) * a.shape[-1], parameters)
