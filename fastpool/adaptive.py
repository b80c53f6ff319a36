"""Adaptive pooling: windows that divide the input into a given number of outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.plans.windows import AdaptiveAxis
from fastpool.pooling import Choice, pool


def adaptive_windows(x: np.ndarray, axes: int, output_size: Any) -> list[AdaptiveAxis]:
    """Windows that divide each axis into the wanted number of outputs."""
    sizes = x.shape[-axes:]
    if validation.is_sequence(output_size):
        wanted = list(output_size) * (axes if len(output_size) == 1 else 1)
    else:
        wanted = [output_size] * axes
    if len(wanted) != axes:
        raise ValueError(f"output_size must be an integer or {axes} of them, got {validation.shown(output_size)}")
    return [
        AdaptiveAxis(size, size if out is None else validation.integer(out, f"output_size[{i}]", 1))
        for i, (size, out) in enumerate(zip(sizes, wanted, strict=True))
    ]


def _adaptive(operation: str, x: np.ndarray, axes: int, output_size: Any, return_indices: Any = False) -> Choice:
    found = adaptive_windows(x, axes, output_size)
    finish = "valid mean" if operation == "sum" else "plain"
    return Choice(found, operation, finish, indices=validation.flag(return_indices, "return_indices"))


adaptive_mean, adaptive_maximum = partial(_adaptive, "sum"), partial(_adaptive, "max")


def adaptive_avg_pool2d(x: np.ndarray, output_size: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """Mean over windows that divide the input into a given number of outputs.

    Window i of an axis covers elements ``floor(i * in / out)`` to ``ceil((i + 1) * in / out)`` (exclusive); neighbours
    may overlap by one element.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images of any dtype that `max_pool2d` takes, with any strides.
    output_size : int or (int, int)
        Height and width of the result; None keeps the input's.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Means, of x's dtype; float64 of integers and bool.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_avg_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_avg_pool2d(np.arange(3.0).reshape(1, 1, 3), (1, 2))
    array([[[0.5, 1.5]]])
    """
    return pool(x, 2, adaptive_mean, output_size, out=out)  # type: ignore[no-any-return]


def adaptive_max_pool2d(
    x: np.ndarray, output_size: Any, return_indices: bool = False, *, out: np.ndarray | None = None
) -> Any:
    """Maximum over windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x, output_size, out
        As for `adaptive_avg_pool2d`.
    return_indices : bool
        Also return where each maximum stands, as `max_pool2d` does.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Maxima, of x's dtype; with `return_indices` a pair with the indices.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_max_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_max_pool2d(np.arange(3.0).reshape(1, 1, 3), (1, 2))
    array([[[1., 2.]]])
    """
    return pool(x, 2, adaptive_maximum, output_size, return_indices, out=out)


def adaptive_avg_pool1d(
    x: np.ndarray,
    output_size: Any,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean over 1-D windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `adaptive_avg_pool2d` takes, with any strides.
    output_size, out
        As for `adaptive_avg_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `adaptive_avg_pool2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_avg_pool1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_avg_pool1d(np.arange(3.0).reshape(1, 3), 2)
    array([[0.5, 1.5]])
    """
    return pool(x, 1, adaptive_mean, output_size, out=out)  # type: ignore[no-any-return]


def adaptive_avg_pool3d(
    x: np.ndarray,
    output_size: Any,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Mean over 3-D windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `adaptive_avg_pool2d` takes, with any strides.
    output_size, out
        As for `adaptive_avg_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `adaptive_avg_pool2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_avg_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), (1, 2, 1))
    array([[[[2.5],
             [4.5]]]])
    """
    return pool(x, 3, adaptive_mean, output_size, out=out)  # type: ignore[no-any-return]


def adaptive_max_pool1d(
    x: np.ndarray,
    output_size: Any,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Maximum over 1-D windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, of the dtypes that `adaptive_max_pool2d` takes, with any strides.
    output_size, return_indices, out
        As for `adaptive_max_pool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `adaptive_max_pool2d`, with 1 spatial dimension; an index is that of the column.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_max_pool1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_max_pool1d(np.arange(3.0).reshape(1, 3), 2)
    array([[1., 2.]])
    """
    return pool(x, 1, adaptive_maximum, output_size, return_indices, out=out)


def adaptive_max_pool3d(
    x: np.ndarray,
    output_size: Any,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Maximum over 3-D windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, of the dtypes that `adaptive_max_pool2d` takes, with any strides.
    output_size, return_indices, out
        As for `adaptive_max_pool2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `adaptive_max_pool2d`, with 3 spatial dimensions; an index is ``(d * H + h) * W + w``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.adaptive_max_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), (1, 2, 1))
    array([[[[5.],
             [7.]]]])
    """
    return pool(x, 3, adaptive_maximum, output_size, return_indices, out=out)
