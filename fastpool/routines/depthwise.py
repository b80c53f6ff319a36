"""Depthwise convolution with lanes on columns."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

#: Largest filter: its weights still come from the level-1 cache, one load for each multiplication. At stride 1 there
#: are larger ones of three rows and more where the registers hold the sums under way: with AVX-512 9x9 over 28x28 takes
#: 0.70 of the time that it takes with lanes on channels, 11x11 over 60x60 0.62, 11x1 0.43, 3x8 0.9; at stride 2 both
#: take as long, and with 16 registers the others take less.
LARGEST_FILTER, LARGEST_AT_STRIDE_1, FEWEST_ROWS = 7, 11 if TARGET.registers > 16 else 7, 3

#: Filters that are taken dilated, too, at stride 1: each is code of its own.
DILATED_FILTERS = ((1, 2), (1, 3), (1, 5), (1, 7), (3, 3), (5, 5))

#: Whether half a vector takes half the time, as on Zen 4.
HALVES_PAY = TARGET.multiplies == 1

#: Whether two vectors of columns at once take less time, for filters that the registers do not hold: each weight is
#: loaded for two multiply-adds, where a unit for each of two a cycle would ask for more loads than there are.
TWO_PAY = TARGET.multiplies == 2 and TARGET.vector_bytes == 64

#: Offsets that stand for a row of the padding: one that is left out, and one of zeros, which makes NaN of an infinite
#: weight. Rows of an input with negative strides have negative offsets.
NO_ROW = -(2**62)
ZERO_ROW = NO_ROW + 1


def has_filter(rows: int, columns: int, stride: int) -> bool:
    """Whether there is code for such a filter."""
    is_larger = stride == 1 and rows >= FEWEST_ROWS and max(rows, columns) <= LARGEST_AT_STRIDE_1
    return stride in (1, 2) and (max(rows, columns) <= LARGEST_FILTER or is_larger)


def under_way(rows: int, stride: int) -> int:
    """Output rows that have begun when one is complete."""
    return max(0, -((stride - rows) // stride))


def in_registers(rows: int, columns: int, stride: int) -> bool:
    """Whether filters, columns, sums under way and masks fit the registers (5x5 and 7x7 filters do not).

    Keeping as many of the others as there is room for gained nothing at 7x7, and took 4 % more at 5x5.
    """
    return rows * columns + columns + under_way(rows, stride) + 1 <= TARGET.registers


def is_one_strip(variant: str) -> bool:
    """Whether all columns of a row are one strip."""
    return variant.startswith(("narrow ", "single "))


def vectors_at_once(variant: str) -> int:
    """Vectors of columns that a strip has."""
    return 2 if variant.startswith("double ") else 1


def skips_padding(variant: str, rows: int, columns: int) -> bool:
    """Whether rows of the padding are passed by, instead of adding a row of zeros.

    A branch for each row pays where a row has many taps or planes are small: 7x7 over 14x14 takes 790 cycles a plane
    instead of 930, 3x3 over 7x7 73 instead of 81. Elsewhere it does not: 3x3 over 56x56 takes 5 % longer with it.
    """
    stride = int(variant.split()[-1])
    return not in_registers(rows, columns, stride) or (is_one_strip(variant) and stride == 1)


DEPTHWISE = Layout(
    "depthwise",
    {
        "channels": "integer",  # of out
        "multiplier": "integer",  # out channels of one input channel
        "x_batch": "integer",
        "x_channel": "integer",
        "width": "integer",
        "plane": "integer",  # elements of a plane of x that are fetched ahead
        "plane_ahead": "integer",  # elements to it; 0: none is
        "row_offsets": "integers",  # of each padded row within a plane, or as above, phase by phase of the dilation
        "phase_rows": "integer",  # of which each has so many
        "row_dilation": "integer",
        "column_dilation": "integer",
        "zeros": "elements",  # a row of them
        "pad_left": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "out_batch": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "rows_per_task": "integer",
        "block_rows": "integer",
        "row_tasks": "integer",
        "low": "number",
        "high": "number",
    },
)

depthwise = kernel("depthwise.depthwise", DEPTHWISE)
