"""Depthwise convolution with lanes on channels."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Variants of the spec: strides of the columns that have code of their own, and all others.
VARIANTS = {1: "stride 1", 2: "stride 2", 0: "any stride"}


def variant_at(stride: int) -> str:
    """Variant for a stride of the columns."""
    return VARIANTS.get(stride, VARIANTS[0])


def stride_of(variant: str) -> int:
    """Stride of the columns that the variant names, 0 if it does not."""
    return next(stride for stride, name in VARIANTS.items() if name == variant)


CHANNELWISE = Layout(
    "channelwise",
    {
        "channels": "integer",
        "channel_blocks": "integer",
        "x_batch": "integer",
        "x_channel": "integer",
        "plane": "integer",  # elements of the planes of x of a vector of channels, that are fetched ahead
        "plane_ahead": "integer",  # elements to them; 0: none are
        "rows": "integer",  # of x, of all depths
        "width": "integer",
        "places": "integers",  # of the pixels of a channel, in the padded one; further on, beyond the last one
        "in_order": "integers",  # places of vectors one after the other
        "padded_columns": "integer",
        "pad_left": "integer",
        "row_starts": "integers",  # first padded row that each output row sees
        "rows_before": "integers",  # rows of x before each padded row, and before the end of all
        "stride_column": "integer",
        "reach_rows": "integer",  # padded rows from the first tap to the last
        "taps": "integer",
        "offsets": "integers",  # of the taps, in elements
        "row_taps": "integers",  # first and end tap of each output row: the others meet nothing but padding
        "out_rows": "integer",  # of all depths, too
        "out_columns": "integer",
        "out_batch": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "has_bounds": "integer",
        "row_tasks": "integer",
        "rows_per_task": "integer",
        "scratch_thread": "integer",
        "filters_offset": "integer",  # within a thread's scratch
        "stage_offset": "integer",
        "low": "number",
        "high": "number",
    },
)

channelwise = kernel("channelwise.channelwise", CHANNELWISE)
