"""Pooling and subsampling in NumPy: reductions of reshaped or windowed views, and sums or maxima of strided slices.

N and C are one axis here: the input is (N * C planes, H, W). Left out is average pooling as a product with a banded
matrix: it spreads a NaN or an infinity over a whole row of windows that do not see it, and is another operation.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench.baselines.program import CACHE_BYTES, Baseline, Builder, Call, spans, taps
from bench.cases import Arrays, PoolCase


def poolings(case: PoolCase, arrays: Arrays) -> dict[str, Builder]:
    """Return the ways of pooling."""
    _, _, out_h, out_w = case.output_shape
    k = case.kernel
    inside = case.pad == 0 and (out_h - 1) * case.stride + k <= case.h and (out_w - 1) * case.stride + k <= case.w
    ways: dict[str, Builder] = {
        "sliding windows": lambda: _windows(case, arrays),
        "taps": lambda: _taps(case, arrays, separable=False, blocked=False),
        "taps, blocks": lambda: _taps(case, arrays, separable=False, blocked=True),
        "rows then columns": lambda: _taps(case, arrays, separable=True, blocked=False),
        "rows then columns, blocks": lambda: _taps(case, arrays, separable=True, blocked=True),
    }
    if case.op == "max" and case.stride == 1 and k > 3:
        ways["doubling"] = lambda: _doubling(case, arrays)
    if inside and k == case.stride:
        ways["reshape"] = lambda: _reshape(case, arrays)
    if inside and case.op != "max" and (k, k) == (case.h, case.w):
        ways["matmul"] = lambda: _whole_plane(case, arrays)
    return ways


class _Pooling:
    """What all ways of pooling share: planes, neutral element, reduction, and what follows the reduction."""

    def __init__(self, case: PoolCase, arrays: Arrays) -> None:
        x = arrays.x
        self.case = case
        self.planes = x.reshape(case.n * case.c, case.h, case.w)
        self.out = case.empty_output(x.dtype)
        self.result = self.out.reshape(case.n * case.c, *self.out.shape[2:])
        self.reduction: np.ufunc = np.maximum if case.op == "max" else np.add
        self.neutral = -np.inf if case.op == "max" else 0.0
        self.calls: list[Call] = []
        if case.op == "avg":
            self.scale: Any = _reciprocal_counts(case).astype(x.dtype)
        elif case.op == "sub":
            self.scale = np.tile(arrays.weight, case.n)[:, None, None]
            self.shift = np.tile(arrays.bias, case.n)[:, None, None]

    def finish(self, planes: slice, rows: slice) -> None:
        """Divide by the count, or apply Torch7's weight and bias."""
        block = self.result[planes, rows]
        if self.case.op == "avg":
            self.calls.append(partial(np.multiply, block, self.scale[rows], out=block))
        elif self.case.op == "sub":
            self.calls.append(partial(np.multiply, block, self.scale[planes], out=block))
            self.calls.append(partial(np.add, block, self.shift[planes], out=block))

    def baseline(self) -> Baseline:
        """Return the calls collected so far."""
        return Baseline(tuple(self.calls), self.out)


def _reciprocal_counts(case: PoolCase) -> np.ndarray:
    """Return one over the number of elements in each window: padding counts, what hangs over beyond it does not."""

    def extents(size: int, out_size: int) -> np.ndarray:
        """Return the extents of the windows along one axis."""
        starts = np.arange(out_size) * case.stride - case.pad
        return np.minimum(starts + case.kernel, size + case.pad) - starts

    _, _, out_h, out_w = case.output_shape
    return 1.0 / (extents(case.h, out_h)[:, None] * extents(case.w, out_w)[None, :])


def _reshape(case: PoolCase, arrays: Arrays) -> Baseline:
    """Split each axis in two, (windows, kernel), and reduce: for windows that touch but do not overlap."""
    pooling = _Pooling(case, arrays)
    _, out_h, out_w = pooling.result.shape
    k = case.kernel
    cropped = pooling.planes[:, : out_h * k, : out_w * k]
    windows = cropped.reshape(len(cropped), out_h, k, out_w, k)  # splitting axes never copies
    pooling.calls.append(partial(pooling.reduction.reduce, windows, axis=(2, 4), out=pooling.result))
    pooling.finish(slice(None), slice(None))
    return pooling.baseline()


def _whole_plane(case: PoolCase, arrays: Arrays) -> Baseline:
    """Sum whole planes as a product of a matrix and a vector."""
    pooling = _Pooling(case, arrays)
    matrix = pooling.planes.reshape(len(pooling.planes), -1)
    ones = np.ones(matrix.shape[1], matrix.dtype)
    pooling.calls.append(partial(np.matmul, matrix, ones, out=pooling.result.reshape(-1)))
    pooling.finish(slice(None), slice(None))
    return pooling.baseline()


def _windows(case: PoolCase, arrays: Arrays) -> Baseline:
    """Reduce a sliding-window view of the padded input."""
    pooling = _Pooling(case, arrays)
    source = pooling.planes
    _, out_h, out_w = pooling.result.shape
    reach_h = max(case.h + case.pad, (out_h - 1) * case.stride + case.kernel)
    reach_w = max(case.w + case.pad, (out_w - 1) * case.stride + case.kernel)
    if case.pad or (reach_h, reach_w) != (case.h, case.w):
        pad = case.pad
        padded = np.full((len(source), reach_h + pad, reach_w + pad), pooling.neutral, source.dtype)
        pooling.calls.append(partial(np.copyto, padded[:, pad : pad + case.h, pad : pad + case.w], source))
        source = padded
    windows = sliding_window_view(source, (case.kernel, case.kernel), axis=(1, 2))
    windows = windows[:, :: case.stride, :: case.stride][:, :out_h, :out_w]
    pooling.calls.append(partial(pooling.reduction.reduce, windows, axis=(3, 4), out=pooling.result))
    pooling.finish(slice(None), slice(None))
    return pooling.baseline()


def _doubling(case: PoolCase, arrays: Arrays) -> Baseline:
    """Take maxima over 2, 4, 8, ... neighbours down the rows, then along the columns: log2(kernel) steps each."""
    pooling = _Pooling(case, arrays)
    count, out_h, out_w = pooling.result.shape
    pad = case.pad
    padded = np.full((count, case.h + 2 * pad, case.w + 2 * pad), pooling.neutral, pooling.planes.dtype)
    pooling.calls.append(partial(np.copyto, padded[:, pad : pad + case.h, pad : pad + case.w], pooling.planes))
    current = padded
    for axis, windows in ((1, out_h), (2, out_w)):
        width = 1  # neighbours that each element of `current` covers
        while width < case.kernel:
            step = min(width, case.kernel - width)
            length = current.shape[axis] - step
            first = current[:, :length] if axis == 1 else current[:, :, :length]
            second = current[:, step:] if axis == 1 else current[:, :, step:]
            width += step
            last = axis == 2 and width == case.kernel
            current = pooling.result if last else np.empty(first.shape, first.dtype)
            pooling.calls.append(partial(np.maximum, first, second, out=current))
        assert current.shape[axis] == windows
    return pooling.baseline()


def _taps(case: PoolCase, arrays: Arrays, *, separable: bool, blocked: bool) -> Baseline:
    """Combine strided slices tap by tap; `separable`: down the rows first, then along the columns of that result."""
    pooling = _Pooling(case, arrays)
    count, out_h, out_w = pooling.result.shape
    planes_at_once, rows_at_once = count, out_h
    if blocked:
        plane_bytes = (case.h * case.w + 2 * out_h * case.w) * pooling.planes.itemsize
        planes_at_once = max(1, CACHE_BYTES // plane_bytes)
        rows_at_once = max(1, min(out_h, CACHE_BYTES * out_h // plane_bytes))
    right = taps(case.w, case.kernel, case.stride, case.pad, 1, (0, out_w))
    between = np.empty((planes_at_once, rows_at_once, case.w), pooling.planes.dtype) if separable else None
    for first_row, last_row in spans(out_h, rows_at_once):
        down = taps(case.h, case.kernel, case.stride, case.pad, 1, (first_row, last_row))
        for begin, end in spans(count, planes_at_once):
            source = pooling.planes[begin:end]
            block = pooling.result[begin:end, first_row:last_row]
            if between is None:
                pairs = [
                    (block[:, rows, columns], source[:, seen_rows, seen_columns])
                    for rows, seen_rows, _ in down
                    for columns, seen_columns, _ in right
                ]
                _accumulate(pooling, block, pairs)
            else:
                reduced = between[: end - begin, : last_row - first_row]
                _accumulate(pooling, reduced, [(reduced[:, rows], source[:, seen]) for rows, seen, _ in down])
                _accumulate(pooling, block, [(block[:, :, cols], reduced[:, :, seen]) for cols, seen, _ in right])
            pooling.finish(slice(begin, end), slice(first_row, last_row))
    return pooling.baseline()


def _accumulate(pooling: _Pooling, total: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Reduce the slices into `total`; each pair is the part of the total that a slice touches, and the slice."""
    whole = [seen for target, seen in pairs if target.shape == total.shape]
    cut = [(target, seen) for target, seen in pairs if target.shape != total.shape]
    if len(whole) >= 2:
        pooling.calls.append(partial(pooling.reduction, whole[0], whole[1], out=total))
    elif whole:
        pooling.calls.append(partial(np.copyto, total, whole[0]))
    else:
        pooling.calls.append(partial(total.fill, pooling.neutral))
    for target, seen in [*((total, seen) for seen in whole[2:]), *cut]:
        pooling.calls.append(partial(pooling.reduction, target, seen, out=target))
