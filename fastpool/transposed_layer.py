"""What transposed convolutions of any rank have in common: checked options, weights as plans read them, the call."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import aligned_empty, kernel_ready, result_array
from fastpool.dtypes import ELEMENT_TYPES, ElementType, sum_type
from fastpool.geometry import Pads, extent
from fastpool.memo import Memo, options_key
from fastpool.plans.convolution import plan_weights
from fastpool.plans.transposed import plan_transposed, plan_turning
from fastpool.plans.transposed_problem import Filters, Packed, Transposed, TransposedAxis, TransposedConvolution

_FLAT = TransposedAxis(1, 1, 1, 1, 0, 1)  # the depth of an image


@dataclass(frozen=True)
class _Bound:
    """What is decided for one shape of x."""

    planned: Transposed
    shape: tuple[int, ...]  #: of the result, as x has or has not a batch


class TransposedLayer:
    """A transposed convolution without its numbers: checked options, and what they come to for each shape of x."""

    def __init__(
        self,
        shape: tuple[int, ...],
        source: ElementType,
        element: ElementType,
        stride: Any,
        padding: Any,
        output_padding: Any,
        groups: Any,
        dilation: Any,
        activation: Any,
        prepared: bool,
        finite: bool,
    ):
        axes = len(shape) - 2
        self.axes, self.shape, self.kernel = axes, shape, shape[2:]
        self.source, self.element = source, element  #: of x, and of the sums
        self.groups = validation.integer(groups, "groups", 1)
        if shape[0] % self.groups:
            raise ValueError(f"groups must divide the {shape[0]} channels of weight.shape[0], got {groups}")
        self.stride = validation.per_axis(stride, "stride", axes, 1)
        self.dilation = validation.per_axis(dilation, "dilation", axes, 1)
        self.output_padding = validation.per_axis(output_padding, "output_padding", axes, 0)
        self.padding = _pads(padding, self.kernel, self.stride, self.dilation)
        self.low, self.high = validation.activation(activation, element.is_integer)
        if element.is_integer:
            limits = np.iinfo(element.dtype)
            self.low = max(limits.min, min(self.low, limits.max))
            self.high = max(limits.min, min(self.high, limits.max))
        self.prepared, self.finite = prepared, finite or element.is_integer
        self.out_channels = shape[1] * self.groups
        self.bound = Memo()

    def result(self, x: np.ndarray) -> tuple[tuple[TransposedAxis, ...], tuple[int, ...]]:
        """Outputs along each axis, and the shape of the result."""
        if x.shape[-self.axes - 1] != self.shape[0]:
            raise ValueError(
                f"x must have the {self.shape[0]} channels of weight.shape[0], got {x.shape[-self.axes - 1]}"
            )
        sizes = x.shape[-self.axes :]
        axes = []
        of_axes = zip(sizes, self.kernel, self.stride, self.dilation, self.padding, self.output_padding, strict=True)
        for axis, (size, kernel, stride, dilation, pad, more) in enumerate(of_axes):
            if more >= max(stride, dilation):
                limit = max(stride, dilation)
                raise ValueError(f"output_padding[{axis}] must be smaller than stride or dilation, {limit}, got {more}")
            out = (size - 1) * stride - sum(pad) + extent(kernel, dilation) + more
            if out < 1:
                raise ValueError(f"padding[{axis}] must leave an output, got {pad}, which leaves {out}")
            axes.append(TransposedAxis(size, kernel, stride, dilation, pad[0], out))
        shape = (*x.shape[: -self.axes - 1], self.out_channels, *(axis.out for axis in axes))
        return tuple(axes), validation.result_shape(shape, self.element, "stride")

    def bind(self, x: np.ndarray) -> _Bound:
        """Decide for x, whose elements kernels can take as they are."""
        key = (x.shape, x.strides)
        found = self.bound.get(key)
        if found is None:
            axes, shape = self.result(x)
            found = self.bound.keep(key, _Bound(plan_transposed(self.problem(x, axes)), shape))
        return found  # type: ignore[no-any-return]

    def problem(self, x: np.ndarray, axes: tuple[TransposedAxis, ...]) -> TransposedConvolution:
        """All that a plan depends on."""
        batched = x if x.ndim == self.axes + 2 else x[np.newaxis]
        image, channel, *steps = (step // self.source.size for step in batched.strides)
        missing = 3 - self.axes
        lifted = (_FLAT,) * missing + axes
        return TransposedConvolution(
            self.element,
            self.source,
            batched.shape[0],
            batched.shape[1],
            self.out_channels,
            self.groups,
            (lifted[0], lifted[1], lifted[2]),
            (image, channel, *(0,) * missing, *steps),  # type: ignore[arg-type]
            self.low,
            self.high,
            self.prepared,
            self.finite,
        )


def _pads(padding: Any, kernel: Any, stride: Any, dilation: Any) -> Pads:
    if isinstance(padding, str):
        raise ValueError(f"padding must be integers or (begin, end) pairs, got {validation.shown(padding)}")
    return validation.pads(padding, kernel, kernel, stride, dilation)


_layers = Memo()


def transposed_layer_for(weight: np.ndarray, x: np.dtype, *options: Any) -> TransposedLayer:
    """Checked options for such weights and x; remembered where they are plain numbers, strings and tuples."""
    options_ = options_key(*options)
    key = None if options_ is None else (weight.shape, weight.dtype, x, options_)
    found = _layers.get(key)
    if found is None:
        source = element = ELEMENT_TYPES[x]
        if source.is_integer:
            element = sum_type(source, validation.element_type(weight))
        found = _layers.keep(key, TransposedLayer(weight.shape, source, element, *options))
    return found  # type: ignore[no-any-return]


class TransposedWeights:
    """Weights and bias of a layer, turned for the convolutions of its phases, and packed as their plans read them."""

    def __init__(self, layer: TransposedLayer, weight: np.ndarray, bias: np.ndarray | None):
        self.layer, self._weight = layer, weight
        self._bias = np.zeros(layer.out_channels, layer.element.dtype)
        if bias is not None:
            if layer.element.is_integer:
                validation.integer_per_channel(bias, "bias", layer.out_channels, layer.element, weight)
            else:
                validation.per_channel(bias, "bias", layer.out_channels, weight, "weight")
            self._bias[:] = bias
        self._turned: dict[tuple[Filters, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._packed: dict[tuple[Packed, ...], np.ndarray] = {}

    def arrays(self, planned: Transposed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Packed filters, biases and filters as a plan reads them."""
        turned = self._turned.get(planned.filters)
        if turned is None:
            turned = self._turned[planned.filters] = self._turn(planned.filters)
        filters, biases = turned
        packed = self._packed.get(planned.packed)
        if packed is None:
            packed = self._packed[planned.packed] = self._pack(planned, filters)
        return packed, biases, filters

    def _turn(self, filters: tuple[Filters, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Filters (out channel, channel, tap) of all phases, and the bias of each of their channels."""
        layer, find = self.layer, runtime.engine().address
        elements = max((f.begin + prod(f.shape) for f in filters), default=0)
        turned = aligned_empty(elements, layer.element.dtype, find)
        # As they are, for sums that they are added to, and limited, for what sees no input.
        of_channels = [self._bias, np.clip(self._bias, layer.low, layer.high)]
        for f in filters:
            plan_turning(layer.element, layer.shape, layer.groups, f).run(
                0, find(self._weight), out=find(turned[f.begin :])
            )
            # Where taps are channels, the bias is added to their sums.
            of_groups = self._bias.reshape(layer.groups, 1, -1) if f.windows else np.zeros((layer.groups, 1, 1))
            shape = layer.groups, f.shape[0] // layer.out_channels, layer.shape[1]
            of_channels.append(np.broadcast_to(of_groups, shape).reshape(-1))
        return turned, np.concatenate(of_channels, dtype=layer.element.dtype)

    def _pack(self, planned: Transposed, filters: np.ndarray) -> np.ndarray:
        layer, find = self.layer, runtime.engine().address
        result = aligned_empty(planned.packed_elements, layer.element.dtype, find)
        for one in planned.packed:
            shape, begin = one.filters.shape, one.filters.begin
            source = filters[begin : begin + prod(shape)]
            plans = plan_weights(layer.element, shape, layer.groups, one.form)
            for number, (plan, elements) in enumerate(plans):
                is_last = number == len(plans) - 1
                into = result[one.begin :] if is_last else aligned_empty(elements, layer.element.dtype, find)
                plan.run(0, find(source), out=find(into))
                source = into
            if not plans:
                result[one.begin : one.begin + source.size] = source
        return result


def convolve_transposed(
    weights: TransposedWeights, x: Any, out: Any, inputs: dict[str, np.ndarray | None]
) -> np.ndarray:
    """Convolve x, whose dtype is that of the layer; `inputs` are the arrays that `out` may not overlap."""
    layer = weights.layer
    bound: _Bound | None = None
    if type(x) is np.ndarray and x.flags.aligned and x.dtype.isnative:
        bound = layer.bound.get((x.shape, x.strides))  # what has been checked once is not checked again
    if bound is not None:
        shape = bound.shape
    elif x.shape[0] == 0 and x.ndim == layer.axes + 2:
        shape = layer.result(x)[1]
    else:
        x = kernel_ready(x, layer.source)
        bound = layer.bind(x)
        shape = bound.shape
    if out is None:
        result = target = np.empty(shape, layer.element.dtype)
    else:
        validation.out(out, shape, x, layer.element, **inputs)
        result, target = result_array(out, shape, layer.element)
    if bound is not None:
        find = runtime.engine().address
        arrays = weights.arrays(bound.planned)  # names of their own: an address does not keep an array alive
        packed, biases, filters = map(find, arrays)
        bound.planned.plan.run(find(x), packed, biases, 0, find(target), 0, filters)
    if result is not target:
        result[...] = target
    return result
