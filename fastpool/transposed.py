"""Transposed convolution in one, two and three dimensions: functions, and classes whose weights are prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import contiguous
from fastpool.dtypes import ELEMENT_TYPES, INTEGERS
from fastpool.explain import dtype_of_x, never_read
from fastpool.explain_transposed import TransposedExplanation, explain_transposed
from fastpool.layer import are_finite
from fastpool.transposed_layer import TransposedLayer, TransposedWeights, convolve_transposed, transposed_layer_for


def _transposed(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    options: tuple[Any, ...],
    out: Any,
) -> np.ndarray:
    validation.images(x, axes, ELEMENT_TYPES)
    validation.weights(weight, axes)
    source = validation.element_type(x)
    if source.is_integer:
        validation.array(weight, "weight", INTEGERS, f"x of {x.dtype}")
    else:
        validation.same_dtype(weight, "weight", x)
    finite = source.is_integer or are_finite(contiguous(weight, source))
    layer = transposed_layer_for(weight, source.dtype, *options, False, finite)
    weights = TransposedWeights(layer, contiguous(weight, layer.element), bias)
    return convolve_transposed(weights, x, out, {"weight": weight, "bias": bias})


class _Prepared:
    """A transposed convolution of `_axes` dimensions with weights of its own, packed for each shape of x."""

    _axes: int

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        *,
        activation: Any = None,
    ):
        validation.weights(weight, self._axes)
        element = validation.element_type(weight)
        self._weight = np.array(weight, element.dtype, order="C")
        self._finite = element.is_integer or are_finite(self._weight)
        self._options: tuple[Any, ...] = stride, padding, output_padding, groups, dilation, activation
        layer = self._layer_of(element.dtype)
        self._options = deepcopy(self._options)  # which are allowed
        self._bias: np.ndarray | None = None
        if bias is not None:
            if element.is_integer:
                sums = ELEMENT_TYPES[np.dtype(np.int64)]
                validation.integer_per_channel(bias, "bias", layer.out_channels, sums, weight)
            else:
                validation.per_channel(bias, "bias", layer.out_channels, weight, "weight")
            self._bias = np.array(bias, validation.native(bias), order="C")
        self._weights: dict[np.dtype, TransposedWeights] = {}  # by dtype of x

    def _layer_of(self, x: np.dtype) -> TransposedLayer:
        return transposed_layer_for(self._weight, x, *self._options, True, self._finite)

    def __call__(self, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """Convolve `x`; arguments and result as of the function of the same name."""
        weights = self._weights.get(x.dtype) if type(x) is np.ndarray and x.dtype.isnative else None
        if weights is None or (x.shape, x.strides) not in weights.layer.bound:
            weights = self._weights_for(x)
        return convolve_transposed(weights, x, out, {})

    def _weights_for(self, x: Any) -> TransposedWeights:
        validation.images(x, self._axes, ELEMENT_TYPES)
        return self._weights_of(x)

    def _weights_of(self, x: np.ndarray) -> TransposedWeights:
        """Weights in the elements of the sums with an x of this dtype."""
        element = validation.element_type(self._weight)
        if element.is_integer:
            source = validation.element_type(validation.array(x, "x", INTEGERS, f"weight of {element.dtype}"))
        else:
            validation.same_element(x, "x", element, "weight")
            source = element
        found = self._weights.get(source.dtype)
        if found is None:
            layer = self._layer_of(source.dtype)
            found = TransposedWeights(layer, contiguous(self._weight, layer.element), self._bias)
            self._weights[source.dtype] = found
        return found

    def explain(self, shape: Sequence[int], dtype: Any = None) -> TransposedExplanation:
        """Say how a contiguous `x` of this shape is convolved, and why so.

        Parameters
        ----------
        shape : tuple of int
            Of `x`, with or without N.
        dtype : dtype, optional
            Of `x`, by default that of the weights; integers may be others.

        Returns
        -------
        TransposedExplanation
            To be printed or read: the ordinary convolutions that it comes to, each with an explanation of its own, how
            they are put together, threads, work, memory, and the reasons.

        Raises
        ------
        TypeError, ValueError
            If a call would refuse an x of this shape, or has nothing to compute for it.

        Examples
        --------
        >>> import numpy as np
        >>> import fastpool
        >>> conv = fastpool.ConvTranspose2d(np.ones((64, 32, 4, 4), np.float32), stride=2, padding=1)
        >>> found = conv.explain((1, 64, 32, 32))
        >>> [part.algorithm for part in found.convolutions]
        ['winograd', 'winograd', 'winograd', 'winograd']
        """
        element = validation.element_type(self._weight)
        x = never_read((1,), element.dtype if dtype is None else dtype_of_x(dtype))
        weights = self._weights_of(x)
        return explain_transposed(type(self).__name__, weights.layer, element, shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, here or in another process, is prepared anew: plans hold addresses."""
        return _prepared, (type(self), self._weight, self._bias, self._options)

    def __repr__(self) -> str:
        stride, padding, output_padding, groups, dilation, _ = self._options
        return (
            f"{type(self).__name__}(weight={self._weight.shape} {self._weight.dtype}, stride={stride}, "
            f"padding={padding}, output_padding={output_padding}, groups={groups}, dilation={dilation})"
        )


def _prepared(
    kind: type[_Prepared], weight: np.ndarray, bias: np.ndarray | None, options: tuple[Any, ...]
) -> _Prepared:
    *positional, activation = options
    return kind(weight, bias, *positional, activation=activation)


def conv_transpose1d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    activation: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed 1-D convolution: the gradient of `conv1d` with regard to its input.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Input, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (C, O / groups, K)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias : ndarray, shape (O,), optional
        Added to each output channel. Of the result's dtype, or of integers that all fit into it.
    stride, dilation : int or 1 of them
        Distance of the outputs of neighbouring inputs, and of the taps.
    padding : int, 1 of them, or 1 (begin, end) pair
        What is cut off the result.
    output_padding : int or 1 of them
        Further outputs at the end, fewer than the stride or the dilation.
    groups : int
        As of `conv1d`.
    activation : None, "relu", "relu6" or (low, high)
        Limits of the result, as of `conv2d`.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap an input.

    Returns
    -------
    ndarray
        Each size is ``(in - 1) * stride - begin - end + dilation * (k - 1) + 1 + output_padding``.
        Its dtype is that of `conv1d`'s result.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    ConvTranspose1d : The same prepared once, for repeated calls with the same weight.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose1d``; `activation` and `out` are ours.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose1d(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    options = (stride, padding, output_padding, groups, dilation, activation)
    return _transposed(1, x, weight, bias, options, out)


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    activation: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed 2-D convolution: the gradient of `conv2d` with regard to its input.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Input, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (C, O / groups, KH, KW)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias : ndarray, shape (O,), optional
        Added to each output channel. Of the result's dtype, or of integers that all fit into it.
    stride, dilation : int or 2 of them
        Distance of the outputs of neighbouring inputs, and of the taps.
    padding : int, 2 of them, or 2 (begin, end) pairs
        What is cut off the result.
    output_padding : int or 2 of them
        Further outputs at the end, fewer than the stride or the dilation.
    groups : int
        As of `conv2d`.
    activation : None, "relu", "relu6" or (low, high)
        Limits of the result, as of `conv2d`.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap an input.

    Returns
    -------
    ndarray
        Each size is ``(in - 1) * stride - begin - end + dilation * (k - 1) + 1 + output_padding``.
        Its dtype is that of `conv2d`'s result.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    ConvTranspose2d : The same prepared once, for repeated calls with the same weight.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose2d``; `activation` and `out` are ours.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose2d(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    options = (stride, padding, output_padding, groups, dilation, activation)
    return _transposed(2, x, weight, bias, options, out)


def conv_transpose3d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    activation: Any = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed 3-D convolution: the gradient of `conv3d` with regard to its input.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Input, float32, float64 or integers (int8 to int64, uint8 to uint32), with any strides.
    weight : ndarray, shape (C, O / groups, KD, KH, KW)
        Filters, of x's dtype; beside integers, any of the integers above.
    bias : ndarray, shape (O,), optional
        Added to each output channel. Of the result's dtype, or of integers that all fit into it.
    stride, dilation : int or 3 of them
        Distance of the outputs of neighbouring inputs, and of the taps.
    padding : int, 3 of them, or 3 (begin, end) pairs
        What is cut off the result.
    output_padding : int or 3 of them
        Further outputs at the end, fewer than the stride or the dilation.
    groups : int
        As of `conv3d`.
    activation : None, "relu", "relu6" or (low, high)
        Limits of the result, as of `conv2d`.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap an input.

    Returns
    -------
    ndarray
        Each size is ``(in - 1) * stride - begin - end + dilation * (k - 1) + 1 + output_padding``.
        Its dtype is that of `conv3d`'s result.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    ConvTranspose3d : The same prepared once, for repeated calls with the same weight.

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose3d``; `activation` and `out` are ours.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose3d(np.ones((1, 1, 1, 1)), np.ones((1, 2, 1, 1, 2))).shape
    (2, 1, 1, 2)
    """
    options = (stride, padding, output_padding, groups, dilation, activation)
    return _transposed(3, x, weight, bias, options, out)


class ConvTranspose2d(_Prepared):
    """`conv_transpose2d` prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, output_padding, groups, dilation, activation
        As for `conv_transpose2d`. `weight` and `bias` are copied: changing the arrays later does not change the
        convolution.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.ConvTranspose2d(np.ones((1, 1, 2, 2)), stride=2)(np.array([[[1.0, 2.0]]]))
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """

    _axes = 2


class ConvTranspose1d(_Prepared):
    """`conv_transpose1d` prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, output_padding, groups, dilation, activation
        As for `conv_transpose1d`. `weight` and `bias` are copied: changing the arrays later does not change the
        convolution.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.ConvTranspose1d(np.array([[[1.0, 10.0, 100.0]]]), stride=2)(np.array([[1.0, 2.0]]))
    array([[  1.,  10., 102.,  20., 200.]])
    """

    _axes = 1


class ConvTranspose3d(_Prepared):
    """`conv_transpose3d` prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, output_padding, groups, dilation, activation
        As for `conv_transpose3d`. `weight` and `bias` are copied: changing the arrays later does not change the
        convolution.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.ConvTranspose3d(np.ones((1, 2, 1, 1, 2)))(np.ones((1, 1, 1, 1))).shape
    (2, 1, 1, 2)
    """

    _axes = 3
