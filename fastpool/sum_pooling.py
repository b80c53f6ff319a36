"""Average, sum and Lp pooling: what is made of the sum of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import validation
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


def _norm(
    x: np.ndarray, axes: int, norm_type: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Choice:
    p = validation.number(norm_type, "norm_type")
    if not p > 0:
        raise ValueError(f"norm_type must be above 0, got {validation.shown(norm_type)}")
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    if p == np.inf:
        return Choice(found, "absmax")
    if p == 1:
        return Choice(found, "abssum")
    return Choice(found, "squaresum" if p == 2 else "powersum", "root", p)


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
        Means; 0 for a window that sees padding only.

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
        Sums, of x's dtype.

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
        Norms. The powers are summed in x's dtype and must fit it.

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
