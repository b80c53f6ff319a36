"""Convolutions whose weights are constants: packed once for each form that a plan reads, called by address.

A network's weights are most of its memory. They are kept as plans read them; as they were given, only where a plan
reads them so, or where nothing else tells them: Winograd's transforms cannot be undone to the last bit, and tiles with
an infinity or NaN are computed from the filters themselves; on small maps, plans have the weights of some taps alone.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import contiguous
from fastpool.explain import never_read
from fastpool.layer import Layer, are_finite, layer_for
from fastpool.onnx.locks import Locked
from fastpool.plans.chain import Run
from fastpool.plans.convolution import Form, SomeTaps, tells_weights, unpack_weights
from fastpool.plans.depthwise import PlainForm
from fastpool.plans.linear import is_gemv, is_of_dots
from fastpool.plans.winograd_forms import WinogradForm

#: Bounds of an activation, None for an open end.
Bounds = tuple[float | None, float | None] | None


class Weights(Locked):
    """Constant weights of one convolution, in each form that a plan has asked for."""

    def __init__(self, array: np.ndarray):
        super().__init__()
        self.shape, self.dtype = array.shape, array.dtype
        self._finite: bool | None = None
        self._given: np.ndarray | None = array  # until there is a form that tells them, too
        self._forms: dict[Form, tuple[np.ndarray, np.ndarray | None]] = {}

    def are_finite(self) -> bool:
        """Whether they are known to be finite; they are looked at once, while they are as given."""
        with self._lock:
            if self._finite is None:
                self._finite = self._given is not None and are_finite(self._given)
            return self._finite

    def _as_given(self, layer: Layer) -> np.ndarray:
        """Weights as they were given, contiguous."""
        if self._given is not None:
            return contiguous(self._given, layer.element)
        form, (packed, filters) = next(iter(self._forms.items()))
        return unpack_weights(packed, form, self.shape, layer.groups) if filters is None else filters

    def packed(self, layer: Layer, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights in a form, and as they were given where its plan needs them, too, or it does not tell them."""
        with self._lock:
            found = self._forms.get(form)
            if found is None:
                array = self._as_given(layer)
                found = layer.pack(array, form), None if tells_weights(form) else array
                self._forms[form] = found
                self._given = None
            return found


class Packed(np.ndarray):
    """In place of an array of weights that has been handed over: its shape and dtype, without memory, and `weights`."""

    weights: Weights


def handed_over(array: np.ndarray) -> Packed:
    """Give what stands for an array from now on. It reads as NaN: whoever reads it has not looked at what it is."""
    found = np.broadcast_to(np.full((), np.nan, array.dtype), array.shape).view(Packed)
    found.weights = Weights(array)
    return found


class Prepared:
    """A convolution of constant weights. Unlike `fastpool.Conv2d` it copies no weights that kernels can take."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, *options: Any):
        self.source = weight
        self.weights = weight.weights if isinstance(weight, Packed) else Weights(weight)
        self.layer = layer_for(weight, weight.ndim - 2, *options, True, False)
        if self.layer.meets_padding and self.weights.are_finite():
            self.layer = layer_for(weight, weight.ndim - 2, *options, True, True)
        self.bias = self.layer.no_bias if bias is None else contiguous(bias, self.layer.element)

    def with_bias(self, bias: np.ndarray) -> Prepared:
        """The same weights with another bias."""
        found = copy(self)
        found.bias = contiguous(bias, self.layer.element)
        return found

    def task(self, x: np.ndarray, residual: np.ndarray | None, out: np.ndarray) -> Run:
        """The call on contiguous arrays."""
        bound = self.layer.bind(x, residual is not None)
        packed, given = self.weights.packed(self.layer, bound.form)
        return Run(bound.plan, x, packed, self.bias, residual, out, None, given)

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for one of x."""
        like = never_read(x, self.layer.element.dtype)
        validation.images(like, self.layer.axes)
        return self.layer.result_shape(like)[1]

    def algorithm(self, x: tuple[int, ...], with_residual: bool) -> str:
        """How x is convolved, in a word or two."""
        bound = self.layer.bind(never_read(x, self.layer.element.dtype), with_residual)
        form = bound.form.form if isinstance(bound.form, SomeTaps) else bound.form
        if isinstance(form, PlainForm):
            is_product = is_gemv(bound.plan) and not is_of_dots(bound.plan)
            return "matrix times vector" if is_product else "depthwise"
        if isinstance(form, WinogradForm):
            return f"Winograd F({form.outputs}, {form.taps})"
        return "direct"
