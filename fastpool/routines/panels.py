"""Packing of pixels tile by tile."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.pack import PACKING
from fastpool.routines.routine import kernel, routine

PANELS = Layout(
    "panels",
    {
        "pack_channel": "routine",
        "packing": PACKING,
        "is_packed": "integer",  # whether channels are packed first; else a channel of x is one row of pixels
        "x_channel": "integer",
        "x_depth": "integer",  # elements from a depth of pixels to the next, where x is not packed first
        "taps": "integer",
        "line_begins": "integers",  # of several taps: where in a packed channel the first row of each line begins
        "line_count": "integer",
        "rows": "integer",  # of a line
        "offsets": "integers",  # of several taps: first pixel that each sees, from the first of the lines
        "source_row": "integer",  # elements of a packed channel from one row of pixels to the next
        "row_pixels": "integer",
        "pixels": "integer",  # of a depth of a channel
        "panel": "integer",  # elements from one tile to the next
        "line": "integer",  # elements from one line to the next
    },
    has_head=False,
)
pack_panels = routine("panels.pack_panels", PANELS, "elements", "integer", "elements", "elements", *("integer",) * 4)

#: Channels of a single tap that are spread over the panels together, so that whole cache lines of a panel are written
#: at a time and few rows are read.
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
        "depths": "integer",
        "first_channel": "integer",  # of x
        "tiles": "integer",
        "step": "integer",  # elements of a panel from one channel to the next
        "x_batch": "integer",
        "x_channel": "integer",
        "packed_batch": "integer",
        "packed_depth": "integer",
        "own": "integer",  # elements from one thread's panels to the next's, 0 if all threads share them
        "lines": "integer",  # elements of the scratch before the threads' own
        "scratch_thread": "integer",
    },
)
panel_input = kernel("panels.panel_input", PANEL_INPUT)
