"""Global pooling."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

REDUCE = Layout(
    "reduce",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "x_depth": "integer",
        "x_row": "integer",
        "x_column": "integer",
        "channels": "integer",
        "depths": "integer",
        "rows": "integer",
        "width": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "evenly": "integer",  # elements from each plane to the next, 0 where that is no single number
        "divisor": "number",
    },
)

#: Planes that are taken together at most: of narrower elements more would fit one vector, but not the registers.
MOST_PLANES = 16

reduce_planes = kernel("reduce.reduce_planes", REDUCE)
