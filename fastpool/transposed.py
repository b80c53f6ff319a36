"""Transposed convolution in one, two and three dimensions: no zeros are inserted, none are multiplied.

Outputs whose index has the same remainder modulo the stride (a *phase*) see the same subset of the taps, at consecutive
inputs. So a phase is an ordinary convolution at unit stride with those taps, flipped: the work is that of the taps that
meet an input, whatever the stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import contiguous
from fastpool.dtypes import ELEMENT_TYPES, INTEGERS, sum_type
from fastpool.geometry import Pads, extent
from fastpool.layer import convolve, layer_for


@dataclass(frozen=True)
class _Phase:
    """Outputs first, first + stride, ... of an axis: an ordinary convolution of a part of the input."""

    outputs: slice
    count: int
    taps: list[int]  #: in the order of increasing input index
    dilation: int
    source: slice  #: of the input
    pads: tuple[int, int]


def _phases(size: int, kernel: int, stride: int, dilation: int, pad: int, out: int) -> list[_Phase]:
    """Phases of one axis. Output o sees, for tap k, input (o + pad - k*dilation) / stride where that is whole."""
    found = []
    for first in range(min(stride, out)):
        count = -(-(out - first) // stride)
        taps = [k for k in reversed(range(kernel)) if (first + pad - k * dilation) % stride == 0]
        if not taps:
            found.append(_Phase(slice(first, None, stride), count, [], 1, slice(0, 0), (0, 0)))
            continue
        low, high = ((first + pad - k * dilation) // stride for k in (taps[0], taps[-1]))
        end = count + high  # inputs low .. end - 1 are seen
        source = slice(max(0, low), max(0, min(size, end)))
        found.append(
            _Phase(
                slice(first, None, stride),
                count,
                taps,
                # Consecutive taps of a phase are stride / gcd apart, and their inputs dilation / gcd.
                dilation // gcd(dilation, stride),
                source,
                (max(0, -low), max(0, end - size)),
            )
        )
    return found


def _transposed(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    out: Any,
) -> np.ndarray:
    validation.images(x, axes, ELEMENT_TYPES)
    validation.weights(weight, axes)
    element = validation.element_type(x)
    of_integers = element.is_integer
    if of_integers:
        validation.array(weight, "weight", INTEGERS, f"x of {x.dtype}")
        element = sum_type(element, validation.element_type(weight))
    else:
        validation.same_dtype(weight, "weight", x)
    groups = validation.integer(groups, "groups", 1)
    channels, kernel = weight.shape[0], weight.shape[2:]
    if x.shape[-axes - 1] != channels or channels % groups:
        raise ValueError(
            f"x must have the {channels} channels of weight.shape[0], and groups must divide them, "
            f"got {x.shape[-axes - 1]} channels and {groups} groups"
        )
    strides = validation.per_axis(stride, "stride", axes, 1)
    spread = validation.per_axis(dilation, "dilation", axes, 1)
    extra = validation.per_axis(output_padding, "output_padding", axes, 0)
    sizes = x.shape[-axes:]
    pads = _pads(padding, sizes, kernel, strides, spread)
    outs = []
    for axis, (size, k, s, d, pad, more) in enumerate(zip(sizes, kernel, strides, spread, pads, extra, strict=True)):
        if more >= max(s, d):
            raise ValueError(f"output_padding[{axis}] must be smaller than stride or dilation, {max(s, d)}, got {more}")
        length = (size - 1) * s - sum(pad) + extent(k, d) + more
        if length < 1:
            raise ValueError(f"padding[{axis}] must leave an output, got {pad}, which leaves {length}")
        outs.append(length)
    out_channels = weight.shape[1] * groups
    shape = validation.result_shape((*x.shape[: -axes - 1], out_channels, *outs), element, "stride")
    biases = np.zeros(out_channels, element.dtype)
    if bias is not None:
        if of_integers:
            validation.integer_per_channel(bias, "bias", out_channels, element, weight)
        else:
            validation.per_channel(bias, "bias", out_channels, x)
        biases[:] = bias
    if out is None:
        out = np.empty(shape, element.dtype)
    else:
        validation.out(out, shape, x, element, weight=weight, bias=bias)
    # (C, O / groups, kernel) -> (O, C / groups, kernel), as an ordinary convolution takes it.
    grouped = weight.reshape(groups, channels // groups, weight.shape[1], *kernel)
    turned = np.moveaxis(grouped, 2, 1).reshape(out_channels, channels // groups, *kernel)
    per_axis = zip(sizes, kernel, strides, spread, pads, outs, strict=True)
    for phases in product(*(_phases(size, k, s, d, pad[0], o) for size, k, s, d, pad, o in per_axis)):
        target = out[(..., *(phase.outputs for phase in phases))]
        part = x[(..., *(phase.source for phase in phases))]
        if not part.size:  # no tap of this phase meets an input
            target[...] = biases.reshape(-1, *(1,) * axes)
            continue
        taps = turned[np.ix_(range(out_channels), range(channels // groups), *(phase.taps for phase in phases))]
        options = (1, tuple(p.pads for p in phases), tuple(p.dilation for p in phases), groups, "zeros", None, "auto")
        layer = layer_for(taps, axes, *options, False, False)
        if of_integers:
            layer = layer.over(part)
        filters = contiguous(taps, element)
        pack = layer.pack
        target[...] = convolve(layer, part, lambda form: pack(filters, form), filters, biases, None, None, {})  # noqa: B023
    return out  # type: ignore[no-any-return]


def _pads(padding: Any, sizes: Any, kernel: Any, strides: Any, spread: Any) -> Pads:
    if isinstance(padding, str):
        raise ValueError(f"padding must be integers or (begin, end) pairs, got {validation.shown(padding)}")
    return validation.pads(padding, sizes, kernel, strides, spread)


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

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose1d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose1d(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    return _transposed(1, x, weight, bias, stride, padding, output_padding, groups, dilation, out)


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

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose2d(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    return _transposed(2, x, weight, bias, stride, padding, output_padding, groups, dilation, out)


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

    Notes
    -----
    Arguments, order and names are those of ``torch.nn.functional.conv_transpose3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.conv_transpose3d(np.ones((1, 1, 1, 1)), np.ones((1, 2, 1, 1, 2))).shape
    (2, 1, 1, 2)
    """
    return _transposed(3, x, weight, bias, stride, padding, output_padding, groups, dilation, out)
