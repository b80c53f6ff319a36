"""What of the sums meets the padding: taps of each output row, pixels of each tap of a tile.

Rows of taps that lie in a padding of zeros are left out, which is exact as long as the weights are finite. Where the
input is read in place there is nothing to read before its first and behind its last column: pixels are left out, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastpool.geometry import Axis
from fastpool.plans.problem import Convolution


def row_taps(problem: Convolution, rows: int) -> list[int]:
    """First and end tap of each output row, one behind the other; all of them where rows are joined or not known."""
    depth, height, width = problem.axes
    everything = [0, problem.taps]
    if not problem.omits_padding or depth.kernel > 1 or rows != height.out:
        return everything * rows
    found = []
    for row in range(rows):
        taps = height.taps(row)
        found += [taps.start * width.kernel, taps.stop * width.kernel]
    return found


@dataclass(frozen=True)
class Edges:
    """Which taps of a row of the filter leave out a pixel, in each tile of a row of outputs.

    First and last tiles of a row have entries of their own, a word for each tap: 1 where a pixel is left out. All tiles
    between them are complete and share one of zeros.
    """

    words: tuple[int, ...]
    begin: int  #: first tile that is complete
    end: int  #: tile behind the last of those


#: Where no pixel is outside of x, whatever the tiles: an entry as long as a common row of taps.
NO_EDGES = Edges((0, 0, 0), 0, 2**62)


def edges_of(axis: Axis, starts: range, last_start: int, pixels: int) -> Edges | None:
    """Find the edges of tiles that begin at `starts`, or at `last_start` if that comes before.

    None where more is outside of x than the first pixel of the first tap and the last one of the last tap.
    """
    tiles = len(starts)
    if not (axis.pad_begin or axis.pad_end):
        return NO_EDGES

    def words(tile: int) -> list[int] | None:
        start = min(starts[tile], last_start)
        found = []
        for tap in range(axis.kernel):
            at = start * axis.stride - axis.pad_begin + tap * axis.dilation
            missing = [t for t in range(pixels) if not 0 <= at + t * axis.stride < axis.size]
            allowed = {0: [0], axis.kernel - 1: [pixels - 1]}.get(tap)
            if missing and missing != allowed:
                return None
            found.append(len(missing))
        return found

    first: list[int] = []
    last: list[int] = []
    begin, end = 0, tiles
    while begin < tiles and (found := words(begin)) != [0] * axis.kernel:
        if found is None:
            return None
        first += found
        begin += 1
    while end > begin and (found := words(end - 1)) != [0] * axis.kernel:
        if found is None:
            return None
        last = found + last
        end -= 1
    return Edges((*first, *[0] * axis.kernel, *last), begin, end)


def omitted_share(problem: Convolution, rows: int, edges: Edges, pixels: int) -> float:
    """Share of the multiplications of rows of `pixels` pixels that are left out."""
    taps = row_taps(problem, rows)
    used_rows = (sum(taps[1::2]) - sum(taps[::2])) / (rows * problem.taps)
    return 1 - used_rows * (1 - sum(edges.words) / (problem.axes[2].kernel * pixels))
