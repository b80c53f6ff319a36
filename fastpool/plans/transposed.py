"""Which way a transposed convolution is computed: by phases, or as a product of matrices whose overlaps are added."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ElementType
from fastpool.plans.overlap_add import plan_overlap_add, suits_overlap_add
from fastpool.plans.phases import plan_phases
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.transposed_problem import Filters, Transposed, TransposedConvolution
from fastpool.routines.turn import turn

#: Phases up to which a table of all of them is made: 1024 has the largest stride of a network, 32. With more, most see
#: no input, and a table would take as much memory as a channel of the result.
MOST_PHASES = 4096


def plan_transposed(problem: TransposedConvolution) -> Transposed:
    """Plan of a transposed convolution, and how its weights lie."""
    if not problem.finite:
        # An infinity among the taps of a phase, times the zeros around x, would be what no input has added.
        return plan_overlap_add(problem)
    if problem.phases > MOST_PHASES and not problem.element.is_integer:
        return plan_overlap_add(problem)
    phases = plan_phases(problem)
    if not suits_overlap_add(problem):
        return phases
    overlapping = plan_overlap_add(problem)
    return overlapping if overlapping.plan.cycles < phases.plan.cycles else phases


@lru_cache(maxsize=1024)
def plan_turning(element: ElementType, shape: tuple[int, ...], groups: int, filters: Filters) -> Plan:
    """Plan that turns weights (channel, out channel of a group, taps) of this shape into filters of some phases."""
    inputs, channels, kernel = shape[0] // groups, shape[1], (1,) * (5 - len(shape)) + shape[2:]
    taps = prod(filters.shape[2:])
    phases = filters.shape[0] // (groups * channels)
    if filters.windows is None:
        offsets = np.arange(phases)
        out_phase, out_channel = inputs, phases * inputs
    else:
        every_tap = np.arange(prod(kernel)).reshape(kernel)
        of_phases = product(*(window.taps for window in filters.windows))
        offsets = np.array([every_tap[np.ix_(*phase)] for phase in of_phases])
        out_phase, out_channel = channels * inputs * taps, inputs * taps
    offsets = table(offsets)
    fields = {
        "tasks": groups * channels,
        "group_channels": channels,
        "group_inputs": inputs,
        "in_group": inputs * channels * prod(kernel),
        "in_channel": prod(kernel),
        "in_input": channels * prod(kernel),
        "phases": phases,
        "taps": taps,
        "offsets": address(offsets),
        "out_group": phases * channels * inputs * taps,
        "out_phase": out_phase,
        "out_channel": out_channel,
        "out_inputs": inputs,
    }
    # Read a line at a time, from as many pages as there are channels.
    cycles = 4.0 * prod(filters.shape)
    return Plan((Step(Code(turn, element), fields),), 0, 0, element, cycles, (offsets,))
