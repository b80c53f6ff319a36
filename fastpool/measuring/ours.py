"""A case computed by fastpool: a callable that writes the result to the same memory every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[], np.ndarray]


def prepared(case: Any, arrays: Any, threads: int) -> tuple[str, Run]:
    """Pack the weights once, call many times."""
    import fastpool

    if case.family != "convolution":
        return functional(case, arrays, threads)
    fastpool.set_num_threads(threads)
    x, out = arrays.x, case.empty_output(arrays.x.dtype)
    conv = fastpool.Conv2d(arrays.weight, None, case.stride, case.pad, case.dilation, case.groups)
    return "Conv2d", lambda: conv(x, out=out)


def functional(case: Any, arrays: Any, threads: int) -> tuple[str, Run]:
    """Call the plain functions, which pack the weights of a convolution every time."""
    import fastpool

    fastpool.set_num_threads(threads)
    x, weight, bias = arrays.x, arrays.weight, arrays.bias
    out = case.empty_output(x.dtype)
    if case.family == "convolution":
        stride, pad, dilation, groups = case.stride, case.pad, case.dilation, case.groups
        return "conv2d", lambda: fastpool.conv2d(x, weight, None, stride, pad, dilation, groups, out=out)
    kernel, stride, pad, ceil = case.kernel, case.stride, case.pad, case.ceil
    if case.op == "max":
        return "max_pool2d", lambda: fastpool.max_pool2d(x, kernel, stride, pad, 1, ceil, out=out)
    if case.op == "avg":
        return "avg_pool2d", lambda: fastpool.avg_pool2d(x, kernel, stride, pad, ceil, out=out)
    return "subsample2d", lambda: fastpool.subsample2d(x, weight, bias, kernel, stride, pad, ceil, out=out)
