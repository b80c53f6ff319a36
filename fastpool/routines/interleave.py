"""Interleaving of the phases of a transposed convolution."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Where a piece of the result lies, and its sizes: what `TransposedConvolution.result_fields` gives.
RESULT = {
    "stride_column": "integer",
    "groups": "integer",
    "group_channels": "integer",
    "depths": "integer",
    "rows": "integer",
    "width": "integer",
    "row_tasks": "integer",  # of the rows of all depths of a channel
    "out_batch": "integer",
    "out_channel": "integer",
    "out_depth": "integer",
    "out_row": "integer",
}

#: `phase_begins` says where in the scratch memory each phase begins, or is negative for one that sees no input: all of
#: it is the bias. `phase_groups` are from one group of its channels to the next.
INTERLEAVE = Layout(
    "interleave",
    {
        "phase_begins": "integers",
        "phase_groups": "integers",
        "phase_channel": "integer",
        "phase_depth": "integer",
        "phase_row": "integer",
        "stride_depth": "integer",
        "stride_row": "integer",
        **RESULT,
    },
)
interleave = kernel("interleave.interleave", INTERLEAVE)

#: Strides of columns at which whole vectors are put together, each by a spec of its own ("stride 2"); "" serves any
#: other, and phases that see no input.
INTERLEAVED_STRIDES = (1, 2, 4, 8)
