"""What the machine can do at best."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

CEILING = Layout(
    "ceiling",
    {
        "count": "integer",  # how often everything is done
        "elements": "integer",  # of each task, a multiple of a vector's lanes times ACCUMULATORS
    },
)

#: Accumulators: more than the latency of an instruction times the units that carry it out (4 x 2), fewer than the
#: registers, so that a factor and a summand fit beside them.
ACCUMULATORS = 3 * TARGET.registers // 4

peak = kernel("ceilings.peak", CEILING)
stream_read = kernel("ceilings.stream_read", CEILING)
stream_copy = kernel("ceilings.stream_copy", CEILING)
