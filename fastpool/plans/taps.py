"""Tables of windows for the reductions that need all taps of a window at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.plans.plan import thread_scratch
from fastpool.plans.windows import window_fields, windows_of
from fastpool.routines.routine import lanes as lanes_for


@dataclass(frozen=True)
class Tapped:
    """All that decides how such a reduction is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType
    images: int
    channels: int
    axes: tuple[Axis, ...]
    x_strides: tuple[int, ...]
    source: ElementType | None = None  #: of x; None is `element`, anything narrower is widened

    @property
    def taps(self) -> int:
        """Most taps of a window."""
        return prod(max(windows_of(axis).count) for axis in self.axes)

    @property
    def widened_from(self) -> str:
        """Variant of the spec."""
        return f"from {self.source.numba_name}" if self.source not in (None, self.element) else ""

    @property
    def outputs(self) -> int:
        """Elements of the result."""
        return self.images * self.channels * prod(axis.out for axis in self.axes)

    @property
    def scratch_elements(self) -> int:
        """Scratch of a thread: the taps of one vector of outputs."""
        return thread_scratch(self.taps * lanes_for(self.element), self.element)


def tapped_fields(problem: Tapped, tables: list[Any], scratch: int) -> dict[str, Any]:
    """Fields of a call block; the arrays that they point to are added to `tables`."""
    width = problem.axes[2]
    work = prod(axis.out for axis in problem.axes) * max(1, problem.taps)
    plain = problem.x_strides[4] == 1 and not problem.widened_from and width.stride <= 2
    return window_fields(problem.axes, problem.x_strides, problem.images, problem.channels, work, tables) | {
        "whole": width.kernel,
        "kernel": max(windows_of(width).count),
        "taps": problem.taps,
        "vector_stride": width.stride if plain else 0,
        "scratch_thread": scratch,
    }
