"""Pooling with small windows."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Windows (rows, columns) that have code of their own: the squares that networks use, and what is flat or nearly so.
SMALL_WINDOWS = frozenset(
    [(size, size) for size in range(1, 14)]
    + [(1, size) for size in range(2, 6)]
    + [(size, 1) for size in range(2, 6)]
    + [(2, 3), (3, 2)]
)

#: Output rows that may be a group: 2 where more do not fit the registers. Each is code of its own.
GROUPS = (1, 2, 5, 7)

#: Offset that stands for a row outside the input; negative strides make negative offsets.
NO_ROW = -(2**62)

SMALL_POOL = Layout(
    "small_pool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "channels": "integer",
        "row_offsets": "integers",  # of each padded row within a plane, or NO_ROW
        "outside": "source",  # a row of neutral elements
        "row_stride": "integer",
        "x_row": "integer",
        "first_column": "integer",
        "ahead": "integer",  # elements to what is fetched meanwhile; 0: nothing is
        "load_masks": "integers",  # lanes within the input, for each vector that is loaded
        "loads": "integer",  # vectors of columns at stride 1, pairs of them at stride 2
        "store_masks": "integers",
        "stores": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "row_tasks": "integer",
        "finish": "integer",
        "row_divisor": "elements",
        "column_divisor": "elements",  # of whole vectors
    },
)


def groups_in_registers(columns: int, stride: int) -> list[int]:
    """Groups for windows of so many columns: what is combined and not yet written fills half of the registers at most.

    More is spilled (3x3 stride 2, 256 channels of 54x54: 77 us by 2 or 4 rows, 96 by 7).
    """
    kept = stride * (2 if columns > stride else 1)
    fitting = [group for group in GROUPS if 2 * kept * group <= TARGET.registers]
    return [group for group in fitting if group != 2 or group == max(fitting)] or [1]


def variant_of(operation: str, group: int, row_step: int, stride: int, narrow: bool) -> str:
    """Variant: operation, output rows of a group, rows from one to the next of them, stride of the columns."""
    return f"{'narrow ' if narrow else ''}{operation} rows {group} step {row_step} stride {stride}"


def rows_seen(kernel: int, group: int, row_step: int) -> int:
    """Input rows that a group of output rows sees."""
    return (group - 1) * row_step + kernel


small_pool = kernel("smallpool.small_pool", SMALL_POOL)
