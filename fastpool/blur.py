"""Anti-aliased subsampling: each channel is smoothed before elements are dropped."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import kernel_ready, result_array
from fastpool.geometry import Axis
from fastpool.plans.blur import Blur, plan_blur

#: Largest filter.
LARGEST_FILTER = 7


def blur_pool2d(
    x: np.ndarray,
    filter_size: int = 4,
    stride: Any = 2,
    *,
    padding_mode: str = "reflect",
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Smooth each channel by a binomial filter and keep every stride-th element.

    .. math:: y_{n,c,i,j} = \sum_{k,l} b_k b_l\, x_{n,\,c,\,i s_h + k - p,\,j s_w + l - p}, \qquad
        b_k = 2^{1 - f} \binom{f - 1}{k}, \quad p = \lfloor (f - 1) / 2 \rfloor

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.
    filter_size : int
        Side f of the filter, 1 to 7; the weights are a row of Pascal's triangle: 1-2-1 for 3, 1-3-3-1 for 4. With 1
        nothing is smoothed: the result is a strided slice.
    stride : int or (int, int)
        Step of the windows, (height, width).
    padding_mode : {"reflect", "zeros", "symmetric", "replicate", "circular"}
        What the padding holds, as for `conv2d`: ``floor((f - 1) / 2)`` elements at the begin of each axis,
        ``ceil((f - 1) / 2)`` at the end.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = ceil(H / stride)``, of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    avg_pool2d, max_pool2d

    Notes
    -----
    Zhang 2019, Making Convolutional Networks Shift-Invariant Again: a max pooling of stride 2 becomes one of stride 1,
    then this.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.blur_pool2d(np.array([[[0.0, 16.0, 0.0, 16.0]]]), 3)
    array([[[8., 8.]]])
    """
    validation.images(x, 2)
    element = validation.element_type(x)
    taps = validation.integer(filter_size, "filter_size", 1, LARGEST_FILTER)
    steps = validation.per_axis(stride, "stride", 2, 1)
    mode = validation.padding_mode(padding_mode)
    ends = (taps - 1) // 2, taps // 2
    height, width = (
        Axis(size, taps, step, 1, *ends, -(-size // step)) for size, step in zip(x.shape[-2:], steps, strict=True)
    )
    shape = (*x.shape[:-2], height.out, width.out)
    if out is None:
        result = target = np.empty(shape, element.dtype)
    else:
        validation.out(out, shape, x)
        result, target = result_array(out, shape, element)
    if taps == 1:
        result[...] = x[..., :: steps[0], :: steps[1]]
        return result
    if 0 not in shape:
        ready = kernel_ready(x, element)
        batched = ready if ready.ndim == 4 else ready[np.newaxis]
        strides = tuple(step // element.size for step in batched.strides)
        weights = tuple(comb(taps - 1, k) / 2 ** (taps - 1) for k in range(taps))
        images, channels = batched.shape[:2]
        plan = plan_blur(Blur(element, images, channels, (height, width), strides, weights, mode))
        find = runtime.engine().address
        plan.run(find(ready), out=find(target))
    if result is not target:
        result[...] = target
    return result
