"""Depthwise convolution with lanes on columns."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Largest filter: its weights still come from the level-1 cache, one load for each multiplication.
LARGEST_FILTER = 7

#: Filters that are taken dilated, too, at stride 1: each is code of its own.
DILATED_FILTERS = ((1, 2), (1, 3), (1, 5), (1, 7), (3, 3), (5, 5))

#: Whether half a vector takes half the time, as on Zen 4.
HALVES_PAY = TARGET.multiplies == 1

#: Whether rows that are no longer than a vector have code of their own, with masks that are made once for all planes:
#: where they take several instructions, as without AVX-512. 3x3 over 960 channels of 7x7 takes 0.83 to 0.90 of the time
#: so, at stride 2 from 14x14 0.89, 384 channels of 5x5 0.74.
SINGLES_PAY = TARGET.name != "avx512"

#: Offset that stands for a row of the padding; rows of an input with negative strides have negative offsets.
NO_ROW = -(2**62)

DEPTHWISE = Layout(
    "depthwise",
    {
        "channels": "integer",  # of out
        "multiplier": "integer",  # out channels of one input channel
        "x_batch": "integer",
        "x_channel": "integer",
        "width": "integer",
        "row_offsets": "integers",  # of each padded row within a plane, or NO_ROW, phase by phase of the dilation
        "phase_rows": "integer",  # of which each has so many
        "row_dilation": "integer",
        "column_dilation": "integer",
        "zeros": "elements",  # a row of them
        "pad_left": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "out_batch": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "rows_per_task": "integer",
        "block_rows": "integer",
        "row_tasks": "integer",
        "low": "number",
        "high": "number",
    },
)

depthwise = kernel("depthwise.depthwise", DEPTHWISE)
