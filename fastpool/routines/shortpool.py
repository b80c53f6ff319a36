"""Extrema of small windows in maps with short rows."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel
from fastpool.routines.smallpool import GROUPS

SHORT_POOL = Layout(
    "short_pool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "channels": "integer",
        "row_offsets": "integers",  # of each padded row within a plane
        "row_stride": "integer",
        "first_column": "integer",
        "plane": "integer",  # elements of a plane of x that are fetched ahead
        "plane_ahead": "integer",  # elements to it; 0: none is
        "masks": "integers",  # lanes within the input, for each vector of a row, and lanes of an output row
        "out_rows": "integer",
        "out_columns": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "row_tasks": "integer",
    },
)


def groups_of_short_rows(rows: int, parts: int) -> list[int]:
    """Output rows that may be a group, with windows of so many rows: more is spilled."""
    return [group for group in GROUPS if 3 * parts * (group + rows) <= 2 * TARGET.registers] or [1]


def variant_of_short(operation: str, group: int, row_step: int, parts: int, stride: int, narrow: bool) -> str:
    """Variant: operation, output rows of a group, rows between them, vectors of a row, stride of the columns."""
    head = f"{'narrow ' if narrow else ''}{operation}"
    return f"{head} rows {group} step {row_step} parts {parts} stride {stride}"


short_pool = kernel("shortpool.short_pool", SHORT_POOL)
