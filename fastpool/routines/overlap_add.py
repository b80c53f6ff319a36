"""Sums of overlapping results: each input of a transposed convolution has added its multiple of the filters."""

from __future__ import annotations

from fastpool.routines.interleave import RESULT
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: `depth_begins` ... say for each output depth, row and phase of columns which `*_offsets` are those of its taps; a tap
#: of columns finds output q of its phase at `column_shifts` + q, if that is one of `columns`.
OVERLAP_ADD = Layout(
    "overlap_add",
    {
        "depth_begins": "integers",
        "depth_offsets": "integers",
        "row_begins": "integers",
        "row_offsets": "integers",
        "column_begins": "integers",
        "column_offsets": "integers",
        "column_shifts": "integers",
        "columns": "integer",
        "count": "integer",  # of outputs of a phase in a row
        "channel": "integer",
        "own": "integer",  # element of the scratch at which rows of the threads begin
        "own_thread": "integer",
        "own_pitch": "integer",  # from one phase of a row to the next
        **RESULT,
        "low": "bound",
        "high": "bound",
    },
)
overlap_add = kernel("overlap_add.overlap_add", OVERLAP_ADD)
