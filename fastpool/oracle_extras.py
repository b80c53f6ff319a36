"""What the rarer reductions mean: naive loops over windows, in NumPy alone, as in `fastpool.oracle`.

The functions carry the names and the arguments of the public ones. Each loops over output elements (or input elements,
where those decide), in any number of dimensions. What a window sees is worked out by the oracle of the plain poolings.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from fastpool.oracle import Array, Padding, _axis_windows, _source

__all__ = [
    "block_reduce", "blur_pool2d", "fractional_max_pool2d", "fractional_max_pool3d", "max_unpool1d", "max_unpool2d",
    "max_unpool3d", "median_pool1d", "median_pool2d", "median_pool3d", "pixel_shuffle", "pixel_unshuffle",
    "stochastic_pool2d",
]  # fmt: skip


def _per_axis(value: Any, axes: int) -> list[Any]:
    """Give one value for each axis; pairs of padding are such values."""
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value] * axes


def _taps(
    x: Array, axes: int, kernel_size: Any, stride: Any, padding: Padding, dilation: Any, ceil_mode: bool
) -> tuple[tuple[int, ...], Iterator[tuple[tuple[Any, ...], Array]]]:
    """Give the number of windows along each axis, and for each of them its place and its taps (N, C, tap)."""
    kernel = _per_axis(kernel_size, axes)
    steps = kernel if stride is None else _per_axis(stride, axes)
    geometry = zip(
        x.shape[2:], kernel, steps, _per_axis(padding, axes), _per_axis(dilation, axes), [ceil_mode] * axes, strict=True
    )
    along = [[window.inside for window in _axis_windows(*axis)] for axis in geometry]

    def windows() -> Iterator[tuple[tuple[Any, ...], Array]]:
        for place in itertools.product(*(range(len(axis)) for axis in along)):
            inside = [axis[o] for axis, o in zip(along, place, strict=True)]
            grid: tuple[Any, ...] = (slice(None), slice(None), *np.ix_(*inside))
            yield place, x[grid].reshape(*x.shape[:2], math.prod(map(len, inside)))

    return tuple(map(len, along)), windows()


def _as_batch(function: Callable[..., Any], x: Array, axes: int, *arguments: Any) -> Any:
    """Call with (N, C, ...), give back what the caller's x has or has not of N."""
    if x.ndim == axes + 2:
        return function(x, axes, *arguments)
    result = function(x[None], axes, *arguments)
    return tuple(part[0] for part in result) if isinstance(result, tuple) else result[0]


# ------------------------------------------------------------------------------------------------------------- unpool


def _unpool(
    x: Array, axes: int, indices: Array, kernel_size: Any, stride: Any, padding: Any, output_size: Sequence[int] | None
) -> Array:
    kernel = _per_axis(kernel_size, axes)
    steps = kernel if stride is None else _per_axis(stride, axes)
    pads = [p if isinstance(p, list | tuple) else (p, p) for p in _per_axis(padding, axes)]
    sizes = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(x.shape[2:], steps, kernel, pads, strict=True)]
    sizes = sizes if output_size is None else list(output_size)[-axes:]
    indices = indices.reshape(x.shape)
    y = np.zeros((*x.shape[:2], math.prod(sizes)), x.dtype)
    for place in np.ndindex(x.shape):  # row-major: the last of equal indices stays
        y[(*place[:2], indices[place])] = x[place]
    return y.reshape(*x.shape[:2], *sizes)


def max_unpool1d(
    x: Array, indices: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """Put each element where its index says, among zeros."""
    return _as_batch(_unpool, x, 1, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Array, indices: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """Put each element where its index says, among zeros."""
    return _as_batch(_unpool, x, 2, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Array, indices: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """Put each element where its index says, among zeros."""
    return _as_batch(_unpool, x, 3, indices, kernel_size, stride, padding, output_size)


# ------------------------------------------------------------------------------------------------------------- median


def _medians(taps: Array) -> Array:
    """Median of the last axis, NaN where it is empty."""
    if taps.shape[-1] == 0 or taps.size == 0:
        return np.full(taps.shape[:-1], np.nan)
    with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN: wanted
        return np.asarray(np.median(taps, axis=-1))


def _median_pool(x: Array, axes: int, *windows: Any) -> Array:
    of_floats = x.dtype.kind == "f"
    sizes, taps_of = _taps(x.astype(np.float64) if of_floats else x, axes, *windows)
    y = np.empty((*x.shape[:2], *sizes))
    for place, taps in taps_of:
        y[(..., *place)] = _medians(taps)
    return y.astype(x.dtype) if of_floats else y


def median_pool1d(
    x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Give the median of the taps of each window that fall on the input; of integers in float64."""
    return _as_batch(_median_pool, x, 1, kernel_size, stride, padding, dilation, ceil_mode)


def median_pool2d(
    x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Give the median of the taps of each window that fall on the input; of integers in float64."""
    return _as_batch(_median_pool, x, 2, kernel_size, stride, padding, dilation, ceil_mode)


def median_pool3d(
    x: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Give the median of the taps of each window that fall on the input; of integers in float64."""
    return _as_batch(_median_pool, x, 3, kernel_size, stride, padding, dilation, ceil_mode)


# --------------------------------------------------------------------------------------------------------- fractional


def fractional_starts(size: int, kernel: int, out: int, sample: float) -> list[int]:
    """First elements of the windows of an axis: steps of floor(a) and ceil(a), a = (size - kernel) / (out - 1)."""
    if out == 1:
        return [size - kernel]
    u, a = Fraction(float(sample)), Fraction(size - kernel, out - 1)
    return [math.floor((i + u) * a) - math.floor(u * a) for i in range(out - 1)] + [size - kernel]


def _fractional(
    x: Array, axes: int, kernel_size: Any, output_size: Any, output_ratio: Any, random_samples: Array, seed: Any
) -> tuple[Array, Array]:
    kernel = _per_axis(kernel_size, axes)
    if output_size is None:
        sizes = [math.floor(n * ratio) for n, ratio in zip(x.shape[2:], _per_axis(output_ratio, axes), strict=True)]
    else:
        sizes = _per_axis(output_size, axes)
    if random_samples is None:
        random_samples = np.random.default_rng(seed).random((*x.shape[:2], axes))
    samples = random_samples.reshape(*x.shape[:2], axes)
    if axes == 2:  # PyTorch's: the width's comes first, in three dimensions the depth's
        samples = samples[..., ::-1]
    values, indices = np.empty((*x.shape[:2], *sizes), x.dtype), np.empty((*x.shape[:2], *sizes), np.int64)
    place: tuple[Any, ...]
    for n, c in np.ndindex(x.shape[:2]):
        starts = [
            fractional_starts(*of_axis) for of_axis in zip(x.shape[2:], kernel, sizes, samples[n, c], strict=True)
        ]
        for place in np.ndindex(*sizes):
            window = [axis[o] + np.arange(k) for axis, o, k in zip(starts, place, kernel, strict=True)]
            flat = np.ravel_multi_index(np.ix_(*window), x.shape[2:]).ravel()
            taps = x[n, c].ravel()[flat]
            best = np.flatnonzero(np.isnan(taps))[-1] if np.isnan(taps).any() else taps.argmax()
            values[(n, c, *place)], indices[(n, c, *place)] = taps[best], flat[best]
    return values, indices


def fractional_max_pool2d(
    x: Array,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    *,
    random_samples: Array | None = None,
    seed: Any = None,
) -> Any:
    """Give the maxima of windows whose distances are drawn, plane by plane."""
    pair = _as_batch(_fractional, x, 2, kernel_size, output_size, output_ratio, random_samples, seed)
    return pair if return_indices else pair[0]


def fractional_max_pool3d(
    x: Array,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    *,
    random_samples: Array | None = None,
    seed: Any = None,
) -> Any:
    """Give the maxima of windows whose distances are drawn, plane by plane."""
    pair = _as_batch(_fractional, x, 3, kernel_size, output_size, output_ratio, random_samples, seed)
    return pair if return_indices else pair[0]


# --------------------------------------------------------------------------------------------------------- stochastic


def _weighted(x: Array, axes: int, *windows: Any) -> Array:
    """Divide the sum of the squares by the sum, in float64."""
    sizes, taps_of = _taps(x.astype(np.float64), axes, *windows)
    y = np.zeros((*x.shape[:2], *sizes))
    for place, taps in taps_of:
        positive = np.maximum(taps, 0)
        total = positive.sum(axis=2)
        with np.errstate(invalid="ignore"):
            mean = (positive * (positive / np.where(total == 0, 1, total)[:, :, None])).sum(axis=2)
        y[(..., *place)] = mean
    return y.astype(x.dtype)


def _drawn(x: Array, axes: int, seed: Any, *windows: Any) -> Array:
    """Take the first tap at which the running sum, in x's dtype, is above u times the whole sum."""
    sizes, taps_of = _taps(x, axes, *windows)
    u = np.random.default_rng(seed).random((*x.shape[:2], *sizes), x.dtype)
    y = np.zeros(u.shape, x.dtype)
    for place, taps in taps_of:
        for n, c in np.ndindex(x.shape[:2]):
            positive = np.maximum(taps[n, c], x.dtype.type(0))
            if not np.isfinite(positive).all():
                y[(n, c, *place)] = np.nan
            elif positive.any():
                sums = np.cumsum(positive, dtype=x.dtype)
                above = np.flatnonzero(sums > u[(n, c, *place)] * sums[-1])
                y[(n, c, *place)] = positive[above[0] if above.size else np.flatnonzero(positive)[-1]]
    return y


def stochastic_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    training: bool = False,
    *,
    seed: Any = None,
) -> Any:
    """Draw a tap of each window with a probability in proportion to it, or give the mean with these as weights."""
    windows = (kernel_size, stride, padding, dilation, ceil_mode)
    return _as_batch(_drawn, x, 2, seed, *windows) if training else _as_batch(_weighted, x, 2, *windows)


# --------------------------------------------------------------------------------------------------------------- blur


def _blur(x: Array, axes: int, filter_size: int, stride: Any, padding_mode: str) -> Array:
    row = [math.comb(filter_size - 1, k) for k in range(filter_size)]
    weight = np.outer(row, row) / sum(row) ** 2
    steps, begin = _per_axis(stride, axes), (filter_size - 1) // 2
    sizes = [-(-size // step) for size, step in zip(x.shape[2:], steps, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes))
    place: tuple[Any, ...]
    for place in np.ndindex(*sizes):
        for tap in np.ndindex(filter_size, filter_size):
            at = [o * s - begin + t for o, s, t in zip(place, steps, tap, strict=True)]
            if any(not 0 <= p < size for p, size in zip(at, x.shape[2:], strict=True)):
                if padding_mode == "zeros":
                    continue
                at = [_source(p, size, padding_mode) for p, size in zip(at, x.shape[2:], strict=True)]
            y[(..., *place)] += weight[tap] * x[(..., *at)]
    return y


def blur_pool2d(x: Array, filter_size: int = 4, stride: Any = 2, *, padding_mode: str = "reflect") -> Any:
    """Smooth each channel with a binomial filter and keep every stride-th element."""
    with np.errstate(invalid="ignore"):
        return _as_batch(_blur, x.astype(np.float64), 2, filter_size, stride, padding_mode).astype(x.dtype)


# ------------------------------------------------------------------------------------------------------------ shuffle


def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """Make every square of r x r pixels r * r channels: y[c*r*r + i*r + j, h, w] = x[c, h*r + i, w*r + j]."""
    r, (*batch, channels, height, width) = downscale_factor, x.shape
    y = np.empty((*batch, channels * r * r, height // r, width // r), x.dtype)
    for c, i, j in np.ndindex(channels, r, r):
        y[..., c * r * r + i * r + j, :, :] = x[..., c, i::r, j::r]
    return y


def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Make every r * r channels squares of r x r pixels: y[c, h*r + i, w*r + j] = x[c*r*r + i*r + j, h, w]."""
    r, (*batch, channels, height, width) = upscale_factor, x.shape
    y = np.empty((*batch, channels // r**2, height * r, width * r), x.dtype)
    for c, i, j in np.ndindex(channels // r**2, r, r):
        y[..., c, i::r, j::r] = x[..., c * r * r + i * r + j, :, :]
    return y


# ------------------------------------------------------------------------------------------------------------- blocks


def block_reduce(x: Array, block_size: Any, reduction: str) -> Array:
    """Reduce each block to one element; what the last block of an axis lacks does not count."""
    block = _per_axis(block_size, x.ndim)
    functions: dict[str, Any] = {"max": np.max, "mean": np.mean, "sum": np.sum, "min": np.min, "median": np.median}
    shape = tuple(-(-size // b) for size, b in zip(x.shape, block, strict=True))
    of_floats = x.dtype.kind == "f"
    with np.errstate(invalid="ignore", over="ignore"):
        y = np.empty(shape, functions[reduction](x.astype(np.float64) if of_floats else x).dtype)
        for place in np.ndindex(*shape):
            part = x[tuple(slice(o * b, (o + 1) * b) for o, b in zip(place, block, strict=True))]
            y[place] = functions[reduction](part.astype(np.float64) if of_floats else part)
        return y.astype(x.dtype) if of_floats else y
