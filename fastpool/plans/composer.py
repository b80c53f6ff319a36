"""Plans of several ordinary convolutions, of parts of x, whose results are put together by further steps."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.plans.convolution import Form, plan_convolution, plan_weights, summed
from fastpool.plans.direct import packing_cycles
from fastpool.plans.plan import Plan, Step
from fastpool.plans.problem import Convolution
from fastpool.plans.transposed_problem import (
    Filters,
    Packed,
    Part,
    Piece,
    Transposed,
    TransposedConvolution,
    whole_lines,
)
from fastpool.routines.tiles import TileShape

_WORD = 8


class Composer:
    """Collects the steps of a plan, and how its weights lie. Convolutions write into the first `buffer` elements."""

    def __init__(self, problem: TransposedConvolution, buffer: int):
        self.problem, self.buffer = problem, buffer
        self.cycles = 0.0
        self._steps: list[Step] = []
        self._kept: list[Any] = []  # what the addresses in the steps are of
        self._packed: dict[tuple[Filters, Form], Packed] = {}
        self._packed_elements = 0
        self._parts: dict[Filters, Part] = {}
        self._pieces = 0
        self._shared = self._private = 0
        self._missed: np.ndarray | None = None

    def convolve(
        self,
        piece: Piece,
        filters: Filters,
        parts: list[tuple[int, Axis]],
        bounds: tuple[float, float],
        begin: int | None,
    ) -> None:
        """Add the steps of a convolution of parts of x: of each axis the first input, and the windows.

        They write to element `begin` of the buffer, or to the result if that is None.
        """
        problem, size = self.problem, self.problem.element.size
        steps, axes = problem.x_strides, [axis for _, axis in parts]
        order = sorted(range(3), key=lambda i: not axes[i].is_single)
        convolution = Convolution(
            problem.element,
            piece.images,
            problem.channels,
            filters.shape[0],
            problem.groups,
            tuple(axes[i] for i in order),  # type: ignore[arg-type]
            (*steps[:2], *(steps[2 + i] for i in order)),  # type: ignore[arg-type]
            "zeros",
            *bounds,
            filters.shape[0] * prod(axis.out for axis in axes),
            None,
            problem.prepared,
            "auto",
            problem.source,
            problem.finite,
        )
        plan, form = plan_convolution(convolution)
        x_begin = piece.image * steps[0] + sum(first * step for (first, _), step in zip(parts, steps[2:], strict=True))
        begins = {
            "x": x_begin * problem.source.size,
            "weights": self._in_form(filters, form).begin * size,
            "bias": filters.bias_begin * size,
            "filters": filters.begin * size,
        }
        for step in plan.steps:
            fields = step.fields
            if plan.missed is not None and "missed" in fields:
                self._missed = plan.missed if self._missed is None else self._missed
                fields = fields | {"missed": address(self._missed)}
            out_at = None if begin is None else begin * size // _WORD
            scratch_at = self.buffer * size // _WORD
            self._steps.append(replace(step, fields=fields, begins=begins, scratch_at=scratch_at, out_at=out_at))
        self._kept.append(plan)
        self._parts.setdefault(filters, Part(convolution, plan, form, filters))
        self._shared = max(self._shared, plan.shared_elements)
        self._private = max(self._private, plan.thread_elements)
        self.cycles += plan.cycles
        by_sums, tile = summed(convolution, form)
        if isinstance(tile, TileShape) and "source" in plan.steps[-1].fields:
            self.cycles += packing_cycles(by_sums, plan)

    def _in_form(self, filters: Filters, form: Form) -> Packed:
        found = self._packed.get((filters, form))
        if found is None:
            problem = self.problem
            plans = plan_weights(problem.element, filters.shape, problem.groups, form)
            found = self._packed[filters, form] = Packed(filters, form, self._packed_elements)
            elements = plans[-1][1] if plans else prod(filters.shape)
            self._packed_elements += whole_lines(elements, problem.element)
        return found

    def add(self, step: Step, cycles: float, *kept: np.ndarray) -> None:
        """Add a step that puts together what is in the buffer."""
        self._steps.append(step)
        self._pieces += 1
        self._kept.extend(kept)
        self.cycles += cycles

    def composed(self, filters: tuple[Filters, ...], own: int = 0) -> Transposed:
        """Give the plan; its own steps have `own` elements of scratch for each thread."""
        plan = Plan(
            tuple(self._steps),
            self.buffer + self._shared,
            max(self._private, own),
            self.problem.element,
            self.cycles,
            tuple(self._kept),
            missed=self._missed,
        )
        packed = tuple(self._packed.values())
        return Transposed(plan, filters, packed, self._packed_elements, tuple(self._parts.values()), self._pieces)
