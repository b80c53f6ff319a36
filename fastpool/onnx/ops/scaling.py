"""A factor, a summand, another tensor and bounds in one pass over an array, on all threads: a convolution of 1x1.

Depthwise, with filters of one tap, its kernel is no more than that, and runs at the speed of the memory.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastpool.dtypes import FLOATS
from fastpool.onnx.ops.operator import Arrays, Task, Value
from fastpool.onnx.ops.prepared import Bounds, Prepared

#: Elements of a channel from which a pass of its own pays.
_LEAST = 16


def scales(x: Value) -> bool:
    """Whether there is a kernel for x."""
    return x.rank >= 3 and x.dtype in FLOATS and prod(x.shape[2:]) >= _LEAST and x.size > 0


def scaling(
    x: Value, factor: np.ndarray | None, summand: np.ndarray | None, bounds: Bounds, with_residual: bool
) -> Any:
    """What binds ``clip(x * factor + summand + residual, *bounds)`` to arrays; factors are one for each channel."""
    rows = prod(x.shape[2:-1])
    shape: tuple[int, ...]
    if factor is None and summand is None:
        shape = (1, x.shape[0] * x.shape[1], rows, x.shape[-1])
    else:
        shape = (*x.shape[:2], rows, x.shape[-1])
    channels = shape[1]
    weight = np.ones(channels, x.dtype) if factor is None else factor
    prepared = Prepared(weight.reshape(channels, 1, 1, 1), summand, 1, 0, 1, channels, "zeros", bounds, "auto")

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        residual = inputs[-1].reshape(shape) if with_residual else None
        return prepared.task(inputs[0].reshape(shape), residual, outputs[0].reshape(shape))

    return make
