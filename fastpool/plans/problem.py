"""The convolution that a plan is made for, and small helpers of all its plans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

import numpy as np

from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.routines.tiles import LEVEL_2_BYTES, SCRATCH_LIMIT


def ceil_div(a: int, b: int) -> int:
    """Quotient, rounded up."""
    return -(-a // b)


def apart(elements: int, size: int) -> int:
    """Round a pitch up to an odd number of cache lines, so that channels do not fall into the same cache sets."""
    line = 64 // size
    return (ceil_div(elements, line) | 1) * line


def joined(axes: list[Axis], steps: list[int], pixel_bytes: int) -> tuple[list[Axis], list[int]]:
    """Axes and the steps of x along them; rows and columns that filters of depth alone leave as they are become one.

    What meets padding is rows then, which are left out of x in place: 3x1x1 from 288 to 128 channels of 4x14x14 takes
    0.68 ms instead of 0.85, depthwise over 64 of 8x28x28 37 us instead of 73. A task has whole rows, whose pixels are
    `pixel_bytes` in all channels: of 144 channels of 56x56 each block of channels would read them anew from afar.
    """
    depth, height, width = axes
    is_plain = all(axis.kernel == axis.stride == 1 and not axis.is_padded for axis in (height, width))
    pixels = height.size * width.size
    is_small = depth.kernel * pixels * pixel_bytes <= LEVEL_2_BYTES
    if not is_plain or not is_small or depth.kernel == depth.stride == 1 or steps[1] != width.size * steps[2]:
        return axes, steps
    return [Axis(1, 1, 1, 1, 0, 0, 1), depth, Axis(pixels, 1, 1, 1, 0, 0, pixels)], [0, steps[0], steps[2]]


@dataclass(frozen=True)
class Convolution:
    """All that decides how a convolution is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType
    images: int
    channels: int
    out_channels: int
    groups: int
    axes: tuple[Axis, Axis, Axis]
    x_strides: tuple[int, int, int, int, int]
    padding_mode: str
    low: float
    high: float
    out_batch: int
    residual_batch: int | None
    prepared: bool = True  #: whether weights are packed once, for many calls
    algorithm: str = "auto"
    source: ElementType | None = None  #: of x; None is `element`, anything narrower is widened while it is packed
    finite: bool = False  #: whether the weights are known to be finite

    @property
    def widened_from(self) -> str:
        """Variant of the spec that packs x."""
        return f"from {self.source.numba_name}" if self.source not in (None, self.element) else ""

    @cached_property
    def is_padded(self) -> bool:
        """Whether any axis has padding."""
        return any(axis.is_padded for axis in self.axes)

    @property
    def omits_padding(self) -> bool:
        """Whether what meets the padding adds nothing, not even a zero times infinity."""
        return self.padding_mode == "zeros" and self.finite

    @property
    def open_bounds(self) -> tuple[float, float]:
        """Bounds that change no result."""
        limits = np.iinfo(self.element.dtype) if self.element.is_integer else None
        return (int(limits.min), int(limits.max)) if limits else (-inf, inf)

    @property
    def is_bounded(self) -> bool:
        """Whether the activation can change a result."""
        return (self.low, self.high) != self.open_bounds

    @cached_property
    def taps(self) -> int:
        """Taps of one channel."""
        return prod(axis.kernel for axis in self.axes)

    @cached_property
    def outputs(self) -> tuple[int, int, int]:
        """Depths, rows and columns of one output channel."""
        depth, height, width = self.axes
        return depth.out, height.out, width.out

    @cached_property
    def pixels(self) -> int:
        """Pixels of one output channel."""
        return prod(self.outputs)

    @property
    def multiply_adds(self) -> int:
        """Multiplications of all taps, padding included."""
        return self.images * self.pixels * self.out_channels * (self.channels // self.groups) * self.taps

    @property
    def workspace_limit(self) -> int:
        """Bytes of scratch that a plan may need for one thread, and that all may share."""
        return SCRATCH_LIMIT
