"""What convolutions of any rank have in common: checked options, what they come to for a shape, and the call."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import address, aligned_empty, contiguous, kernel_ready, result_array
from fastpool.dtypes import ELEMENT_TYPES, INTEGERS, ElementType, sum_type
from fastpool.geometry import Axis
from fastpool.memo import Memo, options_key
from fastpool.plans.convolution import Form, plan_convolution, plan_weights
from fastpool.plans.plan import Plan
from fastpool.plans.problem import Convolution, joined

_FLAT = Axis(1, 1, 1, 1, 0, 0, 1)  # the depth of an image


@dataclass(frozen=True)
class _Bound:
    """What is decided for one shape of x."""

    plan: Plan
    form: Form
    shape: tuple[int, ...]  #: of the result, as x has or has not a batch


@dataclass(frozen=True, slots=True)
class Ready:
    """A convolution with its weights for one shape of x: only x and the result are missing.

    What most calls are, with the fewest steps: on a small input the checks take no longer than the sums.
    """

    plan: Plan
    weights: int
    bias: int
    filters: int
    shape: tuple[int, ...]
    dtype: np.dtype
    x_bytes: int
    out_bytes: int
    keeps: tuple[np.ndarray, ...]  #: arrays at the addresses above

    def run(self, x: np.ndarray, out: np.ndarray | None) -> np.ndarray | None:
        """Convolve x, which has the shape and strides; None if x or `out` is not as kernels take it, or unfit."""
        find = runtime.engine().address
        if not x.flags.aligned:
            return None
        source = find(x)
        if out is None:
            out = np.empty(self.shape, self.dtype)
            target = find(out)
        else:
            if type(out) is not np.ndarray or out.dtype is not self.dtype or out.shape != self.shape:
                return None
            if not out.flags.carray:
                return None
            target = find(out)
            if target < source + self.x_bytes and source < target + self.out_bytes:
                return None
        self.plan.run(source, self.weights, self.bias, 0, target, 0, self.filters)
        return out


class Layer:
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
        finite: bool,
    ):
        axes = len(shape) - 2
        self.axes, self.shape, self.element, self.kernel = axes, shape, element, shape[2:]
        self.source = element  #: of x
        self.of_integers = element.is_integer
        self.groups = validation.integer(groups, "groups", 1)
        validation.groups(shape[0], self.groups)
        self.stride = validation.per_axis(stride, "stride", axes, 1)
        self.dilation = validation.per_axis(dilation, "dilation", axes, 1)
        # The form of the padding is checked now; "same" depends on the input and is resolved with it.
        pads = validation.pads(padding, self.kernel, self.kernel, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else pads
        self.padding_mode = validation.padding_mode(padding_mode)
        self.low, self.high = validation.activation(activation, self.of_integers)
        self.algorithm, self.prepared = validation.algorithm(algorithm, self.of_integers), prepared
        self.finite = finite or self.of_integers  #: whether the weights are known to be finite
        self.no_bias = np.zeros(shape[0], element.dtype)
        self._bound = Memo()
        self._packing: dict[Form, list[tuple[Plan, int]]] = {}
        self._over: dict[np.dtype, Layer] = {}

    @property
    def meets_padding(self) -> bool:
        """Whether it matters that weights are finite: there may be a padding of zeros to leave out."""
        is_name = isinstance(self.padding, str)
        may_be_padded = self.padding != "valid" if is_name else any(map(any, self.padding))
        return may_be_padded and self.padding_mode == "zeros" and not self.of_integers

    def over(self, x: Any) -> Layer:
        """Give the layer for integers like those of x, whose element type is that of the sums."""
        found = self._over.get(x.dtype) if isinstance(x, np.ndarray) else None
        if found is None:
            source = validation.element_type(validation.array(x, "x", INTEGERS, f"weight of {self.element.dtype}"))
            found = copy(self)
            found.source, found.element = source, sum_type(source, self.element)
            limits = np.iinfo(found.element.dtype)
            found.low = max(limits.min, min(self.low, limits.max))
            found.high = max(limits.min, min(self.high, limits.max))
            found.no_bias, found._bound = np.zeros(self.shape[0], found.element.dtype), Memo()
            found._packing = {}
            self._over[x.dtype] = found
        return found

    def known(self, x: np.ndarray, with_residual: bool) -> _Bound | None:
        """Give what was decided for arrays like x before, whose elements kernels can take as they are."""
        return self._bound.get((x.shape, x.strides, with_residual))

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
        return axes, validation.result_shape(shape, self.element, "padding")

    def _bind(self, x: np.ndarray, with_residual: bool) -> _Bound:
        problem, shape = self.problem(x, with_residual)
        plan, form = plan_convolution(problem)
        return _Bound(plan, form, shape)

    def problem(self, x: np.ndarray, with_residual: bool) -> tuple[Convolution, tuple[int, ...]]:
        """All that a plan depends on, and the shape of the result."""
        windows, shape = self.result_shape(x)
        lifted = (_FLAT,) * (3 - self.axes) + windows
        batched = x if x.ndim == self.axes + 2 else x[np.newaxis]
        image, channel, *steps = (step // self.source.size for step in batched.strides)
        steps = [0] * (3 - self.axes) + steps
        # An axis of one element has no part in the order of the taps: a column is a row, whose pixels are a vector's.
        order = sorted(range(3), key=lambda axis: not lifted[axis].is_single)
        outputs = prod(shape[-self.axes - 1 :])
        axes, steps = [lifted[axis] for axis in order], [steps[axis] for axis in order]
        axes, steps = joined(axes, steps, self.shape[1] * self.element.size)
        problem = Convolution(
            self.element,
            batched.shape[0],
            batched.shape[1],
            self.shape[0],
            self.groups,
            (axes[0], axes[1], axes[2]),
            (image, channel, steps[0], steps[1], steps[2]),
            self.padding_mode,
            self.low,
            self.high,
            outputs,
            outputs if with_residual else None,
            self.prepared,
            self.algorithm,
            self.source,
            self.finite,
        )
        return problem, shape

    def ready(self, x: np.ndarray, packed: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Ready | None:
        """What a further call on an array like x needs; None where x is not contiguous."""
        if not x.flags.c_contiguous or not x.size:
            return None
        bound = self.bind(x, False)
        keeps = packed, bias, weight
        size = prod(bound.shape) * self.element.size
        weights, biases, filters = map(address, keeps)
        dtype = self.element.dtype
        return Ready(bound.plan, weights, biases, filters, bound.shape, dtype, x.nbytes, size, keeps)

    def pack(self, weight: np.ndarray, form: Form) -> np.ndarray:
        """Weights in the form that a plan reads."""
        find = runtime.engine().address
        plans = self._packing.get(form)
        if plans is None:
            plans = self._packing[form] = plan_weights(self.element, self.shape, self.groups, form)
        for plan, elements in plans:
            packed = aligned_empty(elements, self.element.dtype, find)
            plan.run(0, find(weight), out=find(packed))
            weight = packed
        return weight


#: Elements of weights that are looked at together: no array as long as all of them is made.
_LOOK = 1 << 16


def are_finite(weight: np.ndarray) -> bool:
    """Whether contiguous weights have neither NaN nor infinities."""
    flat = weight.reshape(-1)
    return all(bool(np.isfinite(flat[i : i + _LOOK]).all()) for i in range(0, flat.size, _LOOK))


_layers = Memo()


def layer_for(weight: Any, axes: int, *options: Any) -> Layer:
    """Checked options for this weight; remembered where they are plain numbers, strings and tuples."""
    validation.weights(weight, axes)
    options_ = options_key(*options)
    key = None if options_ is None else (weight.shape, weight.dtype, options_)
    found = _layers.get(key)
    if found is None:
        found = _layers.keep(key, Layer(weight.shape, validation.element_type(weight), *options))
    return found  # type: ignore[no-any-return]


def ready_bias(vector: np.ndarray | None, name: str, layer: Layer, weight: np.ndarray) -> np.ndarray:
    """Bias as kernels take it: contiguous, zeros where there is none."""
    if vector is None:
        return layer.no_bias
    if layer.of_integers:
        validation.integer_per_channel(vector, name, layer.shape[0], layer.element, weight)
    else:
        validation.per_channel(vector, name, layer.shape[0], weight, "weight")
    return contiguous(vector, layer.element)


def convolve(
    layer: Layer,
    x: Any,
    packed: Callable[[Form], np.ndarray],
    weight: np.ndarray,
    bias: np.ndarray,
    residual: Any,
    out: Any,
    inputs: dict[str, np.ndarray | None],
) -> np.ndarray:
    """Convolve x; `packed` gives the weights in a form, `inputs` are the arrays that `out` may not overlap."""
    bound: _Bound | None = None
    if type(x) is np.ndarray and x.dtype is layer.source.dtype and x.flags.aligned:
        bound = layer.known(x, residual is not None)  # what has been checked once is not checked again
    if bound is not None:
        shape = bound.shape
    else:
        validation.images(x, layer.axes, ELEMENT_TYPES)
        validation.same_element(x, "x", layer.source, "weight")
        if x.shape[0] == 0 and x.ndim == layer.axes + 2:
            shape = layer.result_shape(x)[1]
        else:
            x = kernel_ready(x, layer.source)
            bound = layer.bind(x, residual is not None)
            shape = bound.shape
    if residual is not None:
        validation.residual(residual, shape, layer.element)
        inputs["residual"] = residual
        residual = contiguous(residual, layer.element)
    if out is None:
        result = target = np.empty(shape, layer.element.dtype)
    else:
        validation.out(out, shape, x, layer.element, **inputs)
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
            0,
            find(weight),
        )
    if result is not target:
        result[...] = target
    return result
