"""What of the sums meets the padding: taps of each output row, pixels of each tap of a tile.

Rows of taps that lie in a padding of zeros are left out, which is exact as long as the weights are finite. Where the
input is read in place there is nothing to read before its first and behind its last column: pixels are left out, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from fastpool.geometry import Axis
from fastpool.plans.problem import Convolution
from fastpool.routines.direct import left_out, left_out_at


def row_taps(problem: Convolution, rows: int) -> np.ndarray:
    """First and end tap of each output row; all of them where rows are joined or not known."""
    depth, height, width = problem.axes
    if not problem.omits_padding or depth.kernel > 1 or rows != height.out:
        return np.tile((0, problem.taps), (rows, 1))
    return taps_inside(height) * width.kernel


def taps_inside(axis: Axis) -> np.ndarray:
    """First and end tap of each window that find elements of x."""
    start = np.arange(axis.out) * axis.stride - axis.pad_begin
    first = np.clip(-(start // axis.dilation), 0, axis.kernel)
    end = np.clip((axis.size - 1 - start) // axis.dilation + 1, first, axis.kernel)
    return np.stack((first, end), 1)


@dataclass(frozen=True)
class Edges:
    """Which tiles of a row of outputs leave out pixels: for each how far out its first ones are, and its last ones.

    What is left out then, `left_out` says. First and last tiles of a row have entries of their own; all tiles between
    them are complete and share one.
    """

    entries: tuple[tuple[int, int], ...]
    begin: int  #: first tile that is complete
    end: int  #: tile behind the last of those


_COMPLETE = (0, 0)
#: Where no pixel is outside of x, whatever the tiles.
NO_EDGES = Edges((_COMPLETE,), 0, 2**62)


def _edge_of(axis: Axis, start: int, pixels: int) -> tuple[int, int] | None:
    """Entry of the tile of outputs from `start` on; None where other pixels are outside of x than may be left out."""
    first, end = start * axis.stride - axis.pad_begin, start + pixels
    reach = axis.dilation * (axis.kernel - 1)
    is_complete = first >= 0 and (end - 1) * axis.stride - axis.pad_begin + reach < axis.size
    if is_complete:
        return _COMPLETE
    missing = [
        {t for t in range(pixels) if not 0 <= first + t * axis.stride + tap * axis.dilation < axis.size}
        for tap in range(axis.kernel)
    ]
    levels = range(max((level for *counts, level in left_out(axis.kernel, axis.stride) if any(counts)), default=0) + 1)
    for edge in product(levels, levels):
        counts = left_out_at(axis.kernel, axis.stride, edge)
        if missing == [{*range(min(a, pixels)), *range(max(0, pixels - b), pixels)} for a, b in counts]:
            return edge
    return None


def edges_of(axis: Axis, starts: range, last_start: int, pixels: int) -> Edges | None:
    """Find the edges of tiles that begin at `starts`, or at `last_start` if that comes before.

    None where others are outside of x than an edged tile may leave out.
    """
    if not (axis.pad_begin or axis.pad_end):
        return NO_EDGES
    tiles = len(starts)

    def run(order: range) -> list[tuple[int, int] | None]:
        """Entries up to the first complete tile, or None."""
        found: list[tuple[int, int] | None] = []
        for tile in order:
            edge = _edge_of(axis, min(starts[tile], last_start), pixels)
            if edge == _COMPLETE:
                break
            found.append(edge)
            if edge is None:
                break
        return found

    first = run(range(tiles))
    last = run(range(tiles - 1, len(first) - 1, -1))
    entries = [*first, _COMPLETE, *reversed(last)]
    if None in entries:
        return None
    return Edges(tuple(entry for entry in entries if entry), len(first), tiles - len(last))


def omitted_share(problem: Convolution, rows: int, edges: Edges, pixels: int) -> float:
    """Share of the multiplications of rows of `pixels` pixels that are left out."""
    taps = row_taps(problem, rows)
    used_rows = float((taps[:, 1] - taps[:, 0]).mean()) / problem.taps
    width = problem.axes[2]
    missed = sum(
        min(sum(of_tap), pixels)  # tiles may be narrower than what an edge leaves out
        for entry in edges.entries
        for of_tap in left_out_at(width.kernel, width.stride, entry)
    )
    return 1 - used_rows * (1 - missed / (width.kernel * pixels))
