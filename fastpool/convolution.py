"""Strided convolution: `conv2d`, and `Conv2d` for weights that are prepared once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import address, aligned_empty, contiguous, kernel_ready, result_array
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.memo import Memo, options_key
from fastpool.plans.convolution import Form, plan_convolution, plan_weights
from fastpool.plans.plan import Plan
from fastpool.plans.problem import Convolution

_FLAT = Axis(1, 1, 1, 1, 0, 0, 1)  # the depth of an image


@dataclass(frozen=True)
class _Bound:
    """What is decided for one shape of x."""

    plan: Plan
    form: Form
    shape: tuple[int, ...]  #: of the result, as x has or has not a batch


class _Layer:
    """A convolution without its numbers: checked options, and what they come to for each shape of x."""

    def __init__(
        self,
        shape: tuple[int, ...],
        element: ElementType,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        padding_mode: Any,
        activation: Any,
        algorithm: Any,
        prepared: bool,
    ):
        axes = len(shape) - 2
        self.axes, self.shape, self.element, self.kernel = axes, shape, element, shape[2:]
        self.groups = validation.integer(groups, "groups", 1)
        validation.groups(shape[0], self.groups)
        self.stride = validation.per_axis(stride, "stride", axes, 1)
        self.dilation = validation.per_axis(dilation, "dilation", axes, 1)
        # The form of the padding is checked now; "same" depends on the input and is resolved with it.
        validation.pads(padding, self.kernel, self.kernel, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str | int) else tuple(padding)
        self.padding_mode = validation.padding_mode(padding_mode)
        self.low, self.high = validation.activation(activation)
        self.algorithm, self.prepared = validation.algorithm(algorithm), prepared
        self.no_bias = np.zeros(shape[0], element.dtype)
        self._bound = Memo()

    def bind(self, x: np.ndarray, with_residual: bool) -> _Bound:
        """Decide for x, whose elements kernels can take as they are."""
        key = (x.shape, x.strides, with_residual)
        found = self._bound.get(key)
        if found is None:
            found = self._bound.keep(key, self._bind(x, with_residual))
        return found  # type: ignore[no-any-return]

    def result_shape(self, x: np.ndarray) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
        """Windows over x, and the shape of the result."""
        sizes = x.shape[-self.axes :]
        validation.channels(x.shape[-self.axes - 1], self.shape[1], self.groups)
        pads = validation.pads(self.padding, sizes, self.kernel, self.stride, self.dilation)
        axes = validation.windows(sizes, self.kernel, self.stride, self.dilation, pads, False, "weight")
        shape = (*x.shape[: -self.axes - 1], self.shape[0], *(axis.out for axis in axes))
        return axes, validation.result_shape(shape, self.element)

    def _bind(self, x: np.ndarray, with_residual: bool) -> _Bound:
        windows, shape = self.result_shape(x)
        lifted = (_FLAT,) * (3 - self.axes) + windows
        batched = x if x.ndim == self.axes + 2 else x[np.newaxis]
        steps = [step // self.element.size for step in batched.strides]
        outputs = prod(shape[-self.axes - 1 :])
        problem = Convolution(
            self.element,
            batched.shape[0],
            batched.shape[1],
            self.shape[0],
            self.groups,
            (lifted[0], lifted[1], lifted[2]),
            (steps[0], steps[1], *(0,) * (3 - self.axes), *steps[2:]),  # type: ignore[arg-type]
            self.padding_mode,
            self.low,
            self.high,
            outputs,
            outputs if with_residual else None,
            self.prepared,
            self.algorithm,
        )
        plan, form = plan_convolution(problem)
        return _Bound(plan, form, shape)

    def pack(self, weight: np.ndarray, form: Form) -> np.ndarray:
        """Weights in the form that a plan reads."""
        for plan, elements in plan_weights(self.element, self.shape, self.groups, form):
            packed = aligned_empty(elements, self.element.dtype)
            plan.run(0, weights=address(weight), out=address(packed))
            weight = packed
        return weight


_layers = Memo()


def _layer(weight: Any, axes: int, *options: Any) -> _Layer:
    """Checked options for this weight; remembered where they are plain numbers, strings and tuples."""
    validation.weights(weight, axes)
    options_ = options_key(*options)
    key = None if options_ is None else (weight.shape, weight.dtype, options_)
    found = _layers.get(key)
    if found is None:
        found = _layers.keep(key, _Layer(weight.shape, validation.element_type(weight), *options))
    return found  # type: ignore[no-any-return]


def _ready(vector: np.ndarray | None, name: str, layer: _Layer, weight: np.ndarray) -> np.ndarray:
    """Bias as kernels take it: contiguous, zeros where there is none."""
    if vector is None:
        return layer.no_bias
    validation.per_channel(vector, name, layer.shape[0], weight, "weight")
    return contiguous(vector, layer.element)


def _apply(
    layer: _Layer,
    x: Any,
    packed: Callable[[Form], np.ndarray],
    weight: np.ndarray,
    bias: np.ndarray,
    residual: Any,
    out: Any,
    inputs: dict[str, np.ndarray | None],
) -> np.ndarray:
    """Convolve x; `packed` gives the weights in a form, `inputs` are the arrays that `out` may not overlap."""
    validation.images(x, layer.axes)
    validation.same_element(x, "x", layer.element, "weight")
    if x.shape[0] == 0 and x.ndim == layer.axes + 2:
        shape, bound = layer.result_shape(x)[1], None
    else:
        x = kernel_ready(x, layer.element)
        bound = layer.bind(x, residual is not None)
        shape = bound.shape
    if residual is not None:
        validation.residual(residual, shape, x)
        inputs["residual"] = residual
        residual = contiguous(residual, layer.element)
    if out is None:
        result = target = np.empty(shape, layer.element.dtype)
    else:
        validation.out(out, shape, x, **inputs)
        result, target = result_array(out, shape, layer.element)
    if bound is not None:
        find = runtime.engine().address
        weights = packed(bound.form)  # a name of its own: an address does not keep an array alive
        bound.plan.run(
            find(x),
            find(weights),
            find(bias),
            0 if residual is None else find(residual),
            find(target),
            filters=find(weight),
        )
    if result is not target:
        result[...] = target
    return result


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
        Images, float32 or float64, with any strides.
    weight : ndarray, shape (O, C / groups, KH, KW)
        Filters, of x's dtype.
    bias : ndarray, shape (O,), optional
        Added to each output channel.
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
        Limits of the result; None in the pair leaves that end open. NaN stays NaN.
    algorithm : {"auto", "direct", "winograd"}
        How it is computed. Winograd's minimal filtering (Lavin and Gray 2015) does fewer multiplications for square
        filters of 3 or 5 taps at unit stride and dilation without groups, with a rounding error of up to 5e-6 (float32)
        of the largest result, where the direct sum has 2e-6. ``"auto"`` takes it where it is expected to be faster;
        ``"winograd"`` where it is possible at all.
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
    layer = _layer(weight, 2, stride, padding, dilation, groups, padding_mode, activation, algorithm, False)
    ready = contiguous(weight, layer.element)
    biases = _ready(bias, "bias", layer, weight)
    inputs = {"weight": weight, "bias": bias}
    return _apply(layer, x, lambda form: layer.pack(ready, form), ready, biases, residual, out, inputs)


class Conv2d:
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
        layer = _layer(weight, 2, stride, padding, dilation, groups, padding_mode, activation, algorithm, True)
        self._layer = layer
        self._weight = np.array(weight, layer.element.dtype, order="C")
        self._bias = _ready(bias, "bias", layer, weight).copy()
        self._packed: dict[Form, np.ndarray] = {}

    def __call__(
        self, x: np.ndarray, *, residual: np.ndarray | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Convolve `x`; arguments and result as of `conv2d`."""
        return _apply(self._layer, x, self._weights_in, self._weight, self._bias, residual, out, {})

    def _weights_in(self, form: Form) -> np.ndarray:
        packed = self._packed.get(form)
        if packed is None:
            packed = self._packed[form] = self._layer.pack(self._weight, form)
        return packed

    def __repr__(self) -> str:
        layer = self._layer
        return (
            f"Conv2d(weight={layer.shape} {layer.element.dtype}, stride={layer.stride}, padding={layer.padding!r}, "
            f"dilation={layer.dilation}, groups={layer.groups})"
        )
