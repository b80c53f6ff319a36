"""Global pooling."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
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
        "ahead": "integer",  # elements of a plane to those that are fetched meanwhile
        "plane": "integer",  # elements of the planes that are fetched at once
        "plane_ahead": "integer",  # elements to those; 0: none are
        "divisor": "number",
    },
)

#: Planes that are taken together at most: more would not fit the registers.
MOST_PLANES = 16


def planes_together(lanes: int) -> int:
    """Planes that are taken together, of elements that are so many to a vector: as many, if they fit the registers."""
    if lanes <= MOST_PLANES:
        return lanes
    return MOST_PLANES if TARGET.name == "avx512" else 1  # elsewhere the end of each plane is read byte by byte


reduce_planes = kernel("reduce.reduce_planes", REDUCE)
