"""Plan of median pooling: sorted, counted, or counted in place, by the size of the windows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.taps import Tapped, tapped_fields
from fastpool.routines.median import LARGEST_SORTED, comparators, counted_median, median_in_place, sorted_median
from fastpool.routines.routine import lanes as lanes_for

#: Bytes of the taps of one vector of outputs: more would leave the level-2 cache, and be no bounded scratch.
SCRATCH_BYTES = 1024 * 1024


@lru_cache(maxsize=1024)
def plan_median(problem: Tapped) -> Plan:
    """Plan of a median pooling."""
    element, taps, scratch = problem.element, problem.taps, problem.scratch_elements
    vectors = -(-problem.outputs // lanes_for(element))
    if 1 <= taps <= LARGEST_SORTED:
        routine, width, cycles = sorted_median, taps, 4.0 * vectors * (len(comparators(taps)) + taps)
    elif scratch * element.size <= SCRATCH_BYTES:
        routine, width, cycles = counted_median, 1, 16.0 * element.size * vectors * taps
    else:
        routine, width, cycles, scratch = median_in_place, 1, 16.0 * element.size * problem.outputs * taps, 0
    tables: list[Any] = []
    fields = tapped_fields(problem, tables, scratch)
    code = Code(routine, element, (problem.widened_from, 1, width))
    return Plan((Step(code, fields),), 0, scratch, element, cycles, tuple(tables))
