"""Reduction of blocks, for arrays of any rank: each block becomes one element, ragged ones at the end too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.dtypes import POOLED
from fastpool.geometry import Axis
from fastpool.median import MEDIAN_TYPES, pool_medians
from fastpool.pooling import Choice, pool

#: Axes that one pooling reduces.
_AT_ONCE = 3
REDUCTIONS = ("max", "mean", "sum", "min", "median")


def _blocks(sizes: Sequence[int], block: Sequence[int]) -> list[Axis]:
    """Adjoining windows, the last of which may reach beyond the end."""
    clipped = [min(b, size) for b, size in zip(block, sizes, strict=True)]
    return [Axis(size, b, b, 1, 0, 0, -(-size // b)) for size, b in zip(sizes, clipped, strict=True)]


def _choose(x: np.ndarray, axes: int, block: tuple[int, ...], reduction: str) -> Choice:
    found = _blocks(x.shape[-axes:], block)
    if reduction == "mean":
        return Choice(found, "sum", "valid mean")
    return Choice(found, reduction)


def _reduced(x: np.ndarray, axes: Sequence[int], block: Sequence[int], reduction: str) -> np.ndarray:
    """Reduce along at most three axes of x, which become the last ones of the arrays that a pooling takes."""
    chosen = list(range(x.ndim - _AT_ONCE, x.ndim))
    if x.ndim < _AT_ONCE or not set(axes) <= set(chosen):
        chosen = sorted(axes)
    others = [axis for axis in range(x.ndim) if axis not in chosen]
    turned = x.transpose(*others, *chosen)
    lead, sizes = turned.shape[: len(others)], turned.shape[len(others) :]
    batch = lead if len(lead) == 2 else ((1,) * (2 - len(lead)) + lead if len(lead) < 2 else (-1, lead[-1]))
    stacked = turned.reshape(*batch, *sizes)  # a view, unless more than two axes are left that do not go together
    blocks = tuple(block[axis] for axis in chosen)
    if reduction == "median":
        result = pool_medians(stacked, _blocks(sizes, blocks))
    else:
        result = pool(stacked, len(chosen), _choose, blocks, reduction)
    result = result.reshape(*lead, *result.shape[2:])
    return result.transpose(*np.argsort([*others, *chosen]))


def _median_of_many(x: np.ndarray, axes: Sequence[int], block: Sequence[int]) -> np.ndarray:
    """Medians of blocks of more than three axes: whole and ragged parts apart, each block in a row of its own."""
    clipped = [min(b, size) if axis in axes else 1 for axis, (b, size) in enumerate(zip(block, x.shape, strict=True))]
    cuts = [size - size % b for size, b in zip(x.shape, clipped, strict=True)]
    parts = [
        [(slice(0, cut), b)] + ([(slice(cut, size), size - cut)] if cut < size else [])
        for size, b, cut in zip(x.shape, clipped, cuts, strict=True)
    ]
    shape = tuple(-(-size // b) for size, b in zip(x.shape, clipped, strict=True))
    result: np.ndarray = np.empty(shape, validation.native(x) if x.dtype.kind == "f" else np.float64)
    for combination in product(*parts):
        part = x[tuple(where for where, _ in combination)]
        counts = [size // b for size, (_, b) in zip(part.shape, combination, strict=True)]
        split = part.reshape([n for count, (_, b) in zip(counts, combination, strict=True) for n in (count, b)])
        rows = split.transpose(*range(0, 2 * x.ndim, 2), *range(1, 2 * x.ndim, 2)).reshape(1, int(np.prod(counts)), -1)
        medians = pool_medians(rows, _blocks(rows.shape[2:], rows.shape[2:]))
        place = tuple(
            slice(where.start // b, where.start // b + count)
            for (where, _), b, count in zip(combination, clipped, counts, strict=True)
        )
        result[place] = medians.reshape(counts)
    return result


def block_reduce(x: np.ndarray, block_size: Any, reduction: str = "max") -> np.ndarray:
    """Reduce each block of an array to one element.

    Where blocks do not divide the array, the last ones are smaller: what they lack does not count, neither as an
    element nor for the divisor of a mean.

    Parameters
    ----------
    x : ndarray
        Of any rank from 1, not empty, of any dtype that `max_pool2d` (for medians `median_pool2d`) takes, with any
        strides.
    block_size : int or sequence of int
        Size of a block along each axis; one integer counts for all of them.
    reduction : {"max", "mean", "sum", "min", "median"}
        What becomes of a block.

    Returns
    -------
    ndarray, of x's rank
        Sizes are ``ceil(size / block)``. Of x's dtype; of integers and bool sums are int64 or uint64, means and medians
        float64.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    max_pool2d, avg_pool2d, median_pool2d

    Notes
    -----
    ``skimage.measure.block_reduce``, except that it fills ragged blocks with zeros: the maximum of negative numbers is
    wrong there, and so are means.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.block_reduce(-np.arange(1.0, 7.0).reshape(2, 3), 2, "max")
    array([[-1., -3.]])
    >>> fastpool.block_reduce(np.arange(1.0, 7.0).reshape(2, 3), (1, 2), "mean")
    array([[1.5, 3. ],
           [4.5, 6. ]])
    """
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {validation.shown(reduction)}")
    validation.array(x, "x", MEDIAN_TYPES if reduction == "median" else POOLED)
    if x.size == 0 or x.ndim == 0:
        raise ValueError(f"x must have at least one axis, and no empty one, got shape {x.shape}")
    block = validation.per_axis(block_size, "block_size", x.ndim, 1)
    axes = [axis for axis in range(x.ndim) if block[axis] > 1 and x.shape[axis] > 1] or [x.ndim - 1]
    if reduction == "median" and len(axes) > _AT_ONCE:
        return _median_of_many(x, axes, block)
    # A block is the product of its sides, so that maxima are maxima of maxima, and means the means of means.
    while axes:
        now, axes = axes[-_AT_ONCE:], axes[:-_AT_ONCE]
        x = _reduced(x, now, [b if axis in now else 1 for axis, b in enumerate(block)], reduction)
    return np.ascontiguousarray(x)
