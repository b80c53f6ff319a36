"""Fractional max pooling."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

FRACTIONAL = Layout(
    "fractional",
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
        "depth_kernel": "integer",
        "row_kernel": "integer",
        "column_kernel": "integer",
        "out_depths": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "planes": "integer",
        "buffer": "integer",  # elements of the buffered row
        "scratch_thread": "integer",
    },
)

fractional = kernel("fractional.fractional", FRACTIONAL)
fractional_indices = kernel("fractional.fractional_indices", FRACTIONAL)
