"""Pooling with windows of any kind, and what windows combine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: What windows combine: neutral element, whether elements are transformed first, and the operation of two values.
VARIANTS = ("max", "min", "sum", "absmax", "abssum", "squaresum", "powersum")

#: The same of integers: extrema in their own type, sums in 64 bits; "all" is the minimum of bool.
INTEGER_VARIANTS = ("max", "min", "sum", "all")

#: What becomes of a combined value; `ROOT` takes 1/p.
PLAIN, DIVIDE, SCALE, SQUARE_ROOT, ROOT = range(5)

WINDOWS = {
    "x_batch": "integer",
    "x_channel": "integer",
    "x_depth": "integer",
    "x_row": "integer",
    "x_column": "integer",
    "channels": "integer",
    "width": "integer",
    "out_depths": "integer",
    "out_rows": "integer",
    "out_columns": "integer",
    "depth_first": "integers",
    "depth_count": "integers",
    "depth_step": "integer",
    "row_first": "integers",
    "row_count": "integers",
    "row_step": "integer",
    "column_first": "integers",
    "column_count": "integers",
    "column_step": "integer",
    "planes": "integer",
    "planes_per_task": "integer",
    "rows_per_task": "integer",
    "row_tasks": "integer",
}

POOL = Layout(
    "pool",
    {
        **WINDOWS,
        "regular": "integer",  # columns have one kernel, stride and padding; else they follow the tables
        "kernel": "integer",
        "stride": "integer",
        "pad_left": "integer",
        "buffer": "integer",  # elements of the buffered row
        "scratch_thread": "integer",
        "finish": "integer",
        "row_divisor": "elements",
        "column_divisor": "elements",
        "power": "number",
    },
)


def operation_of(spec: Any) -> str:
    """Operation: the first word of the variant, behind "narrow" where vectors are."""
    return str(spec.variant.removeprefix("narrow ").split()[0])


def neutral_of(spec: Any) -> int | float:
    """Element that changes nothing it is combined with."""
    operation = operation_of(spec)
    if np.dtype(spec.element).kind == "f":
        return {"max": -math.inf, "min": math.inf}.get(operation, 0.0)
    limits = np.iinfo(spec.element)
    return {"max": int(limits.min), "min": int(limits.max), "all": 1}.get(operation, 0)


def loses_nan(spec: Any) -> bool:
    """Whether NaN is looked for: by extrema of floats that are not taken with care."""
    floats = np.dtype(spec.element).kind == "f"
    return floats and operation_of(spec) in ("max", "min", "absmax") and "careful" not in spec.variant


pool = kernel("pool.pool", POOL)
