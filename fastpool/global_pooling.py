"""Global pooling: each channel becomes one element."""

from __future__ import annotations

import numpy as np

from fastpool.adaptive import adaptive_maximum, adaptive_mean
from fastpool.pooling import pool


def global_avg_pool2d(x: np.ndarray) -> np.ndarray:
    """Mean of each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Means; partial sums are gathered in float64.

    Raises
    ------
    TypeError, ValueError
        If x is no array of such a shape and dtype.

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
    return pool(x, 2, adaptive_mean, 1)  # type: ignore[no-any-return]


def global_max_pool2d(x: np.ndarray) -> np.ndarray:
    """Maximum of each channel; NaN wins.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Maxima.

    Raises
    ------
    TypeError, ValueError
        If x is no array of such a shape and dtype.

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
    return pool(x, 2, adaptive_maximum, 1)  # type: ignore[no-any-return]
