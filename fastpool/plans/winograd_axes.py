"""How the axes of a convolution meet Winograd's forms: as they are, as rows and columns of others, or as channels."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fastpool.geometry import Axis
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.winograd_forms import FORMS, WinogradForm
from fastpool.routines.routine import lanes as lanes_for


def forms_along(height: Axis, width: Axis) -> tuple[WinogradForm, ...]:
    """Forms for filters along these axes, which have no stride where they are dilated."""
    if any(axis.stride > 1 and axis.dilation > 1 for axis in (height, width)):
        return ()
    return FORMS.get((height.kernel, width.kernel, height.stride, width.stride), ())


@lru_cache(maxsize=256)
def arranged(problem: Convolution) -> Convolution:
    """The same with its axes where a form finds them, if there is none as they are.

    Filters of depth alone become those of rows, of images whose rows are whole planes. Rows of others, 7x7 or 3x5,
    become depth: their taps are channels, and columns alone are filtered.
    """
    depth, height, width = problem.axes
    batch, channel, of_depth, row, column = problem.x_strides
    single = Axis(1, 1, 1, 1, 0, 0, 1)
    is_plain = all(axis.kernel == axis.stride == 1 and not axis.is_padded for axis in (height, width))
    plane = Axis(width.size * height.size, 1, 1, 1, 0, 0, width.size * height.size)
    if is_plain and row == width.size * column and forms_along(depth, plane):
        axes, steps = (single, depth, plane), (0, of_depth, column)
    elif depth.is_single and not forms_along(height, width) and forms_along(single, width):
        axes, steps = (height, single, width), (row, 0, column)
    else:
        return problem
    return replace(problem, axes=axes, x_strides=(batch, channel, *steps))


@lru_cache(maxsize=256)
def as_images(problem: Convolution) -> Convolution:
    """The same, `arranged`, with each output depth as an image, and the channels of each tap of depth as channels.

    Each tap has whole vectors of these. What they read is transformed anew for each depth that sees it; sums are as
    long as those of an image of so many channels, and so are the multiplications that are saved.
    """
    problem = arranged(problem)
    depth, height, width = problem.axes
    if depth.is_single:
        return problem
    lanes, group_channels = lanes_for(problem.element), problem.channels // problem.groups
    if depth.kernel > 1:
        group_channels = depth.kernel * ceil_div(group_channels, lanes) * lanes
    return replace(
        problem,
        images=problem.images * depth.out,
        channels=problem.groups * group_channels,
        axes=(Axis(1, 1, 1, 1, 0, 0, 1), height, width),
    )
