"""Filters whose axes change places: those of a transposed convolution, or taps of depth that become channels."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: `offsets` say which taps each phase has, `taps` of them, in the order in which they are written.
TURN = Layout(
    "turn",
    {
        "group_channels": "integer",
        "group_inputs": "integer",
        "phases": "integer",
        "taps": "integer",
        "offsets": "integers",
        "in_group": "integer",
        "in_channel": "integer",
        "in_input": "integer",
        "out_group": "integer",
        "out_phase": "integer",
        "out_channel": "integer",
        "out_inputs": "integer",  # as many, those beyond `group_inputs` zero
    },
)
turn = kernel("turn.turn", TURN)
