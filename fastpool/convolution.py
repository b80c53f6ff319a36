"""Strided convolution: `conv2d`, and `Conv2d` for weights that are prepared once."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import address, aligned_empty, kernel_ready, result_array
from fastpool.geometry import Axis, Pads
from fastpool.plans.convolution import Convolution, plan_convolution, plan_weights

_FLAT = Axis(1, 1, 1, 1, 0, 0, 1)  # the depth of an image


class _Prepared:
    """A convolution with its weights, in any number of spatial dimensions; packs them for the tiles it meets."""

    def __init__(
        self,
        weight: Any,
        bias: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        padding_mode: Any,
        activation: Any,
        axes: int,
    ):
        self.groups = validation.integer(groups, "groups", 1)
        self.stride = validation.per_axis(stride, "stride", axes, 1)
        self.dilation = validation.per_axis(dilation, "dilation", axes, 1)
        self.padding = padding
        self.padding_mode = validation.padding_mode(padding_mode)
        self.low, self.high = validation.activation(activation)
        validation.weights(weight, self.groups, axes)
        self.axes = axes
        self.element = validation.element_type(weight)
        self.kernel = weight.shape[2:]
        # The padding's form is checked now; "same" depends on the input and is resolved with it.
        validation.pads(padding, self.kernel, self.kernel, self.stride, self.dilation)
        if bias is not None:
            validation.per_channel(bias, "bias", weight.shape[0], weight, "weight")
        self.weight_argument = weight
        self.weight = np.ascontiguousarray(weight, self.element.dtype)
        if not self.weight.flags.aligned:
            self.weight = self.weight.copy()
        self.bias_argument = bias
        self.bias = np.zeros(weight.shape[0], self.element.dtype)
        if bias is not None:
            self.bias[:] = bias
        self.bias_address = address(self.bias)
        self._packed: dict[Any, tuple[np.ndarray, int]] = {}

    def own(self) -> None:
        """Keep the weights apart from the caller's array, which may change later."""
        if np.shares_memory(self.weight, self.weight_argument):
            self.weight = self.weight.copy()
        self.weight_argument = self.bias_argument = None

    def pads(self, sizes: tuple[int, ...]) -> Pads:
        """(begin, end) of each axis for an input of these sizes."""
        return validation.pads(self.padding, sizes, self.kernel, self.stride, self.dilation)

    def packed(self, tile: Any) -> int:
        """Address of the weights as `tile` reads them."""
        found = self._packed.get(tile)
        if found is None:
            plan, elements = plan_weights(self.element, self.weight.shape, self.groups, tile)
            array = aligned_empty(elements, self.element.dtype)
            plan.run(0, weights=address(self.weight), out=address(array))
            found = self._packed[tile] = (array, address(array))
        return found[1]

    def windows(self, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
        """Windows over an input of these sizes."""
        return validation.windows(sizes, self.kernel, self.stride, self.dilation, self.pads(sizes), False, "weight")

    def __call__(self, x: Any, residual: Any, out: Any) -> np.ndarray:
        axes = self.axes
        validation.images(x, axes)
        validation.same_dtype(x, "x", self.weight, "weight")
        batch = x[np.newaxis] if x.ndim == axes + 1 else x
        validation.channels(batch.shape[1], self.weight.shape[1], self.groups)
        windows = self.windows(batch.shape[2:])
        out_shape = (batch.shape[0], self.weight.shape[0], *(axis.out for axis in windows))
        shape = validation.result_shape(out_shape[-x.ndim :], self.element)
        if residual is not None:
            validation.residual(residual, shape, x)
        if out is not None:
            inputs = {"weight": self.weight_argument, "bias": self.bias_argument, "residual": residual}
            validation.out(out, shape, x, **inputs)
        result, target = result_array(out, shape, self.element)
        if batch.shape[0]:
            self._compute(kernel_ready(batch, self.element), windows, residual, target.reshape(out_shape))
        if result is not target:
            result[...] = target
        return result

    def _compute(
        self, x: np.ndarray, windows: tuple[Axis, ...], residual: np.ndarray | None, target: np.ndarray
    ) -> None:
        size = self.element.size
        lifted = (_FLAT,) * (3 - self.axes) + windows
        steps = [step // size for step in x.strides]
        addend = None if residual is None else np.ascontiguousarray(residual, self.element.dtype)
        if addend is not None and not addend.flags.aligned:
            addend = addend.copy()
        problem = Convolution(
            self.element,
            x.shape[0],
            x.shape[1],
            self.weight.shape[0],
            self.groups,
            (lifted[0], lifted[1], lifted[2]),
            (steps[0], steps[1], *(0,) * (3 - self.axes), *steps[2:]),  # type: ignore[arg-type]
            self.padding_mode,
            self.low,
            self.high,
            target.strides[0] // size,
            None if addend is None else addend.size // x.shape[0],
        )
        plan, tile = plan_convolution(problem)
        plan.run(
            address(x),
            self.packed(tile),
            self.bias_address,
            0 if addend is None else address(addend),
            address(target),
        )


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
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Strided 2-D convolution (cross-correlation: the kernel is not flipped).

    .. math:: y_{n,o,i,j} = f\Bigl(b_o + r_{n,o,i,j} + \sum_{c,k,l} w_{o,c,k,l}\, x_{n,\,gC/G+c,\,i s_h + k d_h - p_h,\,j s_w + l d_w - p_w}\Bigr)

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.
    weight : ndarray, shape (O, C / groups, KH, KW)
        Filters, of x's dtype.
    bias : ndarray, shape (O,), optional
        Added to each output channel.
    stride : int or (int, int)
        Step of the windows, (height, width).
    padding : int, (int, int), ((top, bottom), (left, right)) or str
        ``"valid"`` (none), or ``"same"`` = ``"same_upper"`` / ``"same_lower"``: ``ceil(size / stride)`` outputs, the odd
        element of padding at the end / the begin. Any stride is allowed.
    dilation : int or (int, int)
        Distance between taps.
    groups : int
        Output channels of group g see input channels of group g only; ``groups = C`` is a depthwise convolution.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What the padding holds; ``"symmetric"`` repeats the edge, ``"reflect"`` does not.
    activation : None, "relu", "relu6" or (low, high)
        Limits of the result; None in the pair leaves that end open. NaN stays NaN.
    residual : ndarray, shape of the result, optional
        Added before the activation.
    out : ndarray, shape of the result, optional
        Where to write the result. It may not overlap an input.

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        ``OH = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``, of x's dtype, which is also the
        dtype of the sums.

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
    prepared = _Prepared(weight, bias, stride, padding, dilation, groups, padding_mode, activation, axes=2)
    return prepared(x, residual, out)


class Conv2d:
    """A 2-D convolution prepared once, with its weights packed, and called many times.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups, padding_mode, activation
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
    ):
        self._prepared = _Prepared(weight, bias, stride, padding, dilation, groups, padding_mode, activation, axes=2)
        self._prepared.own()

    def __call__(
        self, x: np.ndarray, *, residual: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Convolve `x`; arguments and result as of `conv2d`."""
        return self._prepared(x, residual, out)

    def __repr__(self) -> str:
        p = self._prepared
        return f"Conv2d(weight={p.weight.shape} {p.weight.dtype}, stride={p.stride}, padding={p.padding!r}, groups={p.groups})"
