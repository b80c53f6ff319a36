"""A matrix times a vector."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

GEMV = Layout(
    "gemv",
    {
        "outputs": "integer",
        "inputs": "integer",
        "pitch": "integer",  # elements from one row of the matrix, as it lies, to the next
        "outputs_per_task": "integer",
        "image_tasks": "integer",  # tasks of an image; of a single vector all
        "x_batch": "integer",  # elements of x from one image to the next
        "x_row": "integer",  # and, for dots, from what one row is multiplied by to the next
        "out_batch": "integer",
        "low": "number",
        "high": "number",
    },
)

#: Sums that are in work at a time where weights are rows: they fill half the registers of the smallest target, and are
#: enough to hide the latency of an addition.
_SUMS = 8

#: Rows of weights that are read at a time where the weights of an input lie side by side.
COLUMN_ROWS = 8


def row_shape(lanes: int, variant: str = "rows") -> tuple[str, int, int]:
    """Shape of the spec where weights are rows: as many outputs as sums, unless they are more than a vector's lanes.

    With "dots" each row is multiplied by elements of its own.
    """
    return variant, max(1, _SUMS // lanes), min(_SUMS, lanes)


#: And where they are columns.
COLUMNS = ("columns", COLUMN_ROWS, 1)

gemv = kernel("gemv.gemv", GEMV)
