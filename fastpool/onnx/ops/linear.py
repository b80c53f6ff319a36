"""Gemm and MatMul.

One row times constant weights reads these as they lie. Of more rows they are convolutions of 1x1, whose pixels are the
rows. NumPy's BLAS has threads of its own, which spin on for some milliseconds after their work and take the cores from
the kernels that follow.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.elementwise import broadcast
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value, operator, optional, required
from fastpool.onnx.ops.prepared import Prepared
from fastpool.plans.chain import Run
from fastpool.plans.linear import plan_gemv


@operator("Gemm")
def gemm(node: Node, inputs: Inputs) -> Kernel:
    """``alpha * A @ B + beta * C``, and the activation that was merged into it."""
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
    parameters = sum(prod(v.shape) for v in (b, c) if v is not None and v.data is not None)
    bias: Any = c.data if c is not None and has_c else np.zeros(columns, a.dtype)
    if b.data is not None and not turn_a and a.size and b.size and bias is not None and bias.shape[:-1] in ((), (1,)):
        if rows == 1 and alpha == 1:
            return _one_row(node, a, b, turn_b, bias * a.dtype.type(beta), shape, parameters)
        weight = b.data if turn_b else b.data.T
        if alpha != 1:
            weight = weight * b.dtype.type(alpha)
        summand = np.broadcast_to((bias * a.dtype.type(beta)).reshape(-1), (columns,))
        return _by_pixels(node, a, weight, summand, shape, b.data, parameters)

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
            if node.bounds is not None:
                np.clip(out, *node.bounds, out=out)

        return task

    return Kernel([Value(shape, a.dtype)], make, "BLAS", rows * columns * inner, parameters)


def _one_row(
    node: Node, x: Value, weight: Value, by_rows: bool, bias: np.ndarray, shape: tuple[int, ...], parameters: int
) -> Kernel:
    """One row of x times a constant weight, which is (output, input) or (input, output)."""
    low, high = validation.activation(node.bounds)
    plan = plan_gemv(FLOATS[x.dtype], shape[-1], x.size, by_rows, low, high)
    summand = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), shape[-1:]))

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        return Run(plan, arrays[0], arrays[1], summand, None, outputs[0])

    work = shape[-1] * x.size
    return Kernel([Value(shape, x.dtype)], make, "matrix times vector", work, parameters, makes_run=True)


def _by_pixels(
    node: Node,
    x: Value,
    weight: np.ndarray,
    bias: np.ndarray | None,
    shape: tuple[int, ...],
    source: np.ndarray,
    parameters: int,
) -> Kernel:
    """Rows of x times the transpose of a constant weight, as a convolution of 1x1 over as many pixels."""
    columns, inner = weight.shape
    rows = x.size // inner
    key = ("linear", node.bounds)
    prepared: Prepared | None = node.state.get(key)
    if prepared is None or prepared.source is not source:
        filters = np.ascontiguousarray(weight).reshape(columns, inner, 1, 1)
        prepared = node.state[key] = Prepared(filters, bias, 1, 0, 1, 1, "zeros", node.bounds, "auto")
        prepared.source = source
    elif bias is not None:  # which may be one that was computed for these inputs
        prepared = prepared.with_bias(bias)
    found = prepared

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        if rows == 1:
            return found.task(arrays[0].reshape(1, inner, 1, 1), None, outputs[0].reshape(1, columns, 1, 1))
        result, turned, product = outputs
        task = found.task(turned.reshape(1, inner, 1, rows), None, product.reshape(1, columns, 1, rows))
        source, target = arrays[0].reshape(rows, inner).T, result.reshape(rows, columns)

        def whole() -> None:
            np.copyto(turned, source)
            task()
            np.copyto(target, product.T)

        return whole

    scratch = [] if rows == 1 else [Value((inner, rows), x.dtype), Value((columns, rows), x.dtype)]
    outputs, work, is_run = [Value(shape, x.dtype)], rows * columns * inner, rows == 1
    return Kernel(outputs, make, "direct", work, parameters, scratch=scratch, makes_run=is_run)


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
    parameters = prod(b.shape) if b.data is not None else 0
    if b.data is not None and b.rank == 2 and a.rank >= 2 and a.dtype in FLOATS and a.size and b.size:
        if a.size == a.shape[-1]:
            return _one_row(node, a, b, False, np.zeros(b.shape[1], a.dtype), shape, parameters)
        return _by_pixels(node, a, b.data.T, None, shape, b.data, parameters)

    def make(arrays: Arrays, outputs: Arrays) -> Task:
        left, right, out = arrays[0], arrays[1], outputs[0]
        if a.rank == 1 or b.rank == 1:
            return lambda: np.copyto(out, np.matmul(left, right))
        return lambda: np.matmul(left, right, out=out)

    return Kernel([Value(shape, a.dtype)], make, "BLAS", prod(shape) * a.shape[-1], parameters)
