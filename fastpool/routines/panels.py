"""Packing of pixels tile by tile."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel, routine

PANELS = Layout(
    "panels",
    {
        "x_channel": "integer",
        "x_row": "integer",
        "x_pixel": "integer",  # elements of x from one pixel of a row to the next
        "row_pixels": "integer",
        "pixels": "integer",  # of a channel
        "panel": "integer",  # elements from one tile to the next
        "line": "integer",  # elements of a line in which pixels of a channel are gathered; 0: they are one row of x
    },
    has_head=False,
)
pack_panels = routine("panels.pack_panels", PANELS, "elements", "elements", "elements", *("integer",) * 3)
#: Channels that are packed together, so that whole lines of a panel are written at a time and few rows are read.
TOGETHER = 8

#: Channels of a task: of any tile, these are whole cache lines.
PANEL_CHANNELS = 32

PANEL_INPUT = Layout(
    "panel_input",
    {
        "pack_panels": "routine",
        "panels": PANELS,
        "channels": "integer",
        "channel_tasks": "integer",
        "tiles": "integer",
        "width": "integer",  # pixels of a tile
        "x_batch": "integer",
        "x_channel": "integer",
        "packed_batch": "integer",
        "lines": "integer",  # elements of the scratch before the threads' lines
        "scratch_thread": "integer",
    },
)
panel_input = kernel("panels.panel_input", PANEL_INPUT)
