"""Convolution in NumPy: a matrix product, over gathered patches (im2col) where the kernel needs them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench.baselines.program import Baseline, Builder, Call, spans, taps
from bench.cases import Arrays, ConvCase

PANEL_BYTES = 1 << 22  # gathered patches that stay in the last-level cache until they are multiplied


def convolutions(case: ConvCase, arrays: Arrays) -> dict[str, Builder]:
    """Return the ways of convolving."""
    if case.kh == case.kw == case.stride == 1 and case.pad == 0:
        return {"matmul": lambda: _matmul(case, arrays)}
    _, _, out_h, out_w = case.output_shape
    rows = max(1, PANEL_BYTES // (case.c * case.kh * case.kw * out_w * arrays.x.itemsize))
    ways: dict[str, Builder] = {"im2col": lambda: _im2col_batch(case, arrays)}
    if case.n > 1:
        ways["im2col, image by image"] = lambda: _im2col_panels(case, arrays, out_h)
    if rows < out_h:
        ways["im2col, panels of rows"] = lambda: _im2col_panels(case, arrays, rows)
    if case.depthwise:
        ways["taps"] = lambda: _depthwise_taps(case, arrays)
    return ways


def _matmul(case: ConvCase, arrays: Arrays) -> Baseline:
    """Multiply weights and input as they are: a 1x1 convolution of stride 1 is a matrix product, nothing is copied."""
    out = case.empty_output(arrays.x.dtype)
    groups = case.groups
    weight = arrays.weight.reshape(groups, case.out_c // groups, case.c // groups)
    image = arrays.x.reshape(case.n, groups, case.c // groups, case.h * case.w)
    result = out.reshape(case.n, groups, case.out_c // groups, case.h * case.w)
    if groups == 1:
        weight, image, result = weight[0], image[:, 0], result[:, 0]
    if case.n == 1:
        image, result = image[0], result[0]
    return Baseline((partial(np.matmul, weight, image, out=result),), out)


def _patches(case: ConvCase, x: np.ndarray) -> tuple[np.ndarray, list[Call]]:
    """View the input as (N, C, KH, KW, OH, OW), and return the view with the calls that fill it."""
    calls: list[Call] = []
    if case.pad:
        pad = case.pad
        padded = np.zeros((case.n, case.c, case.h + 2 * pad, case.w + 2 * pad), x.dtype)
        calls.append(partial(np.copyto, padded[:, :, pad : pad + case.h, pad : pad + case.w], x))
        x = padded
    extent = case.dilation * (case.kh - 1) + 1, case.dilation * (case.kw - 1) + 1
    windows = sliding_window_view(x, extent, axis=(2, 3))
    windows = windows[:, :, :: case.stride, :: case.stride, :: case.dilation, :: case.dilation]
    return windows.transpose(0, 1, 4, 5, 2, 3), calls


def _im2col_batch(case: ConvCase, arrays: Arrays) -> Baseline:
    """Gather the patches of the whole batch in one copy, then multiply."""
    patches, calls = _patches(case, arrays.x)
    columns = np.empty(patches.shape, arrays.x.dtype)
    out = case.empty_output(arrays.x.dtype)
    groups, pixels = case.groups, out.shape[2] * out.shape[3]
    weight = arrays.weight.reshape(groups, case.out_c // groups, -1)
    matrix = columns.reshape(case.n, groups, weight.shape[2], pixels)
    result = out.reshape(case.n, groups, case.out_c // groups, pixels)
    calls += [partial(np.copyto, columns, patches), partial(np.matmul, weight, matrix, out=result)]
    return Baseline(tuple(calls), out)


def _im2col_gather(case: ConvCase, arrays: Arrays) -> Baseline:
    """Gather the patches through a table of indices, as tutorials do, then multiply; one table serves all planes."""
    pad, calls, x = case.pad, [], arrays.x
    height, width = case.h + 2 * pad, case.w + 2 * pad
    if pad:
        padded = np.zeros((case.n, case.c, height, width), x.dtype)
        calls.append(partial(np.copyto, padded[:, :, pad : pad + case.h, pad : pad + case.w], x))
        x = padded
    out = case.empty_output(x.dtype)
    out_h, out_w = out.shape[2:]
    rows = np.arange(case.kh)[:, None] * case.dilation + np.arange(out_h) * case.stride  # (KH, OH)
    columns = np.arange(case.kw)[:, None] * case.dilation + np.arange(out_w) * case.stride  # (KW, OW)
    table = rows[:, None, :, None] * width + columns[None, :, None, :]  # (KH, KW, OH, OW)
    gathered = np.empty((case.n, case.c, table.size), x.dtype)
    groups = case.groups
    weight = arrays.weight.reshape(groups, case.out_c // groups, -1)
    matrix = gathered.reshape(case.n, groups, weight.shape[2], out_h * out_w)
    result = out.reshape(case.n, groups, case.out_c // groups, out_h * out_w)
    planes = x.reshape(case.n, case.c, height * width)
    calls.append(partial(np.take, planes, table.ravel(), axis=2, out=gathered, mode="clip"))
    calls.append(partial(np.matmul, weight, matrix, out=result))
    return Baseline(tuple(calls), out)


#: Two ways of im2col that are measured under their own names, whichever is the fastest: both of the whole batch.
IM2COL = {"view": _im2col_batch, "gather": _im2col_gather}


def _im2col_panels(case: ConvCase, arrays: Arrays, rows: int) -> Baseline:
    """Gather and multiply `rows` output rows of one image at a time, so that the gathered patches stay in cache."""
    patches, calls = _patches(case, arrays.x)
    out = case.empty_output(arrays.x.dtype)
    groups, (out_h, out_w) = case.groups, out.shape[2:]
    weight = arrays.weight.reshape(groups, case.out_c // groups, -1)
    result = out.reshape(case.n, groups, case.out_c // groups, out_h * out_w)
    panel = np.empty(case.c * case.kh * case.kw * rows * out_w, arrays.x.dtype)
    if groups == 1:  # spares matmul its loop over one group
        weight, result = weight[0], result[:, 0]
    for image in range(case.n):
        for begin, end in spans(out_h, rows):
            columns = panel[: case.c * case.kh * case.kw * (end - begin) * out_w]
            gathered = columns.reshape(case.c, case.kh, case.kw, end - begin, out_w)
            matrix = columns.reshape(*weight.shape[:-2], weight.shape[-1], (end - begin) * out_w)
            target = result[image, ..., begin * out_w : end * out_w]
            calls.append(partial(np.copyto, gathered, patches[image, ..., begin:end, :]))
            calls.append(partial(np.matmul, weight, matrix, out=target))
    return Baseline(tuple(calls), out)


def _depthwise_taps(case: ConvCase, arrays: Arrays) -> Baseline:
    """Multiply and add tap by tap: the product of every plane with one kernel element, strided slices of the input."""
    out = case.empty_output(arrays.x.dtype)
    product = np.empty_like(out)
    down = taps(case.h, case.kh, case.stride, case.pad, case.dilation, (0, out.shape[2]))
    right = taps(case.w, case.kw, case.stride, case.pad, case.dilation, (0, out.shape[3]))
    calls: list[Call] = []
    for rows, seen_rows, i in down:
        for columns, seen_columns, j in right:
            seen = arrays.x[:, :, seen_rows, seen_columns]
            weight = arrays.weight[:, 0, i, j, None, None]
            target = out[:, :, rows, columns]
            if not calls and target.shape == out.shape:
                calls.append(partial(np.multiply, seen, weight, out=out))
                continue
            if not calls:
                calls.append(partial(out.fill, 0))
            term = product[:, :, rows, columns]
            calls += [partial(np.multiply, seen, weight, out=term), partial(np.add, target, term, out=target)]
    return Baseline(tuple(calls), out)
