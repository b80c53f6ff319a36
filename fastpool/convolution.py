"""Strided convolution in one, two and three dimensions: functions, and classes whose weights are prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import contiguous
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.explain import Explanation, explain
from fastpool.layer import Layer, are_finite, convolve, layer_for, ready_bias
from fastpool.memo import Memo
from fastpool.plans.convolution import Form


def _convolution(
    axes: int,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    options: tuple[Any, ...],
    residual: np.ndarray | None,
    out: np.ndarray | None,
) -> np.ndarray:
    layer = layer_for(weight, axes, *options, False, False)
    if layer.of_integers:
        layer = layer.over(x)
    ready = contiguous(weight, layer.element)
    biases = ready_bias(bias, "bias", layer, weight)
    inputs = {"weight": weight, "bias": bias}
    return convolve(layer, x, lambda form: layer.pack(ready, form), ready, biases, residual, out, inputs)


class _Prepared:
    """A convolution of `_axes` dimensions with weights of its own, packed for each form that a shape of x asks for."""

    _axes: int

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        activation: Any = None,
        algorithm: str = "auto",
    ):
        options = (stride, padding, dilation, groups, padding_mode, activation, algorithm)
        layer = layer_for(weight, self._axes, *options, True, False)
        self._options = deepcopy(options)
        self._weight = np.array(weight, layer.element.dtype, order="C")
        if layer.meets_padding and are_finite(self._weight):
            layer = layer_for(self._weight, self._axes, *options, True, True)
        self._layer = layer
        self._dtype = layer.element.dtype
        self._packed: dict[Form, np.ndarray] = {}
        self._ready = Memo()
        self._sums: dict[np.dtype, _Prepared] = {}
        if not layer.of_integers:
            self._bias = ready_bias(bias, "bias", layer, weight).copy()
        elif bias is None:
            self._bias = layer.no_bias
        else:  # x decides which sums it is added to
            validation.integer_per_channel(bias, "bias", layer.shape[0], ELEMENT_TYPES[np.dtype(np.int64)], weight)
            self._bias = np.array(bias, validation.native(bias), order="C")

    def __call__(
        self, x: np.ndarray, *, residual: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Convolve `x`; arguments and result as of the function of the same name."""
        if residual is None and type(x) is np.ndarray and x.dtype is self._dtype:
            ready = self._ready.get((x.shape, x.strides))
            found = ready and ready.run(x, out)
            if found is not None:
                return found  # type: ignore[no-any-return]
        if self._layer.of_integers:
            layer = self._layer.over(x)
            summing = self._sums.get(layer.element.dtype) or self._summing(layer)
            return convolve(layer, x, summing._weights_in, summing._weight, summing._bias, residual, out, {})
        result = convolve(self._layer, x, self._weights_in, self._weight, self._bias, residual, out, {})
        if type(x) is np.ndarray and (x.shape, x.strides) not in self._ready and x.size:
            packed = self._weights_in(self._layer.bind(x, False).form)
            self._ready.keep((x.shape, x.strides), self._layer.ready(x, packed, self._weight, self._bias))
        return result

    def _summing(self, layer: Layer) -> _Prepared:
        """The same with weights and bias in the integers of the sums."""
        made = object.__new__(type(self))
        made._layer, made._packed = layer, {}
        made._bias = ready_bias(self._bias, "bias", layer, self._weight)
        made._weight = contiguous(self._weight, layer.element)
        self._sums[layer.element.dtype] = made
        return made

    def explain(self, shape: Sequence[int], dtype: Any = None) -> Explanation:
        """Say how a contiguous `x` of this shape is convolved, and why so.

        Parameters
        ----------
        shape : tuple of int
            Of `x`, with or without N.
        dtype : dtype, optional
            Of `x`, by default that of the weights; integers may be others.

        Returns
        -------
        Explanation
            To be printed or read: algorithm, register tile, source, blocking, threads, work, memory, and the reasons.

        Raises
        ------
        TypeError, ValueError
            If a call would refuse an x of this shape, or has nothing to compute for it.

        Examples
        --------
        >>> import numpy as np
        >>> import fastpool
        >>> fastpool.Conv2d(np.ones((8, 1, 3, 3)), groups=8).explain((8, 30, 40)).algorithm
        'depthwise'
        """
        return explain(type(self).__name__, self._layer, shape, dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, here or in another process, is prepared anew: plans hold addresses."""
        return _prepared, (type(self), self._weight, self._bias, self._options)

    def _weights_in(self, form: Form) -> np.ndarray:
        packed = self._packed.get(form)
        if packed is None:
            packed = self._packed[form] = self._layer.pack(self._weight, form)
        return packed

    def __repr__(self) -> str:
        layer = self._layer
        return (
            f"{type(self).__name__}(weight={layer.shape} {layer.element.dtype}, stride={layer.stride}, "
            f"padding={layer.padding!r}, dilation={layer.dilation}, groups={layer.groups})"
        )


def _prepared(kind: type[_Prepared], weight: np.ndarray, bias: np.ndarray, options: tuple[Any, ...]) -> _Prepared:
    *positional, mode, activation, algorithm = options
    return kind(weight, bias, *positional, padding_mode=mode, activation=activation, algorithm=algorithm)


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Any = None,
    algorithm: str = "auto",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Strided 2-D convolution (cross-correlation: the kernel is not flipped).

    .. math::

        y_{n,o,i,j} = f\Bigl(b_o + r_{n,o,i,j} + \sum_{c,k,l} w_{o,c,k,l}\,
        x_{n,\,gC/G+c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}\Bigr)

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (O, C / groups, KH, KW)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias : ndarray, shape (O,), optional
        Added to each output channel. Of the result's dtype, or of integers that all fit into it.
    stride : int or (int, int)
        Step of the windows, (height, width).
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        ``"valid"`` (none), or ``"same"`` = ``"same_upper"`` / ``"same_lower"``: ``ceil(size / stride)`` outputs, the
        odd element of padding at the end / the begin. Any stride is allowed.
    dilation : int or (int, int)
        Distance between taps.
    groups : int
        Output channels of group g see input channels of group g only; ``groups = C`` is a depthwise convolution.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What the padding holds; ``"symmetric"`` repeats the edge, ``"reflect"`` does not.
    activation : None, "relu", "relu6" or (low, high)
        Limits of the result; None in the pair leaves that end open. NaN stays NaN. For integers a low limit is rounded
        up and a high one down, and where no integer is left between them the high one counts.
    algorithm : {"auto", "direct", "winograd"}
        How it is computed. Winograd's minimal filtering (Lavin and Gray 2015) does fewer multiplications for filters of
        2x2 at stride 1, 3x3, 4x4 and 5x5 at stride 1 or 2, 6x6 and 7x7 at stride 2, 7x7, 8x8 and 11x11 at stride 4, and
        those with rows or one column of 2 to 9 taps at stride 1, or of 3 to 9 at stride 2. The rounding error is about
        5e-6 (float32) or 1e-13 (float64) of the largest result, where the direct sum has 4e-6 with 512 channels.
        ``"auto"`` takes it where it is expected to be faster, ``"winograd"`` where it is possible at all.
        Winograd's takes fractions: of integers it is refused.
    residual : ndarray, shape of the result, optional
        Added before the activation, of the result's dtype.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap an input.

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        ``OH = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``, of x's dtype, which is also the
        dtype of the sums. Integers are summed in int32 where x and weight both have 8 bits, else in int64, and give
        that dtype; sums that do not fit wrap around, as NumPy's do.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range; nothing is computed or written then.

    See Also
    --------
    Conv2d : The same convolution prepared once, for repeated calls with the same weight.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv2d``; what comes after `groups` is ours.
    Results are the same bit for bit for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> edge = np.array([[[[-1, 1]]]], dtype=np.float32)
    >>> fastpool.conv2d(x, edge, stride=2)
    array([[[1., 1.],
            [1., 1.]]], dtype=float32)
    """
    options = (stride, padding, dilation, groups, padding_mode, activation, algorithm)
    return _convolution(2, x, weight, bias, options, residual, out)


def conv1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Any = None,
    algorithm: str = "auto",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Strided 1-D convolution (cross-correlation: the kernel is not flipped).

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (O, C / groups, K)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias, stride, padding, dilation, groups, padding_mode, activation, algorithm, residual, out
        As for `conv2d`, with 1 value where that has two.

    Returns
    -------
    ndarray
        As of `conv2d`, with 1 spatial dimension.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv1d(np.arange(5.0).reshape(1, 5), np.array([[[-1.0, 1.0]]]), stride=2)
    array([[1., 1.]])
    """
    options = (stride, padding, dilation, groups, padding_mode, activation, algorithm)
    return _convolution(1, x, weight, bias, options, residual, out)


def conv3d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    activation: Any = None,
    algorithm: str = "auto",
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Strided 3-D convolution (cross-correlation: the kernel is not flipped).

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (O, C / groups, KD, KH, KW)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias, stride, padding, dilation, groups, padding_mode, activation, algorithm, residual, out
        As for `conv2d`, with 3 values where that has two.

    Returns
    -------
    ndarray
        As of `conv2d`, with 3 spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv3d(np.ones((1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)))
    array([[[[8.]]]])
    """
    options = (stride, padding, dilation, groups, padding_mode, activation, algorithm)
    return _convolution(3, x, weight, bias, options, residual, out)


class Conv2d(_Prepared):
    """A 2-D convolution prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, algorithm
        As for `conv2d`. `weight` and `bias` are copied: changing the arrays later does not change the convolution.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Weights are packed at the first call with a new input shape (shapes that use the same register tile share one
    packed copy). Calling from several threads at once is safe.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> smooth = fastpool.Conv2d(np.full((1, 1, 2, 2), 0.25), stride=2)
    >>> smooth(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """

    _axes = 2


class Conv1d(_Prepared):
    """`conv1d` prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, algorithm
        As for `conv1d`. `weight` and `bias` are copied.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.Conv1d(np.array([[[-1.0, 1.0]]]), stride=2)(np.arange(5.0).reshape(1, 5))
    array([[1., 1.]])
    """

    _axes = 1


class Conv3d(_Prepared):
    """`conv3d` prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups, padding_mode, activation, algorithm
        As for `conv3d`. `weight` and `bias` are copied.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.Conv3d(np.ones((1, 1, 2, 2, 2)))(np.ones((1, 2, 2, 2)))
    array([[[[8.]]]])
    """

    _axes = 3
