"""The same operations as everybody writes them in NumPy: im2col + matmul, and folding strided slices.

They are both the reference that every result is compared with and the time that it is measured against, so they are
written to be fast: of the usual NumPy spellings these were the fastest. In particular `x.reshape(...).max((3, 5))`
takes tens of times longer than the folds below.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]


def strided_slice(x: Array, factor: int) -> Array:
    """Every `factor`-th pixel of every `factor`-th row, as an array of its own."""
    return np.ascontiguousarray(x[:, :, ::factor, ::factor])


def conv2d_im2col(x: Array, weight: Array, bias: Array, stride: int, padding: int) -> Array:
    """Convolution with replicated borders: one column of taps per output pixel, then one matrix product."""
    n, c, _, _ = x.shape
    o, _, kh, kw = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="edge")
    windows = sliding_window_view(padded, (kh, kw), axis=(2, 3))[:, :, ::stride, ::stride]
    out_h, out_w = windows.shape[2:4]
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * kh * kw, out_h * out_w)  # this copies
    y = weight.reshape(o, -1) @ columns
    y += bias[:, np.newaxis]
    return y.reshape(n, o, out_h, out_w)


def fold_blocks(x: Array, factor: int, combine: np.ufunc) -> Array:
    """Reduce every factor x factor block by `combine`: first its rows, which are contiguous, then its columns."""
    rows = x[:, :, ::factor].copy()
    for i in range(1, factor):
        combine(rows, x[:, :, i::factor], out=rows)
    blocks = rows[..., ::factor].copy()
    for j in range(1, factor):
        combine(blocks, rows[..., j::factor], out=blocks)
    return blocks


def max_pool(x: Array, factor: int) -> Array:
    """Return the largest value of every block."""
    return fold_blocks(x, factor, np.maximum)


def avg_pool(x: Array, factor: int) -> Array:
    """Return the mean of every block."""
    y = fold_blocks(x, factor, np.add)
    y *= np.float32(1 / factor**2)
    return y


def subsample(x: Array, weight: Array, bias: Array, factor: int) -> Array:
    """Return the sum of every block times its channel's weight, plus its channel's bias."""
    y = fold_blocks(x, factor, np.add)
    y *= weight[:, np.newaxis, np.newaxis]
    y += bias[:, np.newaxis, np.newaxis]
    return y


def min_pool(x: Array, factor: int) -> Array:
    """Return the smallest value of every block."""
    return fold_blocks(x, factor, np.minimum)


def root_mean_square(x: Array, factor: int) -> Array:
    """Return the root of the mean square of every block."""
    y = fold_blocks(x * x, factor, np.add)
    y *= np.float32(1 / factor**2)
    np.sqrt(y, out=y)
    return y


def block_rows(x: Array, factor: int) -> Array:
    """Copy every block into a row of its own: (n, c, h, w, factor * factor)."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // factor, factor, w // factor, factor).transpose(0, 1, 2, 4, 3, 5)
    return blocks.reshape(n, c, h // factor, w // factor, factor * factor)


def median_pool(x: Array, factor: int) -> Array:
    """Return the median of every block."""
    median: Array = np.median(block_rows(x, factor), axis=-1, overwrite_input=True)
    return median


def stochastic_pool(x: Array, factor: int, seed: int) -> Array:
    """Draw one value of every block with a probability in proportion to it: where the running sum passes u * sum."""
    taps = np.maximum(block_rows(x, factor), 0)
    sums = taps.cumsum(axis=-1)
    u = np.random.default_rng(seed).random(taps.shape[:-1], np.float32)
    drawn = (sums > (u * sums[..., -1])[..., np.newaxis]).argmax(axis=-1)
    chosen: Array = np.take_along_axis(taps, drawn[..., np.newaxis], axis=-1)[..., 0]
    return chosen


def blur_pool(x: Array, weights: Array, factor: int) -> Array:
    """Filter along both axes, one after the other, with reflected borders, and only where it is kept."""
    size = len(weights)
    ends = ((size - 1) // 2, size // 2)
    h, w = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), ends, ends), mode="reflect")
    rows: Array = weights[0] * padded[:, :, :h:factor]
    for k in range(1, size):
        rows += weights[k] * padded[:, :, k : k + h : factor]
    y: Array = weights[0] * rows[..., :w:factor]
    for k in range(1, size):
        y += weights[k] * rows[..., k : k + w : factor]
    return y
