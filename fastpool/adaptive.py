"""Adaptive pooling: windows that divide the input into a given number of outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.plans.pooling import AdaptiveAxis
from fastpool.pooling import Choice, pool


def _adaptive(operation: str, x: np.ndarray, axes: int, output_size: Any, return_indices: Any = False) -> Choice:
    sizes = x.shape[-axes:]
    if validation.is_sequence(output_size):
        wanted = list(output_size) * (axes if len(output_size) == 1 else 1)
    else:
        wanted = [output_size] * axes
    if len(wanted) != axes:
        raise ValueError(f"output_size must be an integer or {axes} of them, got {validation.shown(output_size)}")
    found = [
        AdaptiveAxis(size, size if out is None else validation.integer(out, f"output_size[{i}]", 1))
        for i, (size, out) in enumerate(zip(sizes, wanted, strict=True))
    ]
    finish = "valid mean" if operation == "sum" else "plain"
    return Choice(found, operation, finish, indices=validation.flag(return_indices, "return_indices"))


adaptive_mean, adaptive_maximum = partial(_adaptive, "sum"), partial(_adaptive, "max")


def adaptive_avg_pool2d(x: np.ndarray, output_size: Any) -> np.ndarray:
    """Mean over windows that divide the input into a given number of outputs.

    Window i of an axis covers elements ``floor(i * in / out)`` to ``ceil((i + 1) * in / out)`` (exclusive); neighbours
    may overlap by one element.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.
    output_size : int or (int, int)
        Height and width of the result; None keeps the input's.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Means.

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
    return pool(x, 2, adaptive_mean, output_size)  # type: ignore[no-any-return]


def adaptive_max_pool2d(x: np.ndarray, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over windows that divide the input into a given number of outputs.

    Parameters
    ----------
    x, output_size
        As for `adaptive_avg_pool2d`.
    return_indices : bool
        Also return where each maximum stands, as `max_pool2d` does.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Maxima; with `return_indices` a pair with the indices.

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
    return pool(x, 2, adaptive_maximum, output_size, return_indices)
