"""What every operation means: naive loops over output pixels or taps, in NumPy alone, to be checked by eye.

The functions carry the names and the arguments of the public ones and are the reference that their tests compare with.
Nothing is shared with the rest of the package: shapes, padding and windows are worked out here a second time.

- Floating-point numbers are computed in float64 and rounded once, at the end, to the dtype of the input. A float32
  result is thus (nearly always) the correctly rounded one, and stays finite where float32 sums would overflow on the
  way.
- Convolutions take integers too: products of 8 bits by 8 bits are summed in int32, all others in int64, which is also
  the dtype of the result. Sums wrap around.
- Poolings of one, two and three dimensions differ in nothing but their number of axes. They take all integers and
  bool, by NumPy's rules: extrema keep the dtype, sums are int64 or uint64, means and norms float64; and float16 and
  bfloat16 beside float32 and float64.
- `out=` is left out: it says where a result is stored, not what it is. Arguments are hardly validated for the same
  reason; only what has no meaning at all is refused.
- Padding of a convolution is multiplied like any pixel: a zero of the border times an infinite weight is NaN.
- Padding of a pooling takes no part in it, but the divisor of an average may count it.
- A window that sees no input gives -inf at index 0 (max), +inf at index 0 (min), of integers and bool their least and
  largest value, and 0 (sum, average, lp).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "conv2d",
    "global_avg_pool1d", "global_avg_pool2d", "global_avg_pool3d", "global_lp_pool1d", "global_lp_pool2d",
    "global_lp_pool3d", "global_max_pool1d", "global_max_pool2d", "global_max_pool3d", "lp_pool1d", "lp_pool2d",
    "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "min_pool1d", "min_pool2d", "min_pool3d",
    "subsample1d", "subsample2d", "subsample3d", "sum_pool1d", "sum_pool2d", "sum_pool3d",
]  # fmt: skip

Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = int | Sequence[int]
Sizes: TypeAlias = int | Sequence[int]  # one, or one for each axis
Padding: TypeAlias = str | int | Sequence[int] | Sequence[Sequence[int]]
Windows: TypeAlias = "list[list[_Window]]"  # of each axis
Bounds: TypeAlias = tuple[float | None, float | None]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _in_float64(function: _Function) -> _Function:
    """Let `function` see a float64 (N, C, H, W) array; give back the caller's dtype and number of axes."""

    @wraps(function)
    def wrapper(x: Array, *args: Any, **kwargs: Any) -> Any:
        if x.dtype not in (np.float32, np.float64):
            raise TypeError(f"x must be float32 or float64, got {x.dtype}")
        if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
            raise ValueError(f"x must be (N, C, H, W) or (C, H, W), and only N may be 0, got {x.shape}")

        def restore(y: Array) -> Array:
            y = y.astype(x.dtype)
            return y if x.ndim == 4 else cast(Array, y[0])

        with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN and 1e300 is float32 inf: wanted
            return restore(function((x if x.ndim == 4 else x[None]).astype(np.float64), *args, **kwargs))

    return cast(_Function, wrapper)


# ---------------------------------------------------------------------------------------------------------- windows


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = (value, value) if np.isscalar(value) else value
    return first, second


def _axis_geometry(
    size: int, kernel: int, stride: int, padding: Any, dilation: int, ceil_mode: bool = False
) -> tuple[int, int, int]:
    """Give (output size, pad begin, pad end) of an axis; `padding` is an int, a (begin, end) pair or a name."""
    extent = dilation * (kernel - 1) + 1
    if padding in ("same", "same_upper", "same_lower"):
        out = -(-size // stride)
        total = max(0, (out - 1) * stride + extent - size)
        smaller, larger = total // 2, total - total // 2
        return (out, larger, smaller) if padding == "same_lower" else (out, smaller, larger)

    begin, end = (0, 0) if padding == "valid" else _pair(padding)
    room = size + begin + end - extent
    if room < 0:
        raise ValueError(f"a window of {extent} is larger than the padded input: {begin} + {size} + {end}")
    if not ceil_mode:
        return room // stride + 1, begin, end
    out = -(-room // stride) + 1
    if (out - 1) * stride >= size + begin:  # the last window would start past the input
        out -= 1
    return out, begin, end


class _Window(NamedTuple):
    """A window along one axis."""

    inside: list[int]  # input positions of the taps that fall on the input
    counted: int  # number of taps on the input or on its padding; what overhangs in ceil_mode is neither


def _axis_windows(size: int, kernel: int, stride: int, padding: Any, dilation: int, ceil_mode: bool) -> list[_Window]:
    out, begin, end = _axis_geometry(size, kernel, stride, padding, dilation, ceil_mode)
    windows = []
    for o in range(out):
        taps = [o * stride - begin + t * dilation for t in range(kernel)]
        windows.append(_Window([p for p in taps if 0 <= p < size], sum(p < size + end for p in taps)))
    return windows


def _per_axis(value: Any, axes: int) -> tuple[Any, ...]:
    values = (value,) if value is None or np.isscalar(value) else tuple(value)
    return values * axes if len(values) == 1 else values


def _windows(
    x: Array, kernel_size: Sizes, stride: Sizes | None, padding: Padding, dilation: Sizes, ceil_mode: bool
) -> Windows:
    """Give the windows of each axis; their products are the windows of the array."""
    stride = kernel_size if stride is None or stride == () else stride
    values = [_per_axis(value, x.ndim - 2) for value in (kernel_size, stride, padding, dilation, ceil_mode)]
    return [_axis_windows(*axis) for axis in zip(x.shape[2:], *values, strict=True)]


def _adaptive_axis_windows(size: int, out: int | None) -> list[_Window]:
    out = size if out is None else out
    spans = [range(o * size // out, -(-(o + 1) * size // out)) for o in range(out)]
    return [_Window(list(span), len(span)) for span in spans]


def _adaptive_windows(x: Array, output_size: int | Sequence[int | None]) -> Windows:
    sizes = zip(x.shape[2:], _per_axis(output_size, x.ndim - 2), strict=True)
    return [_adaptive_axis_windows(size, out) for size, out in sizes]


def _each(windows: Windows) -> Iterator[tuple[Any, tuple[_Window, ...]]]:
    """Give the index of each output, of all images and channels, and the windows of all axes that it combines."""
    for position in itertools.product(*(range(len(axis)) for axis in windows)):
        yield (..., *position), tuple(axis[i] for axis, i in zip(windows, position, strict=True))


def _counts(windows: Windows, count: Callable[[_Window], int]) -> Array:
    """Give the product of a number of each axis, for each output."""
    counts = np.empty([len(axis) for axis in windows], np.int64)
    for output, window in _each(windows):
        counts[output] = math.prod(map(count, window))
    return counts


def _taps_inside(windows: Windows) -> Array:
    """Give, for each output, the number of its taps that fall on the input."""
    return _counts(windows, lambda window: len(window.inside))


# ------------------------------------------------------------------------------------------------ window reductions


def _window_sum(x: Array, windows: Windows) -> Array:
    y = np.empty((*x.shape[:2], *map(len, windows)), x.dtype)
    for output, window in _each(windows):
        taps: Any = (slice(None), slice(None), *np.ix_(*(axis.inside for axis in window)))
        y[output] = x[taps].sum(axis=tuple(range(2, x.ndim)))
    return y


def _window_extremum(x: Array, windows: Windows, largest: bool) -> tuple[Array, Array]:
    """Give the extrema and their indices within the plane: the first of equals, the last NaN where there is any."""
    n, channels, *sizes = x.shape
    planes = x.reshape(n, channels, math.prod(sizes))
    lowest, highest = _ends(x.dtype)
    values = np.full((n, channels, *map(len, windows)), lowest if largest else highest, x.dtype)
    indices = np.zeros(values.shape, np.int64)
    places = np.arange(math.prod(sizes)).reshape(sizes)
    for output, window in _each(windows):
        flat = places[np.ix_(*(axis.inside for axis in window))].ravel()
        if flat.size == 0:
            continue
        seen = planes[:, :, flat]
        best = seen.argmax(axis=2) if largest else seen.argmin(axis=2)
        nan = seen != seen
        best = np.where(nan.any(axis=2), flat.size - 1 - nan[:, :, ::-1].argmax(axis=2), best)
        values[output] = np.take_along_axis(seen, best[:, :, None], axis=2)[:, :, 0]
        indices[output] = flat[best]
    return values, indices


def _ends(dtype: Any) -> tuple[Any, Any]:
    """Give the least and the largest value of a dtype."""
    if dtype.kind == "b":
        return False, True
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)


# ------------------------------------------------------------------------------------------------------- convolution


def _source(position: int, size: int, padding_mode: str) -> int:
    """Give the input position that padding repeats at `position`, which may lie any distance outside."""
    if padding_mode == "replicate":  # a a | a b c d | d d
        return min(max(position, 0), size - 1)
    if padding_mode == "circular":  # c d | a b c d | a b
        return position % size
    if padding_mode == "symmetric":  # b a | a b c d | d c
        position %= 2 * size
        return min(position, 2 * size - 1 - position)
    if padding_mode == "reflect":  # c b | a b c d | c b
        period = max(2 * (size - 1), 1)
        position %= period
        return min(position, period - position)
    raise ValueError(f"unknown padding_mode {padding_mode!r}")


def _pad(x: Array, pads: Sequence[Sequence[int]], padding_mode: str) -> Array:
    if padding_mode == "zeros":
        return np.pad(x, ((0, 0), (0, 0), *pads))
    rows, cols = (
        [_source(position, size, padding_mode) for position in range(-begin, size + end)]
        for size, (begin, end) in zip(x.shape[2:], pads, strict=True)
    )
    return x[:, :, rows][:, :, :, cols]


def _whole(bound: Any, dtype: Any, rounded: Callable[[Any], int] = math.floor, open_end: float = math.inf) -> Array:
    """Give the nearest integer on the inner side of a bound, or the end of the dtype's range that it lies beyond."""
    bound = open_end if bound is None else bound.item() if isinstance(bound, np.generic) else bound
    limits = np.iinfo(dtype)
    return np.array(rounded(max(int(limits.min), min(bound, int(limits.max)))), dtype)


def _activate(y: Array, activation: str | Bounds | None) -> Array:
    names: dict[Any, Bounds] = {None: (None, None), "relu": (0.0, None), "relu6": (0.0, 6.0)}
    low, high = names[activation] if activation is None or isinstance(activation, str) else activation
    if y.dtype.kind == "i":
        y = np.maximum(y, _whole(low, y.dtype, math.ceil, -math.inf))
        return np.minimum(y, _whole(high, y.dtype))
    y = y if low is None else np.maximum(y, low)  # NaN stays NaN
    return y if high is None else np.minimum(y, high)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: str | Bounds | None = None,
    residual: Array | None = None,
) -> Array:
    """Cross-correlate with `weight` (O, C/groups, KH, KW), add bias and residual, then apply the activation."""
    arguments = (weight, bias, stride, padding, dilation, groups, padding_mode, activation, residual)
    if x.dtype.kind not in "iu":
        return _in_float64(_conv2d)(x, *arguments)
    if weight.dtype.kind not in "iu" or np.uint64 in (x.dtype, weight.dtype):
        raise TypeError(f"x and weight must both be integers, and not uint64, got {x.dtype} and {weight.dtype}")
    sums = x.astype(np.int32 if x.itemsize == weight.itemsize == 1 else np.int64)
    y = _conv2d(sums if x.ndim == 4 else sums[None], *arguments)
    return y if x.ndim == 4 else cast(Array, y[0])


def _conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    padding_mode: str,
    activation: str | Bounds | None,
    residual: Array | None,
) -> Array:
    """Convolve (N, C, H, W) in the dtype of x."""
    out_channels, group_channels, *kernels = weight.shape
    if x.shape[1] != groups * group_channels or out_channels % groups:
        raise ValueError(f"weight {weight.shape} and groups {groups} do not fit {x.shape[1]} channels")
    geometry = zip(x.shape[2:], kernels, *map(_pair, (stride, padding, dilation)), strict=True)
    (height, *pad_h), (width, *pad_w) = (_axis_geometry(*axis) for axis in geometry)
    padded = _pad(x, (pad_h, pad_w), padding_mode)
    padded = padded.reshape(len(x), groups, group_channels, *padded.shape[2:])
    grouped = weight.astype(x.dtype).reshape(groups, out_channels // groups, group_channels, *kernels)

    y = np.zeros((len(x), groups, out_channels // groups, height * width), x.dtype)
    (stride_h, stride_w), (dilation_h, dilation_w) = _pair(stride), _pair(dilation)
    rows, columns = np.arange(height) * stride_h, np.arange(width) * stride_w
    for k in range(kernels[0]):
        for m in range(kernels[1]):
            seen = padded[:, :, :, rows + k * dilation_h][:, :, :, :, columns + m * dilation_w]
            y += grouped[..., k, m] @ seen.reshape(len(x), groups, group_channels, height * width)

    y = y.reshape(len(x), out_channels, height, width)
    if bias is not None:
        y = y + bias.astype(x.dtype)[:, None, None]
    if residual is not None:
        y = y + residual.astype(x.dtype)
    return _activate(y, activation)


# ------------------------------------------------------------------------------------------- subsampling and pooling


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"  # which is known to NumPy by a package of its own


def _sum_type(dtype: Any) -> Any:
    """Give the dtype that NumPy sums integers and bool in."""
    return np.uint64 if dtype.kind == "u" else np.int64


def _of_each_rank(
    function: Callable[..., Any], of_integers: Callable[[Any], Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Give a pooling's functions of one, two and three dimensions.

    `function` sees an (N, C, ...) array: float64 in place of floating-point numbers, else of the dtype `of_integers`.
    """

    def of_rank(axes: int) -> Callable[..., Any]:
        @wraps(function)
        def pool(x: Array, *args: Any, **kwargs: Any) -> Any:
            if not (_is_float(x.dtype) or x.dtype.kind in "iub") or x.dtype.itemsize > 8:
                raise TypeError(f"x must be of integers, bool or floating-point numbers, got {x.dtype}")
            if x.ndim not in (axes + 1, axes + 2) or 0 in x.shape[-axes - 1 :]:
                layout = "C, " + ", ".join("DHW"[-axes:])
                raise ValueError(f"x must be (N, {layout}) or ({layout}), and only N may be 0, got {x.shape}")
            wide = np.dtype(np.float64 if _is_float(x.dtype) else of_integers(x.dtype))
            batched = (x if x.ndim == axes + 2 else x[None]).astype(wide)

            def restore(y: Array) -> Array:
                return y if x.ndim == axes + 2 else cast(Array, y[0])

            with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN and 1e300 is float32 inf: wanted
                result = function(batched, *args, **kwargs)
                values, *indices = result if isinstance(result, tuple) else (result,)
                values = restore(values.astype(x.dtype if _is_float(x.dtype) else wide))
                return (values, restore(indices[0])) if indices else values

        pool.__name__ = pool.__qualname__ = f"{function.__name__.removeprefix('_')}{axes}d"
        return pool

    return of_rank(1), of_rank(2), of_rank(3)


def _subsample(
    x: Array,
    weight: Array,
    bias: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    """Give `bias[c] + weight[c] * (sum over the window)`, channel by channel, as Torch7's SpatialSubSampling."""
    sums = _window_sum(x, _windows(x, kernel_size, stride, padding, 1, ceil_mode))
    scale, shift = (a.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2)) for a in (weight, bias))
    return cast(Array, shift + scale * sums)


def _max_pool(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Give the maximum of each window; NaN wins, and of equals the first in row-major order."""
    values, indices = _window_extremum(x, _windows(x, kernel_size, stride, padding, dilation, ceil_mode), True)
    return (values, indices) if return_indices else values


def _min_pool(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Give the minimum of each window; NaN wins, and of equals the first in row-major order."""
    values, indices = _window_extremum(x, _windows(x, kernel_size, stride, padding, dilation, ceil_mode), False)
    return (values, indices) if return_indices else values


def _avg_pool(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
) -> Array:
    """Divide the sum of each window by its number of taps, with or without those on the padding."""
    if divisor_override == 0:
        raise ValueError("divisor_override must not be 0")
    windows = _windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    divisors: Array | int
    if divisor_override is not None:
        divisors = divisor_override
    elif count_include_pad:
        divisors = _counts(windows, lambda window: window.counted)
    else:
        divisors = np.maximum(_taps_inside(windows), 1)  # a window that sees no input: 0 / 1
    return cast(Array, _window_sum(x, windows) / divisors)


def _sum_pool(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    dilation: Sizes = 1,
) -> Array:
    """Sum each window."""
    return _window_sum(x, _windows(x, kernel_size, stride, padding, dilation, ceil_mode))


def _norm(x: Array, norm_type: float, windows: Windows) -> Array:
    """Give `(sum |x|^p)^(1/p)` of each window, p = `norm_type` > 0; at p = inf the maximum of |x|."""
    if not norm_type > 0:
        raise ValueError(f"norm_type must be positive, got {norm_type}")
    if norm_type == np.inf:
        return np.maximum(_window_extremum(np.abs(x), windows, True)[0], 0.0)  # a window that sees no input: 0
    return cast(Array, _window_sum(np.abs(x) ** norm_type, windows) ** (1.0 / norm_type))


def _lp_pool(
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Array:
    """Give the Lp norm of each window."""
    return _norm(x, norm_type, _windows(x, kernel_size, stride, padding, dilation, ceil_mode))


def _adaptive_avg_pool(x: Array, output_size: int | Sequence[int | None]) -> Array:
    """Average over windows from floor(i*in/out) to ceil((i+1)*in/out)."""
    windows = _adaptive_windows(x, output_size)
    return cast(Array, _window_sum(x, windows) / _taps_inside(windows))


def _adaptive_max_pool(
    x: Array, output_size: int | Sequence[int | None], return_indices: bool = False
) -> Array | tuple[Array, Array]:
    """Give the maxima over windows from floor(i*in/out) to ceil((i+1)*in/out)."""
    values, indices = _window_extremum(x, _adaptive_windows(x, output_size), True)
    return (values, indices) if return_indices else values


def _global_avg_pool(x: Array) -> Array:
    """Average each plane."""
    return cast(Array, x.mean(axis=tuple(range(2, x.ndim)), keepdims=True))


def _global_max_pool(x: Array) -> Array:
    """Give the maximum of each plane."""
    return cast(Array, x.max(axis=tuple(range(2, x.ndim)), keepdims=True))


def _global_lp_pool(x: Array, norm_type: float) -> Array:
    """Give the Lp norm of each plane."""
    return _norm(x, norm_type, _adaptive_windows(x, 1))


def _same(dtype: Any) -> Any:
    return dtype


def _mean_type(dtype: Any) -> Any:
    """Give the dtype of a mean of integers and of their norms."""
    return np.float64


def _no_integers(dtype: Any) -> Any:
    raise TypeError(f"x must be of floating-point numbers, got {dtype}")


subsample1d, subsample2d, subsample3d = _of_each_rank(_subsample, _no_integers)
max_pool1d, max_pool2d, max_pool3d = _of_each_rank(_max_pool, _same)
min_pool1d, min_pool2d, min_pool3d = _of_each_rank(_min_pool, _same)
avg_pool1d, avg_pool2d, avg_pool3d = _of_each_rank(_avg_pool, _mean_type)
sum_pool1d, sum_pool2d, sum_pool3d = _of_each_rank(_sum_pool, _sum_type)
lp_pool1d, lp_pool2d, lp_pool3d = _of_each_rank(_lp_pool, _mean_type)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _of_each_rank(_adaptive_avg_pool, _mean_type)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _of_each_rank(_adaptive_max_pool, _same)
global_avg_pool1d, global_avg_pool2d, global_avg_pool3d = _of_each_rank(_global_avg_pool, _mean_type)
global_max_pool1d, global_max_pool2d, global_max_pool3d = _of_each_rank(_global_max_pool, _same)
global_lp_pool1d, global_lp_pool2d, global_lp_pool3d = _of_each_rank(_global_lp_pool, _mean_type)
