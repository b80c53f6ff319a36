"""How a direct convolution is cut where each task packs for itself: rows, columns, and parts of the sums.

Rows are as few as `PRIVATE_BYTES` of packed input ask for. If that is one row, and it takes more than
`PRIVATE_ROW_BYTES`, its columns are cut, too, as long as a task keeps more of them than lie between the first and the
last tap: those are packed by its neighbour as well. Where all channels of that exceed `SCRATCH_LIMIT`, the sums are
done in parts, one step of the plan after the other, each of which adds to the result what a part of the channels gives,
or of the taps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from fastpool.arrays import ALIGNMENT
from fastpool.plans.packing import channel_elements, lay_out
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.routines.direct import PRIVATE
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import PRIVATE_BYTES, PRIVATE_ROW_BYTES, SCRATCH_LIMIT, TileShape

#: Tasks of all images and groups below which rows and columns are cut further, down to so many rows or tiles.
_TASKS, _LEAST = 8, 4


@dataclass(frozen=True)
class Part:
    """What one step adds to the sums: all taps of some channels of each group, or some taps of one channel."""

    problem: Convolution  #: of these channels and taps alone
    channel: int  #: the first one
    weight: int  #: weights of an output channel before those of this part


@dataclass(frozen=True)
class Cut:
    """Rows and columns of a task, and the parts of the sums."""

    rows: int
    tiles: int
    columns: int
    parts: tuple[Part, ...]


def slack(problem: Convolution, tile: TileShape) -> int:
    """Elements beyond the last row that a tile may read, though not use."""
    lanes = lanes_for(problem.element)
    return tile.pixels(lanes) + lanes


def thread_elements(problem: Convolution, tile: TileShape, channel: int) -> int:
    """Scratch of a thread, with so many elements from one channel to the next."""
    return apart(problem.channels // problem.groups * channel + slack(problem, tile), problem.element.size)


def _elements(problem: Convolution, rows: int, columns: int) -> int:
    """Elements of a channel."""
    return channel_elements(lay_out(problem, PRIVATE, (1, rows, columns)), problem.element.size)


def _room(problem: Convolution, tile: TileShape) -> int:
    """Elements that the channels of a task may have together: `apart` may add almost two cache lines."""
    return (SCRATCH_LIMIT - 3 * ALIGNMENT) // problem.element.size - slack(problem, tile)


def cut(problem: Convolution, tile: TileShape) -> Cut:
    """Cut the work so that each thread has little scratch."""
    depths, height, width = problem.outputs
    channels, pixels = problem.channels // problem.groups, tile.pixels(lanes_for(problem.element))
    size = problem.element.size
    rows, planes = height, problem.images * problem.groups * depths
    while rows > 1 and _elements(problem, rows, width) * channels * size > PRIVATE_BYTES:
        rows = ceil_div(rows, 2)
    while rows > _LEAST and planes * ceil_div(height, rows) < _TASKS:
        rows = ceil_div(rows, 2)

    all_tiles = tiles = ceil_div(width, pixels)
    room, column = _room(problem, tile), problem.axes[2]
    last_tap = (column.kernel - 1) * column.dilation // column.stride

    def elements(tiles: int) -> int:
        return _elements(problem, rows, min(tiles * pixels, width))

    def is_long(tiles: int) -> bool:
        few = tiles > _LEAST and planes * height * ceil_div(all_tiles, tiles) < _TASKS
        return few or elements(tiles) * channels * size > PRIVATE_ROW_BYTES

    if rows == 1:
        while tiles > 1 and ceil_div(tiles, 2) * pixels > last_tap and is_long(tiles):
            tiles = ceil_div(tiles, 2)
        while tiles > 1 and elements(tiles) > room:
            tiles = ceil_div(tiles, 2)
    tiles = ceil_div(all_tiles, ceil_div(all_tiles, tiles))  # shares that differ by one tile at most
    columns = min(tiles * pixels, width)
    return Cut(rows, tiles, columns, tuple(_parts(problem, room, rows, columns)))


def _parts(problem: Convolution, room: int, rows: int, columns: int) -> Iterator[Part]:
    """As few parts as have room: of all channels, or of one channel's taps, in the order of its weights."""
    groups, channels = problem.groups, problem.channels // problem.groups
    most = room // _elements(problem, rows, columns)
    if most:
        each = ceil_div(channels, ceil_div(channels, most))
        for first in range(0, channels, each):
            count = min(each, channels - first)
            part = problem if count == channels else replace(problem, channels=count * groups)
            yield Part(part, first, first * problem.taps)
        return
    runs = list(_runs(replace(problem, channels=groups), room, rows, columns))
    for channel in range(channels):
        for run in runs:
            yield Part(run.problem, channel, channel * problem.taps + run.weight)


def _runs(problem: Convolution, room: int, rows: int, columns: int) -> Iterator[Part]:
    """Runs of taps that have room: some depths of the filter, else some rows of one, else some taps of a row."""
    kernel = [axis.kernel for axis in problem.axes]
    step = kernel.copy()
    for i in range(3):
        while step[i] > 1 and _elements(_of_taps(problem, (0, 0, 0), step), rows, columns) > room:
            step[i] = ceil_div(step[i], 2)
    for first in product(*(range(0, count, each) for count, each in zip(kernel, step, strict=True))):
        weight = (first[0] * kernel[1] + first[1]) * kernel[2] + first[2]
        yield Part(_of_taps(problem, first, step), 0, weight)


def _of_taps(problem: Convolution, first: Sequence[int], most: Sequence[int]) -> Convolution:
    """Only these taps of each axis: further taps begin further to the right, as with less padding."""
    d, h, w = (
        replace(axis, kernel=min(count, axis.kernel - at), pad_begin=axis.pad_begin - at * axis.dilation)
        for axis, at, count in zip(problem.axes, first, most, strict=True)
    )
    return replace(problem, axes=(d, h, w))
