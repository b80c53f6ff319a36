"""Median pooling: the middle value of each window, which leaves outliers out and edges sharp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import kernel_ready, result_array
from fastpool.dtypes import FLOATS, HALVES, POOLED
from fastpool.geometry import Axis
from fastpool.plans.median import plan_median
from fastpool.plans.taps import Tapped
from fastpool.pooling import windows

_DEPTH = Axis(1, 1, 1, 1, 0, 0, 1)
_FLOAT64 = FLOATS[np.dtype(np.float64)]
#: What medians can be taken of.
MEDIAN_TYPES = {dtype: element for dtype, element in POOLED.items() if dtype not in HALVES}


def pool_medians(x: np.ndarray, axes: Sequence[Axis], out: np.ndarray | None = None) -> np.ndarray:
    """Medians of the windows of the last axes of x (N, C, ...) or (C, ...), whose dtype is one of `MEDIAN_TYPES`."""
    rank = len(axes)
    source = MEDIAN_TYPES[validation.native(x)]
    element = source if source in FLOATS.values() else _FLOAT64
    shape = validation.result_shape((*x.shape[:-rank], *(axis.out for axis in axes)), element, "padding")
    if out is None:
        result = target = np.empty(shape, element.dtype)
    else:
        validation.out(out, shape, x, element)
        result, target = result_array(out, shape, element)
    if 0 not in shape:
        ready = kernel_ready(x, source)
        batched = ready if ready.ndim == rank + 2 else ready[np.newaxis]
        steps = [step // source.size for step in batched.strides]
        lifted = (*(_DEPTH,) * (3 - rank), *axes)
        strides = (*steps[:2], *(0,) * (3 - rank), *steps[2:])
        plan = plan_median(Tapped(element, batched.shape[0], batched.shape[1], lifted, strides, source))
        find = runtime.engine().address
        plan.run(find(ready), out=find(target))
    if result is not target:
        result[...] = target
    return result


def _median(axes: int, x: Any, out: Any, *options: Any) -> np.ndarray:
    validation.images(x, axes, MEDIAN_TYPES)
    return pool_medians(x, windows(x, axes, *options), out)


def median_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Median of each window.

    The mean of the two middle values where their number is even, as NumPy's. Padding never counts; a NaN in the window
    is the result, and so it is of a window that sees padding only.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32, float64, integers or bool, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool2d`.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Medians, of x's dtype; those of integers are float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    max_pool2d, avg_pool2d, block_reduce

    Notes
    -----
    With stride 1 and ``padding="same"`` it is the median filter of image processing, whose windows end at the border.
    Up to 64 taps are sorted, in vectors; the median of more is found in a time in proportion to their number.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.median_pool2d(np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 99.0, 8.0, 6.0]]]), 2)
    array([[[4., 4.]]])
    """
    return _median(2, x, out, kernel_size, stride, padding, dilation, ceil_mode)


def median_pool1d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Median of each window of one dimension.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Float32, float64, integers or bool, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, out
        As for `median_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        Medians, of x's dtype; those of integers are float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.median_pool1d(np.array([[1, 5, 2, 8]]), 3, stride=1)
    array([[2., 5.]])
    """
    return _median(1, x, out, kernel_size, stride, padding, dilation, ceil_mode)


def median_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Median of each window of three dimensions.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Volumes, float32, float64, integers or bool, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, out
        As for `median_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Medians, of x's dtype; those of integers are float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.median_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[3.5]]]])
    """
    return _median(3, x, out, kernel_size, stride, padding, dilation, ceil_mode)
