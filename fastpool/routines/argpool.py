"""Max and min pooling that also tell where."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.pool import WINDOWS
from fastpool.routines.routine import kernel

ARGPOOL = Layout("argpool", {**WINDOWS, "height": "integer"})

argpool = kernel("argpool.argpool", ARGPOOL)
