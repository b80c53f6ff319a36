"""Unpooling of maxima."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

UNPOOL = Layout(
    "unpool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "x_depth": "integer",
        "x_row": "integer",
        "x_column": "integer",
        "indices_batch": "integer",
        "indices_channel": "integer",
        "indices_depth": "integer",
        "indices_row": "integer",
        "indices_column": "integer",
        "channels": "integer",
        "depths": "integer",
        "rows": "integer",
        "width": "integer",
        "size": "integer",  # elements of a plane of out
        "planes": "integer",
        "planes_per_task": "integer",
    },
)

unpool = kernel("unpool.unpool", UNPOOL)
