"""Global pooling: each channel becomes one element."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool.adaptive import adaptive_maximum, adaptive_mean, adaptive_windows
from fastpool.pooling import Choice, pool
from fastpool.sum_pooling import norm_of


def _adaptive_norm(x: np.ndarray, axes: int, norm_type: Any) -> Choice:
    return norm_of(adaptive_windows(x, axes, 1), norm_type)


def global_avg_pool2d(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Mean of each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images of any dtype that `max_pool2d` takes, with any strides.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Means, of x's dtype; float64 of integers and bool. Partial sums are gathered in float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    ONNX's GlobalAveragePool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_avg_pool2d(np.arange(4.0).reshape(1, 2, 2))
    array([[[1.5]]])
    """
    return pool(x, 2, adaptive_mean, 1, out=out)  # type: ignore[no-any-return]


def global_max_pool2d(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Maximum of each channel; NaN wins.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images of any dtype that `max_pool2d` takes, with any strides.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Maxima, of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    ONNX's GlobalMaxPool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_max_pool2d(np.arange(4.0).reshape(1, 2, 2))
    array([[[3.]]])
    """
    return pool(x, 2, adaptive_maximum, 1, out=out)  # type: ignore[no-any-return]


def global_lp_pool2d(x: np.ndarray, norm_type: float, *, out: np.ndarray | None = None) -> np.ndarray:
    """Lp norm of each channel.

    Parameters
    ----------
    x, out
        As for `global_avg_pool2d`.
    norm_type : float
        p, above 0; ``inf`` is allowed.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Norms, as of `lp_pool2d`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    ONNX's GlobalLpPool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_lp_pool2d(np.array([[[3.0], [-4.0]]]), 2)
    array([[[5.]]])
    """
    return pool(x, 2, _adaptive_norm, norm_type, out=out)  # type: ignore[no-any-return]


def global_avg_pool1d(
    x: np.ndarray,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of each channel, over its 1 spatial dimension.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `global_avg_pool2d` takes, with any strides.
    out
        As for `global_avg_pool2d`.

    Returns
    -------
    ndarray
        As of `global_avg_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_avg_pool1d(np.arange(4.0).reshape(1, 4))
    array([[1.5]])
    """
    return pool(x, 1, adaptive_mean, 1, out=out)  # type: ignore[no-any-return]


def global_avg_pool3d(
    x: np.ndarray,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean of each channel, over its 3 spatial dimensions.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `global_avg_pool2d` takes, with any strides.
    out
        As for `global_avg_pool2d`.

    Returns
    -------
    ndarray
        As of `global_avg_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[[[3.5]]]])
    """
    return pool(x, 3, adaptive_mean, 1, out=out)  # type: ignore[no-any-return]


def global_max_pool1d(
    x: np.ndarray,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Maximum of each channel, over its 1 spatial dimension.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `global_max_pool2d` takes, with any strides.
    out
        As for `global_max_pool2d`.

    Returns
    -------
    ndarray
        As of `global_max_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_max_pool1d(np.arange(4.0).reshape(1, 4))
    array([[3.]])
    """
    return pool(x, 1, adaptive_maximum, 1, out=out)  # type: ignore[no-any-return]


def global_max_pool3d(
    x: np.ndarray,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Maximum of each channel, over its 3 spatial dimensions.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `global_max_pool2d` takes, with any strides.
    out
        As for `global_max_pool2d`.

    Returns
    -------
    ndarray
        As of `global_max_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[[[7.]]]])
    """
    return pool(x, 3, adaptive_maximum, 1, out=out)  # type: ignore[no-any-return]


def global_lp_pool1d(
    x: np.ndarray,
    norm_type: float,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Lp norm of each channel, over its 1 spatial dimension.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `global_lp_pool2d` takes, with any strides.
    norm_type, out
        As for `global_lp_pool2d`.

    Returns
    -------
    ndarray
        As of `global_lp_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_lp_pool1d(np.array([[3.0, -4.0]]), 2)
    array([[5.]])
    """
    return pool(x, 1, _adaptive_norm, norm_type, out=out)  # type: ignore[no-any-return]


def global_lp_pool3d(
    x: np.ndarray,
    norm_type: float,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Lp norm of each channel, over its 3 spatial dimensions.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `global_lp_pool2d` takes, with any strides.
    norm_type, out
        As for `global_lp_pool2d`.

    Returns
    -------
    ndarray
        As of `global_lp_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_lp_pool3d(np.ones((1, 1, 2, 2)), 2)
    array([[[[2.]]]])
    """
    return pool(x, 3, _adaptive_norm, norm_type, out=out)  # type: ignore[no-any-return]
