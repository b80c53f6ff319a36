"""Pooling with large windows."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Output rows that are done together, where each has one more input row.
ROWS = 2

#: Vectors that are taken down the columns together, of few and of more.
BESIDE = (2, 4)

LARGE_POOL = Layout(
    "large_pool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "channels": "integer",
        "x_row": "integer",
        "height": "integer",
        "outside": "source",  # a row of neutral elements
        "out_rows": "integer",
        "out_columns": "integer",
        "kernel_rows": "integer",
        "row_stride": "integer",
        "last_row": "integer",  # input row that the windows of output row 0 end with
        "groups": "integer",
        "group_first": "integers",  # output row that each group begins with, and the end
        "group_tasks": "integer",
        "suffix_start": "integers",  # for each group: the last input row that suffixes see, which they begin with
        "suffix_rows": "integers",  # for each output row: input rows that its suffix has beyond that of the row below
        "prefix_rows": "integers",  # and its prefix beyond that of the row above
        "strips": "integer",
        "strip_first": "integers",  # output column that each strip begins with, and the end
        "strip_input": "integers",  # for each strip: the input column that its buffer begins with
        "strip_loads": "integers",  # vectors that the input has in it
        "strip_shift": "integers",  # columns from there to the first window
        "load_masks": "integers",  # lanes within the input, for each vector of each strip
        "mask_words": "integer",
        "vectors": "integer",  # of a row of the buffer
        "pitch": "integer",
        "lead": "integer",  # neutral elements before each line
        "lines": "integer",  # of each row, of windows of one width each
        "line_pitch": "integer",
        "row_lines": "integer",  # elements of all lines of a row
        "doublings": "integer",  # of windows that are not made in registers
        "terms": "integer",
        "term_offsets": "integers",  # from a window's first column to what it combines, in one of the lines
        "prefix_row": "integer",  # where in the scratch of a thread they are
        "line_start": "integer",
        "marks": "integer",
        "found": "integer",
        "scratch_thread": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "finish": "integer",
        "row_divisor": "elements",
        "column_divisor": "elements",
        "power": "number",
    },
)


def variant_of(operation: str, fused: bool, stride: int) -> str:
    """Variant: operation, input rows from one output row to the next, stride of the columns.

    The spec's vectors are those that are taken down the columns together, its width is the widest window that is made
    in registers.
    """
    return f"{operation} step {1 if fused else 'any'} stride {stride}"


def overlaps(operation: str) -> bool:
    """Whether an operation may see an element twice."""
    return operation.split()[0] in ("max", "min", "absmax", "all")


large_pool = kernel("largepool.large_pool", LARGE_POOL)
