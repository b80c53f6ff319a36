"""Average, sum and Lp pooling: what is made of the sum of each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.geometry import Axis
from fastpool.plans.windows import AdaptiveAxis
from fastpool.pooling import Choice, pool, windows


def _average(
    x: np.ndarray,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    dilation: Any,
) -> Choice:
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    include = validation.flag(count_include_pad, "count_include_pad")
    if divisor_override is None:
        return Choice(found, "sum", "mean" if include else "valid mean")
    divisor = validation.integer(divisor_override, "divisor_override", -validation.LARGEST)
    if divisor == 0:
        raise ValueError("divisor_override must not be 0")
    return Choice(found, "sum", "override", float(divisor))


def _sum(x: np.ndarray, axes: int, *options: Any) -> Choice:
    return Choice(windows(x, axes, *options), "sum")


def norm_of(axes: Sequence[Axis | AdaptiveAxis], norm_type: Any) -> Choice:
    """Lp norm of given windows."""
    p = validation.number(norm_type, "norm_type")
    if not p > 0:
        raise ValueError(f"norm_type must be above 0, got {validation.shown(norm_type)}")
    if p == np.inf:
        return Choice(axes, "absmax")
    if p == 1:
        return Choice(axes, "abssum")
    return Choice(axes, "squaresum" if p == 2 else "powersum", "root", p)


def _norm(x: np.ndarray, axes: int, norm_type: Any, *options: Any) -> Choice:
    return norm_of(windows(x, axes, *options), norm_type)


def avg_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Mean of each window.

    .. math:: y_{n,c,i,j} = \frac{1}{m_{i,j}} \sum_{k,l} x_{n,\,c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode, dilation, out
        As for `max_pool2d`; padding counts as 0.
    count_include_pad : bool
        Whether the divisor m counts padding. What ceil mode reaches beyond the padding never counts.
    divisor_override : int, optional
        Divisor m instead, any number but 0.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Means; 0 for a window that sees padding only. Of x's dtype; float64 of integers and bool, as of ``numpy.mean``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    sum_pool2d, subsample2d, adaptive_avg_pool2d, global_avg_pool2d

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.avg_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.arange(16.0).reshape(1, 4, 4)
    >>> fastpool.avg_pool2d(x, 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
    return pool(x, 2, _average, *options, out=out)  # type: ignore[no-any-return]


def sum_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Sum of each window; padding counts as 0.

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode, dilation, out
        As for `max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Sums, of x's dtype; of integers and bool int64 or uint64, which wrap around, as of ``numpy.sum``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.sum_pool2d(np.ones((1, 4, 4)), 2)
    array([[[4., 4.],
            [4., 4.]]])
    """
    return pool(x, 2, _sum, kernel_size, stride, padding, dilation, ceil_mode, out=out)  # type: ignore[no-any-return]


def lp_pool2d(
    x: np.ndarray,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    padding: Any = 0,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Lp norm of each window.

    .. math:: y = \Bigl(\sum_{k,l} |x_{k,l}|^p\Bigr)^{1/p}, \qquad p = \infty: \; \max_{k,l} |x_{k,l}|

    Parameters
    ----------
    x, kernel_size, stride, ceil_mode, padding, dilation, out
        As for `max_pool2d`; padding counts as 0.
    norm_type : float
        p, above 0; ``inf`` is allowed.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Norms, of x's dtype; float64 of integers and bool. The powers are summed in that dtype and must fit it; of
        float16 and bfloat16 they are summed in float32.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ONNX's LpPool. ``torch.nn.functional.lp_pool2d``, whose arguments these are, omits the absolute value for
    odd p, and in ceil mode scales what the overhang misses.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.lp_pool2d(np.array([[[3.0, -4.0]]]), 2, (1, 2))
    array([[[5.]]])
    """
    options = (norm_type, kernel_size, stride, padding, dilation, ceil_mode)
    return pool(x, 2, _norm, *options, out=out)  # type: ignore[no-any-return]


def avg_pool1d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    divisor_override: int | None = None,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of each 1-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `avg_pool2d` takes, with any strides.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
        As for `avg_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `avg_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.avg_pool1d``.
    What comes after `count_include_pad` is ours.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.avg_pool1d(np.array([[1.0, 5.0, 2.0, 0.0]]), 2)
    array([[3., 1.]])
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
    return pool(x, 1, _average, *options, out=out)  # type: ignore[no-any-return]


def avg_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of each 3-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `avg_pool2d` takes, with any strides.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
        As for `avg_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `avg_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.avg_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[3.5]]]])
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
    return pool(x, 3, _average, *options, out=out)  # type: ignore[no-any-return]


def sum_pool1d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Sum of each 1-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `sum_pool2d` takes, with any strides.
    kernel_size, stride, padding, ceil_mode, dilation, out
        As for `sum_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `sum_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.sum_pool1d(np.array([[1.0, 5.0, 2.0, 0.0]]), 2)
    array([[6., 2.]])
    """
    return pool(x, 1, _sum, kernel_size, stride, padding, dilation, ceil_mode, out=out)  # type: ignore[no-any-return]


def sum_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Sum of each 3-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `sum_pool2d` takes, with any strides.
    kernel_size, stride, padding, ceil_mode, dilation, out
        As for `sum_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `sum_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.sum_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[28.]]]])
    """
    return pool(x, 3, _sum, kernel_size, stride, padding, dilation, ceil_mode, out=out)  # type: ignore[no-any-return]


def lp_pool1d(
    x: np.ndarray,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    padding: Any = 0,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Lp norm of each 1-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `lp_pool2d` takes, with any strides.
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, out
        As for `lp_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `lp_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.lp_pool1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.lp_pool1d(np.array([[3.0, -4.0]]), 2, 2)
    array([[5.]])
    """
    options = (norm_type, kernel_size, stride, padding, dilation, ceil_mode)
    return pool(x, 1, _norm, *options, out=out)  # type: ignore[no-any-return]


def lp_pool3d(
    x: np.ndarray,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    padding: Any = 0,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Lp norm of each 3-D window.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `lp_pool2d` takes, with any strides.
    norm_type, kernel_size, stride, ceil_mode, padding, dilation, out
        As for `lp_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `lp_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.lp_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.lp_pool3d(np.ones((1, 1, 2, 2)), 2, (1, 2, 2))
    array([[[[2.]]]])
    """
    options = (norm_type, kernel_size, stride, padding, dilation, ceil_mode)
    return pool(x, 3, _norm, *options, out=out)  # type: ignore[no-any-return]
