"""Stochastic pooling: one element of each window, drawn with odds in proportion to it, or what that expects."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import kernel_ready, result_array
from fastpool.geometry import Axis
from fastpool.plans.stochastic import SCRATCH_BYTES, plan_stochastic
from fastpool.plans.taps import Tapped
from fastpool.pooling import windows

_DEPTH = Axis(1, 1, 1, 1, 0, 0, 1)


def stochastic_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    training: bool = False,
    *,
    seed: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Stochastic pooling: a draw from each window in training, its expectation otherwise.

    .. math:: p_{k,l} = \frac{a_{k,l}}{\sum a}, \quad a = \max(x, 0), \qquad
        y = a_{k,l} \text{ with probability } p_{k,l} \quad\text{or}\quad y = \sum_{k,l} p_{k,l}\, a_{k,l}

    Padding and negative elements are never drawn and have no weight; a window of nothing else gives 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides; activations, above 0 for the most part.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool2d`.
    training : bool
        Draw one element of each window. By default the result is the mean of each window, weighted by the
        probabilities, and nothing is random.
    seed : int, numpy.random.Generator or None
        Where the draws come from, with `training`: the same seed gives the same draws, for any number of threads; a
        generator goes on from where it is; None draws anew at each call.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Of x's dtype; NaN for a window with a NaN or +inf, or whose sum does not fit the dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range, or there is a seed without `training`.

    See Also
    --------
    avg_pool2d, max_pool2d

    Notes
    -----
    Zeiler and Fergus 2013, Stochastic Pooling for Regularization of Deep Convolutional Neural Networks. One number
    u of [0, 1) is drawn for each output, in order, in x's dtype; the element drawn is the first of the window, row by
    row, at which the running sum is above u times the whole sum.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.array([[[1.0, 3.0], [-5.0, 0.0]]])
    >>> fastpool.stochastic_pool2d(x, 2)
    array([[[2.5]]])
    >>> fastpool.stochastic_pool2d(x, 2, training=True, seed=0)
    array([[[3.]]])
    """
    validation.images(x, 2)
    element = validation.element_type(x)
    draw = validation.flag(training, "training")
    if seed is not None and not draw:
        raise ValueError(f"seed must be None unless training is True, got {validation.shown(seed)}")
    axes = windows(x, 2, kernel_size, stride, padding, dilation, ceil_mode)
    shape = validation.result_shape((*x.shape[:-2], *(axis.out for axis in axes)), element, "padding")
    ready = kernel_ready(x, element)
    batched = ready if ready.ndim == 4 else ready[np.newaxis]
    batch, channel, row, column = (step // element.size for step in batched.strides)
    strides = (batch, channel, 0, row, column)
    problem = Tapped(element, batched.shape[0], batched.shape[1], (_DEPTH, *axes), strides)
    if problem.scratch_elements * element.size > SCRATCH_BYTES:
        raise ValueError(f"kernel_size must not have so many taps, got {problem.taps} within x")
    generator = validation.generator(seed, "seed") if draw else None
    if out is None:
        result = target = np.empty(shape, element.dtype)
    else:
        validation.out(out, shape, x)
        result, target = result_array(out, shape, element)
    if 0 not in shape:
        find = runtime.engine().address
        samples = None if generator is None else generator.random(shape, element.dtype)
        plan = plan_stochastic(problem, draw)
        plan.run(find(ready), 0 if samples is None else find(samples), out=find(target))
    if result is not target:
        result[...] = target
    return result
