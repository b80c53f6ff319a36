"""Blurring and subsampling by one filter along both axes."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

BLUR = Layout(
    "blur",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "x_row": "integer",
        "x_column": "integer",
        "channels": "integer",
        "width": "integer",
        "taps": "integer",
        "filter": "elements",
        "row_sources": "integers",  # taps of each output row; -1 is a row of zeros
        "column_sources": "integers",  # of the padding at the left, then of that at the right; -1 is zero
        "pad_left": "integer",
        "pad_right": "integer",
        "stride": "integer",  # of the columns
        "buffer": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "rows_per_task": "integer",
        "row_tasks": "integer",
    },
)

blur = kernel("blur.blur", BLUR)
