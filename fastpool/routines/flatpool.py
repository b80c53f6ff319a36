"""Extrema of small windows in maps with several rows to a vector."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel
from fastpool.routines.smallpool import rows_seen

#: Vectors of output rows that may be a group. Each is code of its own.
GROUPS = (1, 2, 3, 4, 7)

FLAT_POOL = Layout(
    "flat_pool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "channels": "integer",
        "x_row": "integer",
        "first": "integer",  # element of a plane that its first padded row begins with
        "row_masks": "integers",  # lanes within the plane, of the vector that begins with each padded row
        "vector_rows": "integer",  # padded rows from where a vector of outputs begins to where the next does
        "orders": "elements",  # lanes that each vector is combined with, see `kernels.flatpool`
        "store_masks": "integers",  # lanes of each vector of outputs
        "vectors": "integer",  # of outputs, in a plane
        "out_vector": "integer",  # outputs in each but the last
        "out_plane": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "vector_tasks": "integer",
    },
)


def doublings(columns: int) -> int:
    """How often windows of one column are doubled before two of them are a window of so many."""
    return (-(-columns // 2) - 1).bit_length()


def groups_of_vectors(rows: int, row_step: int) -> list[int]:
    """Vectors of outputs that may be a group, with windows of so many rows: more is spilled."""
    return [group for group in GROUPS if rows_seen(rows, group, row_step) + 4 <= TARGET.registers] or [1]


def variant_of_flat(operation: str, group: int, row_step: int, in_place: bool) -> str:
    """Variant: operation, vectors of outputs in a group, rows between them, whether outputs lie as inputs do."""
    return f"{operation} rows {group} step {row_step}{' in place' if in_place else ''}"


flat_pool = kernel("flatpool.flat_pool", FLAT_POOL)
