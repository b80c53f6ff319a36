"""Plan of stochastic pooling."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastpool.plans.plan import Code, Plan, Step
from fastpool.plans.taps import Tapped, tapped_fields
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.stochastic import weighted_draw, weighted_mean

#: Bytes of scratch that a thread may have.
SCRATCH_BYTES = 16 * 1024 * 1024


@lru_cache(maxsize=1024)
def plan_stochastic(problem: Tapped, draw: bool) -> Plan:
    """Plan of a draw, or of the weighted mean."""
    element, scratch = problem.element, problem.scratch_elements
    tables: list[Any] = []
    fields = tapped_fields(problem, tables, scratch)
    cycles = 12.0 * -(-problem.outputs // lanes_for(element)) * (problem.taps + 4)
    code = Code(weighted_draw if draw else weighted_mean, element)
    return Plan((Step(code, fields),), 0, scratch, element, cycles, tuple(tables))
