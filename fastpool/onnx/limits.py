"""Sizes are counted before anything is allocated, in Python integers, which do not overflow."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastpool.onnx.errors import ModelError
from fastpool.units import bytes_text

#: Bytes that one value, or all buffers of a plan together, may take unless the user says otherwise.
DEFAULT_BYTES = 2**33
#: Dimensions that NumPy arrays can have.
MOST_DIMENSIONS = 32


def check_bytes(count: int, limit: int, what: str) -> int:
    """Refuse what would take more than `limit` bytes."""
    if count > limit:
        raise ModelError(f"{what} would take {bytes_text(count)}, more than the limit of {bytes_text(limit)}")
    return count


def check_shape(shape: Sequence[int], item_bytes: int, limit: int, what: str) -> int:
    """Bytes of an array; refuse negative sizes, too many dimensions and more than `limit` bytes."""
    if len(shape) > MOST_DIMENSIONS:
        raise ModelError(f"{what} has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
    if any(size < 0 for size in shape):
        raise ModelError(f"{what} has a negative size: {tuple(shape)}")
    return check_bytes(prod(shape) * item_bytes, limit, f"{what} of shape {tuple(shape)}")
