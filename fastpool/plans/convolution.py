"""Which algorithm computes a convolution, and how its weights are prepared."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from fastpool.dtypes import ELEMENT_TYPES, ElementType
from fastpool.plans.channelwise import channelwise_cycles, is_channelwise, plan_channelwise
from fastpool.plans.depthwise import PlainForm, depthwise_cycles, is_depthwise, plan_depthwise
from fastpool.plans.direct import plan_direct
from fastpool.plans.panels import plan_panels, suits_panels
from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.winograd import WinogradForm, forms_for, plan_winograd, u_product, winograd_cycles
from fastpool.routines.pack import pack_weights
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import TileShape
from fastpool.routines.winograd import winograd_weights

#: How weights are prepared: blocks of a register tile, transformed for Winograd, or not at all.
Form = TileShape | WinogradForm | PlainForm


@lru_cache(maxsize=1024)
def plan_convolution(problem: Convolution) -> tuple[Plan, Form]:
    """Plan of the convolution, and the form of the weights that it reads."""
    if problem.algorithm != "winograd" and (is_depthwise(problem) or is_channelwise(problem)):
        return _plan_depthwise(problem), PlainForm()
    direct, tile = plan_directly(problem)
    forms = forms_for(problem) if problem.algorithm != "direct" else ()
    if not forms:
        return direct, tile
    best = min(forms, key=lambda form: winograd_cycles(problem, form) + _preparation(problem, form))
    cycles = winograd_cycles(problem, best) + _preparation(problem, best)
    if problem.algorithm == "winograd" or cycles < direct.cycles:
        return plan_winograd(problem, best), best
    return direct, tile


def plan_directly(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the direct convolution, and the tile whose packed weights it reads."""
    found = plan_panels(problem) if suits_panels(problem) else None
    return found or plan_direct(problem)


def _plan_depthwise(problem: Convolution) -> Plan:
    """Lanes on columns, or on channels where that is faster, or all that can be."""
    if not is_depthwise(problem):
        return plan_channelwise(problem)
    if is_channelwise(problem) and channelwise_cycles(problem) < depthwise_cycles(problem):
        return plan_channelwise(problem)
    return plan_depthwise(problem)


def _preparation(problem: Convolution, form: WinogradForm) -> float:
    """Cycles to transform the weights, where that is part of every call: about one store of a vector each."""
    if problem.prepared:
        return 0.0
    weights = problem.channels // problem.groups * problem.out_channels
    return 2.0 * form.products * form.phases * weights / lanes_for(problem.element)


@lru_cache(maxsize=1024)
def plan_weights(element: ElementType, shape: tuple[int, ...], groups: int, form: Form) -> list[tuple[Plan, int]]:
    """Plans that prepare weights one after the other, each with the number of elements that it writes."""
    if isinstance(form, PlainForm):
        return []
    lanes = lanes_for(element)
    block = form.block(lanes) if isinstance(form, TileShape) else 2 * lanes
    group_out, reduction = shape[0] // groups, prod(shape[1:])
    blocks = ceil_div(group_out, block)
    elements = groups * blocks * reduction * block
    fields = {
        "tasks": groups * blocks,
        "block": block,
        "blocks": blocks,
        "reduction": reduction,
        "group_channels": group_out,
    }
    cycles = elements * element.size * 0.75
    plans = [(Plan((Step(Code(pack_weights, element), fields),), 0, 0, element, cycles), elements)]
    if isinstance(form, WinogradForm):
        channel_blocks = form.channel_blocks(shape[1], lanes)
        pitch = u_product(form, channel_blocks, element.size, lanes)
        fields = {
            "tasks": groups * blocks,
            "channels": shape[1],
            "padded_channels": channel_blocks * lanes,
            "out_blocks": groups * blocks,
            "u_product": pitch,
        }
        step = Step(Code(winograd_weights, element, form.shape), fields)
        plans.append((Plan((step,), 0, 0, element, 4 * cycles), groups * blocks * form.products * pitch))
    return plans


def unpack_weights(packed: np.ndarray, form: Form, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """Weights as they were before they were prepared, contiguous; Winograd's cannot be had back to the last bit."""
    if isinstance(form, WinogradForm):
        raise TypeError("form must be one that only moves weights, got Winograd's")
    if isinstance(form, PlainForm):
        return packed
    reduction, block = prod(shape[1:]), form.block(lanes_for(ELEMENT_TYPES[packed.dtype]))
    blocks = packed.reshape(groups, -1, reduction, block).transpose(0, 1, 3, 2)  # to (group, block, channel, reduction)
    return np.ascontiguousarray(blocks.reshape(groups, -1, reduction)[:, : shape[0] // groups].reshape(shape))
