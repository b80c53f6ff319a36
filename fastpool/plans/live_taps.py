"""Taps that are left out of a whole convolution, as they meet nothing but padding, whatever result they are for.

Small maps have many: of 3x3 filters with a padding of 1 on 1x1 only the tap in the middle finds a pixel, of filters
dilated by 36 on 28x28, too. What is left is a smaller filter, a 1x1 one there, whose weights lie beside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution
from fastpool.routines.turn import turn


@dataclass(frozen=True)
class LiveTaps:
    """A convolution by some of the taps alone, which gives the same results."""

    problem: Convolution
    places: tuple[int, ...]  #: which taps they are, in the order of the weights


def _finds(axis: Axis, tap: int) -> bool:
    """Whether there is a window whose tap is on an element; rows are long, so that windows are not tried one by one."""
    shift = tap * axis.dilation - axis.pad_begin
    first, last = -(shift // axis.stride), (axis.size - 1 - shift) // axis.stride
    return max(0, first) <= min(axis.out - 1, last)


def _live(axis: Axis) -> range:
    """Taps from the first to the last that find elements, and as many more as leave no padding negative."""
    found = [tap for tap in range(axis.kernel) if _finds(axis, tap)]
    if not found:
        return range(axis.kernel)
    before = min(found[0], axis.pad_begin // axis.dilation)
    behind = min(axis.kernel - 1 - found[-1], axis.pad_end // axis.dilation)
    return range(before, axis.kernel - behind)


def _with(axis: Axis, taps: range) -> Axis:
    """Axis with these taps alone."""
    before, behind = taps.start * axis.dilation, (axis.kernel - taps.stop) * axis.dilation
    dilation = axis.dilation if len(taps) > 1 else 1
    pads = axis.pad_begin - before, axis.pad_end - behind
    return Axis(axis.size, len(taps), axis.stride, dilation, *pads, axis.out)


def live_taps(problem: Convolution) -> LiveTaps | None:
    """Leave out the taps that meet nothing but padding, which is of zeros; None where all meet something.

    Not by depthwise filters, which are read as they are given: few taps of them cost little.
    """
    if not problem.omits_padding or not problem.is_padded or problem.channels == problem.groups:
        return None
    live = tuple(map(_live, problem.axes))
    depth, height, width = map(_with, problem.axes, live)
    fewer = replace(problem, axes=(depth, height, width))
    if fewer.taps == problem.taps:
        return None
    every = np.arange(problem.taps).reshape([axis.kernel for axis in problem.axes])
    return LiveTaps(fewer, tuple(every[np.ix_(*live)].reshape(-1).tolist()))


def plan_places(element: ElementType, shape: tuple[int, ...], places: tuple[int, ...], taps: int) -> tuple[Plan, int]:
    """Plan that moves the weights of some taps beside each other, and how many they are."""
    channels, inputs = shape[:2]
    offsets = table(np.array(places))
    fields = {
        "tasks": channels,
        "group_channels": channels,
        "group_inputs": inputs,
        "phases": 1,
        "taps": len(places),
        "offsets": address(offsets),
        "in_group": 0,
        "in_channel": inputs * taps,
        "in_input": taps,
        "out_group": 0,
        "out_phase": 0,
        "out_channel": inputs * len(places),
        "out_inputs": inputs,
    }
    elements = channels * inputs * len(places)
    return Plan((Step(Code(turn, element), fields),), 0, 0, element, 2.0 * elements, (offsets,)), elements
