"""Max and min pooling: the extremum of each window, on request with its index."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.pooling import Choice, pool, windows


def _extremum(
    operation: str,
    x: np.ndarray,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    return_indices: Any,
) -> Choice:
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    return Choice(found, operation, indices=validation.flag(return_indices, "return_indices"))


_maximum, _minimum = partial(_extremum, "max"), partial(_extremum, "min")


def max_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    r"""Maximum of each window.

    .. math:: y_{n,c,i,j} = \max_{k,l} x_{n,\,c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}

    Padding never wins: it counts as -inf, or the least integer, which is also the result of a window that sees padding
    only. NaN wins.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images of integers, bool, float16, bfloat16, float32 or float64, with any strides.
    kernel_size : int or (int, int)
        Taps of a window, (height, width).
    stride : int or (int, int), optional
        Step of the windows; by default `kernel_size`.
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        As for `conv2d`. It may exceed half the kernel, which PyTorch refuses.
    dilation : int or (int, int)
        Distance between taps.
    ceil_mode : bool
        Also take a last window that reaches beyond the padding, if it starts within the input or its leading padding.
    return_indices : bool
        Also return where each maximum stands.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``; ``ceil`` in ceil mode. Of x's dtype.
    ndarray of int64, same shape
        With `return_indices`: ``h * W + w`` of the maximum in its plane. Of equal ones the first, of NaN the last; 0
        for a window that sees padding only.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    min_pool2d, adaptive_max_pool2d, global_max_pool2d

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 6.0]]])
    >>> fastpool.max_pool2d(x, 2)
    array([[[5., 8.]]])
    >>> fastpool.max_pool2d(x, 2, return_indices=True)[1]
    array([[[1, 6]]])
    """
    return pool(x, 2, _maximum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def min_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Minimum of each window; everything else is as in `max_pool2d`, with +inf, or the largest integer, for padding.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Minima; with `return_indices` also where they stand, as for `max_pool2d`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.min_pool2d(np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 6.0]]]), 2)
    array([[[1., 0.]]])
    """
    return pool(x, 2, _minimum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def max_pool1d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of each 1-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `max_pool2d` takes, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `max_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `max_pool2d`, with 1 spatial dimension; an index is that of the column.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_pool1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.max_pool1d(np.array([[1.0, 5.0, 2.0, 0.0]]), 2)
    array([[5., 2.]])
    """
    return pool(x, 1, _maximum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def max_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of each 3-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `max_pool2d` takes, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `max_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `max_pool2d`, with 3 spatial dimensions; an index is ``(d * H + h) * W + w``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[7.]]]])
    """
    return pool(x, 3, _maximum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def min_pool1d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Minimum of each 1-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `min_pool2d` takes, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `min_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `min_pool2d`, with 1 spatial dimension; an index is that of the column.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.min_pool1d(np.array([[1.0, 5.0, 2.0, 0.0]]), 2)
    array([[1., 0.]])
    """
    return pool(x, 1, _minimum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def min_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Minimum of each 3-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `min_pool2d` takes, with any strides.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `min_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `min_pool2d`, with 3 spatial dimensions; an index is ``(d * H + h) * W + w``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.min_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[0.]]]])
    """
    return pool(x, 3, _minimum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)
