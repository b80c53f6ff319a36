"""Filters of a transposed convolution, turned into those of ordinary ones."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: `offsets` say which taps each phase has, `taps` of them, in the order in which they are written.
TURN = Layout(
    "turn",
    {
        "groups": "integer",
        "group_channels": "integer",
        "group_inputs": "integer",
        "kernel": "integer",  # taps of a filter
        "phases": "integer",
        "taps": "integer",
        "offsets": "integers",
        "out_group": "integer",
        "out_phase": "integer",
        "out_channel": "integer",
    },
)
turn = kernel("turn.turn", TURN)
