"""Subsampling as in Torch7: the sum of each window, times one weight a channel, plus one bias a channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import validation
from fastpool.dtypes import FRACTIONS
from fastpool.pooling import Choice, pool, windows


def _scaled_sum(x: np.ndarray, axes: int, *options: Any) -> Choice:
    return Choice(windows(x, axes, *options), "sum", "scale")


def _fits(vector: Any, channels: int, x: np.ndarray) -> bool:
    """Whether a vector is beyond doubt one of a number for each channel."""
    return type(vector) is np.ndarray and vector.dtype is x.dtype and vector.shape == (channels,)


def _subsample(
    x: np.ndarray,
    axes: int,
    weight: np.ndarray,
    bias: np.ndarray | None,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    out: np.ndarray | None,
) -> np.ndarray:
    # Most calls are of this kind. To look at everything takes 4 us, as long as a small image; `pool` looks at x again.
    is_plain = type(x) is np.ndarray and x.dtype in FRACTIONS and x.ndim in (axes + 1, axes + 2) and x.size > 0
    if not is_plain:
        validation.images(x, axes, FRACTIONS)
    channels = x.shape[-axes - 1]
    if not (is_plain and _fits(weight, channels, x)):
        validation.per_channel(weight, "weight", channels, x, allowed=FRACTIONS)
    if bias is None:
        bias = np.zeros(channels, weight.dtype)
    elif not (is_plain and _fits(bias, channels, x)):
        validation.per_channel(bias, "bias", channels, x, allowed=FRACTIONS)
    options = (kernel_size, stride, padding, 1, ceil_mode)
    return pool(x, axes, _scaled_sum, *options, weight=weight, bias=bias, out=out)  # type: ignore[no-any-return]


def subsample2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Trainable subsampling: one weight and one bias for each channel.

    .. math:: y_{n,c,i,j} = b_c + w_c \sum_{k,l} x_{n,\,c,\,i s_h + k - p_h,\,j s_w + l - p_w}

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float16, bfloat16, float32 or float64, with any strides.
    weight : ndarray, shape (C,)
        Factor of each channel's window sums, of x's dtype.
    bias : ndarray, shape (C,), or None
        Added to each channel.
    kernel_size : int or (int, int)
        Size of a window, (height, width).
    stride : int or (int, int), optional
        Step of the windows; by default `kernel_size` (in Torch7 it was 1).
    padding, ceil_mode, out
        As for `max_pool2d`; padding counts as 0.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = floor((H + top + bottom - KH) / stride) + 1``; ``ceil`` in ceil mode.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    avg_pool2d : The same with weight 1 / (KH * KW) and no bias.

    Notes
    -----
    Torch7's SpatialSubSampling, the layer of LeNet-5 (LeCun et al. 1998), with (height, width) order and padding added.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.ones((2, 2, 2))
    >>> fastpool.subsample2d(x, np.array([0.25, 1.0]), np.array([0.0, 10.0]), 2)
    array([[[ 1.]],
           [[14.]]])
    """
    return _subsample(x, 2, weight, bias, kernel_size, stride, padding, ceil_mode, out)


def subsample1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Trainable 1-D subsampling: one weight and one bias for each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `subsample2d` takes, with any strides.
    weight, bias, kernel_size, stride, padding, ceil_mode, out
        As for `subsample2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `subsample2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.subsample1d(np.ones((1, 4)), np.array([0.5]), None, 2)
    array([[1., 1.]])
    """
    return _subsample(x, 1, weight, bias, kernel_size, stride, padding, ceil_mode, out)


def subsample3d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Trainable 3-D subsampling: one weight and one bias for each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `subsample2d` takes, with any strides.
    weight, bias, kernel_size, stride, padding, ceil_mode, out
        As for `subsample2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `subsample2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.subsample3d(np.ones((1, 2, 2, 2)), np.array([0.5]), np.array([1.0]), 2)
    array([[[[5.]]]])
    """
    return _subsample(x, 3, weight, bias, kernel_size, stride, padding, ceil_mode, out)
