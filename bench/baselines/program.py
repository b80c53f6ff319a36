"""What the baselines are made of: straight lines of NumPy calls over blocks that fit the cache, and strided taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

CACHE_BYTES = 1 << 19  # working set of one block: half of a common 1 MB second-level cache

Call = Callable[[], Any]  # a partial: function, arguments and the array it writes to
Span = tuple[int, int]


@dataclass(frozen=True)
class Baseline:
    """A straight line of NumPy calls that leaves its result in `out`."""

    calls: tuple[Call, ...]
    out: np.ndarray

    def __call__(self) -> np.ndarray:
        """Run the calls and return the result, which the next run overwrites."""
        for call in self.calls:
            call()
        return self.out


Builder = Callable[[], Baseline]


def taps(size: int, kernel: int, stride: int, pad: int, dilation: int, span: Span) -> list[tuple[slice, slice, int]]:
    """Return for each tap of one axis the windows of `span` that see it inside the input, and the input that they see.

    A tap is one kernel element over all windows at once: a strided slice of the input, for which nothing is padded.
    The windows are counted from the start of the span. Taps that every window of the span sees come first, so that the
    first of them can initialise the result; taps over the padding alone are left out.
    """
    first, last = span
    found = []
    for tap in range(kernel):
        offset = tap * dilation - pad
        begin = max(first, -(offset // stride))  # the first window o with o * stride + offset >= 0
        end = min(last, (size - 1 - offset) // stride + 1)
        if begin < end:
            start = begin * stride + offset
            seen = slice(start, start + (end - begin - 1) * stride + 1, stride)
            found.append((slice(begin - first, end - first), seen, tap))
    full = slice(0, last - first)
    return sorted(found, key=lambda item: item[0] != full)


def spans(total: int, size: int) -> Iterator[Span]:
    """Cut range(total) into pieces of at most `size`."""
    size = max(1, size)
    for begin in range(0, total, size):
        yield begin, min(begin + size, total)
