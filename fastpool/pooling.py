"""Pooling: windows of each channel become one element, by maximum, minimum, sum, mean or Lp norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import contiguous, kernel_ready, result_array
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.memo import Memo, options_key
from fastpool.plans.plan import Plan
from fastpool.plans.pooling import AdaptiveAxis, Pooling, is_global, plan_global, plan_pooling

_DEPTH = Axis(1, 1, 1, 1, 0, 0, 1)  # images have one depth


@dataclass(frozen=True)
class Choice:
    """What a pooling does: windows, operation, and what becomes of the combined value (see `Pooling`)."""

    axes: Sequence[Axis | AdaptiveAxis]
    operation: str
    finish: str = "plain"
    number: float = 1.0
    indices: bool = False


@dataclass(frozen=True)
class _Bound:
    """What is decided for one shape of x; no plan for an empty batch."""

    plan: Plan | None
    shape: tuple[int, ...]
    element: ElementType
    indices: bool


_bounds = Memo()


def windows(
    x: np.ndarray, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Axis, ...]:
    """Windows of each axis, from the arguments that every pooling has."""
    kernel = validation.per_axis(kernel_size, "kernel_size", axes, 1)
    steps = validation.stride_or_kernel(stride, kernel)
    spread = validation.per_axis(dilation, "dilation", axes, 1)
    ceil = validation.flag(ceil_mode, "ceil_mode")
    sizes = x.shape[-axes:]
    pads = validation.pads(padding, sizes, kernel, steps, spread)
    return validation.windows(sizes, kernel, steps, spread, pads, ceil, "kernel_size")


def pool(
    x: Any,
    axes: int,
    choose: Callable[..., Choice],
    *options: Any,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> Any:
    """Pool x as ``choose(x, axes, *options)`` says; what it says is remembered. A pair, where indices are asked for."""
    validation.images(x, axes)
    element = validation.element_type(x)
    ready = kernel_ready(x, element)
    plain = options_key(*options)
    key = None if plain is None else (choose, axes, ready.shape, ready.strides, element.dtype, plain)
    bound: _Bound | None = _bounds.get(key)
    if bound is None:
        bound = _bounds.keep(key, _bind(ready, axes, element, choose(x, axes, *options)))
        assert bound is not None
    if out is None:
        result = target = np.empty(bound.shape, element.dtype)
    else:
        validation.out(out, bound.shape, x, weight=weight, bias=bias)
        result, target = result_array(out, bound.shape, element)
    where = np.empty(bound.shape, np.int64) if bound.indices else None
    if bound.plan is not None:
        find = runtime.engine().address
        weights = None if weight is None else contiguous(weight, element)
        biases = None if bias is None else contiguous(bias, element)
        bound.plan.run(
            find(ready),
            0 if weights is None else find(weights),
            0 if biases is None else find(biases),
            0,
            find(target),
            0 if where is None else find(where),
        )
    if result is not target:
        result[...] = target
    return result if where is None else (result, where)


def _bind(x: np.ndarray, rank: int, element: ElementType, choice: Choice) -> _Bound:
    name = "output_size" if isinstance(choice.axes[0], AdaptiveAxis) else "padding"
    shape = validation.result_shape((*x.shape[:-rank], *(axis.out for axis in choice.axes)), element, name)
    if 0 in shape:
        return _Bound(None, shape, element, choice.indices)
    batched = x if x.ndim == rank + 2 else x[np.newaxis]
    steps = [step // element.size for step in batched.strides]
    lifted = (_DEPTH,) * (3 - rank) + tuple(choice.axes)
    problem = Pooling(
        element,
        batched.shape[0],
        batched.shape[1],
        (lifted[0], lifted[1], lifted[2]),
        (steps[0], steps[1], *(0,) * (3 - rank), *steps[2:]),  # type: ignore[arg-type]
        choice.operation,
        choice.finish,
        choice.number,
        choice.indices,
    )
    plan = plan_global(problem) if is_global(problem) else plan_pooling(problem)
    return _Bound(plan, shape, element, choice.indices)


def _extremum(
    operation: str,
    x: np.ndarray,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    return_indices: Any,
) -> Choice:
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    return Choice(found, operation, indices=validation.flag(return_indices, "return_indices"))


_maximum, _minimum = partial(_extremum, "max"), partial(_extremum, "min")


def _average(
    x: np.ndarray,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    dilation: Any,
) -> Choice:
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    include = validation.flag(count_include_pad, "count_include_pad")
    if divisor_override is None:
        return Choice(found, "sum", "mean" if include else "valid mean")
    divisor = validation.integer(divisor_override, "divisor_override", -validation.LARGEST)
    if divisor == 0:
        raise ValueError("divisor_override must not be 0")
    return Choice(found, "sum", "override", float(divisor))


def _sum(x: np.ndarray, axes: int, *options: Any) -> Choice:
    return Choice(windows(x, axes, *options), "sum")


def _norm(
    x: np.ndarray, axes: int, norm_type: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Choice:
    p = validation.number(norm_type, "norm_type")
    if not p > 0:
        raise ValueError(f"norm_type must be above 0, got {validation.shown(norm_type)}")
    found = windows(x, axes, kernel_size, stride, padding, dilation, ceil_mode)
    if p == np.inf:
        return Choice(found, "absmax")
    if p == 1:
        return Choice(found, "abssum")
    return Choice(found, "squaresum" if p == 2 else "powersum", "root", p)


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


_adaptive_mean, _adaptive_maximum = partial(_adaptive, "sum"), partial(_adaptive, "max")


def max_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    r"""Maximum of each window.

    .. math:: y_{n,c,i,j} = \max_{k,l} x_{n,\,c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}

    Padding never wins: it counts as -inf, which is also the result of a window that sees padding only. NaN wins.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.
    kernel_size : int or (int, int)
        Taps of a window, (height, width).
    stride : int or (int, int), optional
        Step of the windows; by default `kernel_size`.
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        As for `conv2d`. It may exceed half the kernel, which PyTorch refuses.
    dilation : int or (int, int)
        Distance between taps.
    ceil_mode : bool
        Also take a last window that reaches beyond the padding, if it starts within the input or its leading padding.
    return_indices : bool
        Also return where each maximum stands.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap `x`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``; ``ceil`` in ceil mode.
    ndarray of int64, same shape
        With `return_indices`: ``h * W + w`` of the maximum in its plane. Of equal ones the first, of NaN the last; 0
        for a window that sees padding only.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    min_pool2d, adaptive_max_pool2d, global_max_pool2d

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.max_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 6.0]]])
    >>> fastpool.max_pool2d(x, 2)
    array([[[5., 8.]]])
    >>> fastpool.max_pool2d(x, 2, return_indices=True)[1]
    array([[[1, 6]]])
    """
    return pool(x, 2, _maximum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def min_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: np.ndarray | None = None,
) -> Any:
    """Minimum of each window; everything else is as in `max_pool2d`, with +inf for padding.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As for `max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Minima; with `return_indices` also where they stand, as for `max_pool2d`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.min_pool2d(np.array([[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 8.0, 6.0]]]), 2)
    array([[[1., 0.]]])
    """
    return pool(x, 2, _minimum, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out=out)


def avg_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Mean of each window.

    .. math:: y_{n,c,i,j} = \frac{1}{m_{i,j}} \sum_{k,l} x_{n,\,c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode, dilation, out
        As for `max_pool2d`; padding counts as 0.
    count_include_pad : bool
        Whether the divisor m counts padding. What ceil mode reaches beyond the padding never counts.
    divisor_override : int, optional
        Divisor m instead, any number but 0.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Means; 0 for a window that sees padding only.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    sum_pool2d, subsample2d, adaptive_avg_pool2d, global_avg_pool2d

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.avg_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.arange(16.0).reshape(1, 4, 4)
    >>> fastpool.avg_pool2d(x, 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation)
    return pool(x, 2, _average, *options, out=out)  # type: ignore[no-any-return]


def sum_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    *,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Sum of each window; padding counts as 0.

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode, dilation, out
        As for `max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Sums, of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.sum_pool2d(np.ones((1, 4, 4)), 2)
    array([[[4., 4.],
            [4., 4.]]])
    """
    return pool(x, 2, _sum, kernel_size, stride, padding, dilation, ceil_mode, out=out)  # type: ignore[no-any-return]


def lp_pool2d(
    x: np.ndarray,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    padding: Any = 0,
    dilation: Any = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Lp norm of each window.

    .. math:: y = \Bigl(\sum_{k,l} |x_{k,l}|^p\Bigr)^{1/p}, \qquad p = \infty: \; \max_{k,l} |x_{k,l}|

    Parameters
    ----------
    x, kernel_size, stride, ceil_mode, padding, dilation, out
        As for `max_pool2d`; padding counts as 0.
    norm_type : float
        p, above 0; ``inf`` is allowed.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Norms. The powers are summed in x's dtype and must fit it.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ONNX's LpPool. ``torch.nn.functional.lp_pool2d``, whose arguments these are, omits the absolute value for
    odd p, and in ceil mode scales what the overhang misses.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.lp_pool2d(np.array([[[3.0, -4.0]]]), 2, (1, 2))
    array([[[5.]]])
    """
    options = (norm_type, kernel_size, stride, padding, dilation, ceil_mode)
    return pool(x, 2, _norm, *options, out=out)  # type: ignore[no-any-return]


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
    return pool(x, 2, _adaptive_mean, output_size)  # type: ignore[no-any-return]


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
    return pool(x, 2, _adaptive_maximum, output_size, return_indices)


def global_avg_pool2d(x: np.ndarray) -> np.ndarray:
    """Mean of each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Means; partial sums are gathered in float64.

    Raises
    ------
    TypeError, ValueError
        If x is no array of such a shape and dtype.

    Notes
    -----
    ONNX's GlobalAveragePool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_avg_pool2d(np.arange(4.0).reshape(1, 2, 2))
    array([[[1.5]]])
    """
    return pool(x, 2, _adaptive_mean, 1)  # type: ignore[no-any-return]


def global_max_pool2d(x: np.ndarray) -> np.ndarray:
    """Maximum of each channel; NaN wins.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.

    Returns
    -------
    ndarray, shape (N, C, 1, 1) or (C, 1, 1)
        Maxima.

    Raises
    ------
    TypeError, ValueError
        If x is no array of such a shape and dtype.

    Notes
    -----
    ONNX's GlobalMaxPool.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.global_max_pool2d(np.arange(4.0).reshape(1, 2, 2))
    array([[[3.]]])
    """
    return pool(x, 2, _adaptive_maximum, 1)  # type: ignore[no-any-return]
