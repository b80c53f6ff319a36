"""Convolutions whose weights are constants: packed once for each form that a plan reads, called by address."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import validation
from fastpool.arrays import contiguous
from fastpool.explain import never_read
from fastpool.layer import layer_for
from fastpool.plans.chain import Run
from fastpool.plans.convolution import Form
from fastpool.plans.depthwise import PlainForm
from fastpool.plans.winograd import WinogradForm

#: Bounds of an activation, None for an open end.
Bounds = tuple[float | None, float | None] | None


class Prepared:
    """A convolution of constant weights. Unlike `fastpool.Conv2d` it copies no weights that kernels can take."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, *options: Any):
        self.layer = layer_for(weight, weight.ndim - 2, *options, True)
        self.source = weight
        self.weight = contiguous(weight, self.layer.element)
        self.bias = self.layer.no_bias if bias is None else contiguous(bias, self.layer.element)
        self._packed: dict[Form, np.ndarray] = {}

    def task(self, x: np.ndarray, residual: np.ndarray | None, out: np.ndarray) -> Run:
        """The call on contiguous arrays."""
        bound = self.layer.bind(x, residual is not None)
        packed = self._packed.get(bound.form)
        if packed is None:
            packed = self._packed[bound.form] = self.layer.pack(self.weight, bound.form)
        return Run(bound.plan, x, packed, self.bias, residual, out, None, self.weight)

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the result for one of x."""
        like = never_read(x, self.layer.element.dtype)
        validation.images(like, self.layer.axes)
        return self.layer.result_shape(like)[1]

    def algorithm(self, x: tuple[int, ...], with_residual: bool) -> str:
        """How x is convolved, in a word or two."""
        form = self.layer.bind(never_read(x, self.layer.element.dtype), with_residual).form
        if isinstance(form, PlainForm):
            return "depthwise"
        if isinstance(form, WinogradForm):
            return f"Winograd F({form.outputs}, {form.taps})"
        return "direct"
