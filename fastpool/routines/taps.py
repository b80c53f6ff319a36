"""Words of the call block of what needs all taps of its windows at once."""

from __future__ import annotations

from fastpool.routines.pool import WINDOWS

#: Words of a call block of such a reduction.
TAPPED = {
    **WINDOWS,
    "whole": "integer",  # taps along the columns of a window that lies within the borders
    "kernel": "integer",  # most taps that any window has along the columns
    "taps": "integer",  # most taps of a window
    "vector_stride": "integer",  # that of the columns, where vectors can be loaded; else 0
    "scratch_thread": "integer",
}
