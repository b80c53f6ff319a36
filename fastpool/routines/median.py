"""Median pooling."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel
from fastpool.routines.taps import TAPPED

#: Most taps that are sorted; width of the spec.
LARGEST_SORTED = 64

MEDIAN = Layout("median", TAPPED)


def comparators(n: int) -> list[tuple[int, int]]:
    """Pairs of Batcher's odd-even merge sort of n elements."""
    found, merged = [], 1
    while merged < n:
        apart = merged
        while apart:
            for j in range(apart % merged, n - apart, 2 * apart):
                for i in range(j, min(j + apart, n - apart)):
                    if i // (2 * merged) == (i + apart) // (2 * merged):
                        found.append((i, i + apart))
            apart //= 2
        merged *= 2
    return found


sorted_median = kernel("median.sorted_median", MEDIAN)
counted_median = kernel("median.counted_median", MEDIAN)
median_in_place = kernel("median.median_in_place", MEDIAN)
