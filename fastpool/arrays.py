"""Arrays as kernels take them: aligned, native, results contiguous in all but the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastpool.dtypes import ElementType

#: Packed arrays and scratch begin on a cache line.
ALIGNMENT = 64


def address(array: np.ndarray) -> int:
    """Address of the first element."""
    return int(array.__array_interface__["data"][0])


def aligned_empty(elements: int, dtype: np.dtype, find: Callable[[np.ndarray], int] = address) -> np.ndarray:
    """Uninitialised vector that begins on a cache line; `find` gives an array's address."""
    raw = np.empty(elements + ALIGNMENT // dtype.itemsize, dtype)
    skip = -find(raw) % ALIGNMENT // dtype.itemsize
    return raw[skip : skip + elements]


def kernel_ready(x: np.ndarray, element: ElementType) -> np.ndarray:
    """`x`, or a copy where its elements are not native, aligned and whole elements apart."""
    flags = x.flags
    if flags.aligned and x.dtype.isnative:
        if flags.c_contiguous:
            return x
        size = element.size
        if not any(step % size for step in x.strides):
            return x
    return np.array(x, element.dtype, order="C")


def contiguous(array: np.ndarray, element: ElementType) -> np.ndarray:
    """`array`, or a copy where it is not of the native dtype, aligned and contiguous."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype == element.dtype:
        return array
    return np.array(array, element.dtype, order="C")


def result_array(out: np.ndarray | None, shape: tuple[int, ...], element: ElementType) -> tuple[np.ndarray, np.ndarray]:
    """Array to return, and the one that the kernel writes: the same, unless `out` is strided within an image."""
    if out is None:
        out = np.empty(shape, element.dtype)
        return out, out
    ready = out.flags.aligned and out.flags.c_contiguous
    return out, out if ready else np.empty(shape, element.dtype)
