"""Unpooling: maxima go back to where they were found, among zeros."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import kernel_ready
from fastpool.dtypes import ELEMENT_TYPES, POOLED
from fastpool.plans.unpooling import Unpooling, plan_unpooling

_INT64 = ELEMENT_TYPES[np.dtype(np.int64)]
#: Integers that carry elements of each size: kernels only move them.
_CARRIERS = {size: ELEMENT_TYPES[np.dtype(f"int{8 * size}")] for size in (1, 2, 4, 8)}


def _unpool(
    axes: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> np.ndarray:
    validation.images(x, axes, POOLED)
    dtype = validation.native(x)
    carrier = _CARRIERS[dtype.itemsize]
    sizes = _sizes(x, axes, kernel_size, stride, padding, output_size)
    shape = (*x.shape[:-axes], *sizes)
    validation.result_shape(shape, carrier, "output_size")
    places = _places(indices, x.shape, sizes)
    out: np.ndarray = np.empty(shape, dtype)
    if out.size == 0:
        return out
    ready = kernel_ready(x, POOLED[dtype])
    batched, located = (a if a.ndim == axes + 2 else a[np.newaxis] for a in (ready, places))
    missing = (1,) * (3 - axes)
    plan = plan_unpooling(
        Unpooling(
            carrier,
            batched.shape[0],
            batched.shape[1],
            (*missing, *batched.shape[2:]),
            prod(sizes),
            _steps(batched, axes),
            _steps(located, axes),
        )
    )
    find = runtime.engine().address
    carried, target = ready.view(carrier.dtype), out.view(carrier.dtype)
    plan.run(find(carried), out=find(target), indices=find(places))
    return out


def _steps(array: np.ndarray, axes: int) -> tuple[int, ...]:
    """Strides in elements, as of an array (N, C, D, H, W)."""
    steps = [step // array.itemsize for step in array.strides]
    return (*steps[:2], *(0,) * (3 - axes), *steps[2:])


def _sizes(x: np.ndarray, axes: int, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Sequence[int]:
    """Spatial sizes of the result: those given, if the pooling can have come from them."""
    kernel = validation.per_axis(kernel_size, "kernel_size", axes, 1)
    steps = validation.stride_or_kernel(stride, kernel)
    if isinstance(padding, str):
        raise ValueError(f"padding must be integers or (begin, end) pairs, got {validation.shown(padding)}")
    pads = validation.pads(padding, x.shape[-axes:], kernel, steps, (1,) * axes)
    usual = [
        (size - 1) * s + k - sum(pad) for size, k, s, pad in zip(x.shape[-axes:], kernel, steps, pads, strict=True)
    ]
    if output_size is None:
        for axis, (size, pad) in enumerate(zip(usual, pads, strict=True)):
            if size < 1:
                raise ValueError(f"padding[{axis}] must leave an output, got {pad}, which leaves {size}")
        return usual
    if not validation.is_sequence(output_size) or len(output_size) not in (axes, axes + 2):
        raise ValueError(
            f"output_size must be {axes} integers, or the {axes + 2} of a whole shape, "
            f"got {validation.shown(output_size)}"
        )
    wanted = list(output_size)[-axes:]
    return [
        validation.integer(size, f"output_size[{axis - axes}]", max(1, middle - step + 1), middle + step - 1)
        for axis, (size, middle, step) in enumerate(zip(wanted, usual, steps, strict=True))
    ]


def _places(indices: Any, shape: tuple[int, ...], sizes: Sequence[int]) -> np.ndarray:
    """Indices as kernels take them, all of them within a plane of the result."""
    if not isinstance(indices, np.ndarray) or validation.is_masked(indices):
        raise TypeError(f"indices must be a plain NumPy array, got {type(indices).__name__}")
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got {indices.dtype}")
    if indices.shape != shape:
        raise ValueError(f"indices must have the shape of x, {shape}, got {indices.shape}")
    places = kernel_ready(indices, _INT64) if indices.dtype == np.int64 else indices.astype(np.int64)
    # As unsigned numbers, those below zero are the largest: one pass finds all that are wrong.
    elements = prod(sizes)
    if places.size and int(places.view(np.uint64).max()) >= elements:
        wrong = places[(places < 0) | (places >= elements)].flat[0]
        raise ValueError(f"indices must be in [0, {elements}), the positions in a plane of {tuple(sizes)}, got {wrong}")
    return places


def max_unpool2d(
    x: np.ndarray,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> np.ndarray:
    """Put each maximum back to where `max_pool2d` found it; all else is 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Maxima, of any dtype that `max_pool2d` takes, with any strides.
    indices : ndarray of integers, same shape
        Where each belongs in its plane of the result, ``h * W + w``, as `max_pool2d` returns it. Where several are
        equal, the last in row-major order counts.
    kernel_size : int or (int, int)
        Taps of a window of the pooling, (height, width).
    stride : int or (int, int), optional
        Step of the windows; by default `kernel_size`.
    padding : int, (int, int) or ((top, bottom), (left, right))
        That of the pooling.
    output_size : (int, int) or (int, int, int, int), optional
        Height and width of the result, or its whole shape, of which only these count: several sizes have a pooling of
        the same size. By default ``(H - 1) * stride + kernel_size - top - bottom``, from which it may differ by less
        than the stride.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range, or an index is outside its plane.

    See Also
    --------
    max_pool2d, fractional_max_pool2d

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_unpool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 6.0]]])
    >>> fastpool.max_unpool2d(*fastpool.max_pool2d(x, 2, return_indices=True), 2)
    array([[[0., 5., 0., 0.],
            [0., 0., 8., 0.]]])
    """
    return _unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool1d(
    x: np.ndarray,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> np.ndarray:
    """Put each maximum of a 1-D pooling back to where it was found; all else is 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Maxima, of any dtype that `max_pool2d` takes, with any strides.
    indices, kernel_size, stride, padding, output_size
        As for `max_unpool2d`, with 1 value where that has two.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        Of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range, or an index is outside its plane.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_unpool1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.max_unpool1d(np.array([[5.0, 8.0]]), np.array([[1, 2]]), 2)
    array([[0., 5., 8., 0.]])
    """
    return _unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: np.ndarray,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> np.ndarray:
    """Put each maximum of a 3-D pooling back to where it was found; all else is 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Maxima, of any dtype that `max_pool2d` takes, with any strides.
    indices, kernel_size, stride, padding, output_size
        As for `max_unpool2d`, with 3 values where that has two; an index is ``(d * H + h) * W + w``.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range, or an index is outside its plane.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_unpool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.max_unpool3d(np.full((1, 1, 1, 1), 7.0), np.full((1, 1, 1, 1), 3), (1, 2, 2))
    array([[[[0., 0.],
             [0., 7.]]]])
    """
    return _unpool(3, x, indices, kernel_size, stride, padding, output_size)
