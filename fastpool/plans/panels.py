"""Plan of a direct convolution whose pixels are packed in panels: tiles of all taps and channels, one behind the other.

With 32 registers a tile is as wide as a cache line and reads x in place. With 16 it is 6 pixels wide: of 256 channels
of 56x56, each in pages of its own, it then waits for a line in each, and one thread of a Zen 3 runs at 18 % of its
peak; from panels at 75 to 80 %, packing apart.

Each depth of a volume is tiled as an image is. Where few pixels meet much weight in many taps it counts most: 3x3x3 at
stride 2 from 256 to 512 channels of 4x14x14 takes 0.42 of the time so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from typing import Any

from fastpool.arrays import address
from fastpool.machine.processor import TARGET
from fastpool.plans.direct import (
    ANYWHERE,
    MOST_FETCHED,
    NOTHING_AHEAD,
    ahead,
    ends_of,
)
from fastpool.plans.packing import ALONE_BYTES, Source, pack_block, packed_source, packing_shape, pays_alone
from fastpool.plans.plan import Block, Code, Plan, Step, table, thread_scratch
from fastpool.plans.private import Part
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.plans.tasks import Grid, Shares, pieces
from fastpool.plans.tile_choice import choose_tile, direct_cycles
from fastpool.routines.direct import OWN, PRIVATE, SHARED, direct
from fastpool.routines.pack import pack_channel
from fastpool.routines.panels import PANEL_CHANNELS, PANELS, TOGETHER, pack_panels, panel_input
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import DIRECT_TASKS, LEVEL_2_BYTES, PRIVATE_BYTES, SHARED_LIMIT, TILE_SHAPES, TileShape

#: Tiles that a task packs at least, whatever they take: each task reads all weights.
_LEAST_TILES = 8
#: Tasks of two threads, by which packing is compared with other ways.
_USUAL_TASKS = 8
#: Steps of the reduction, in all of which a tile is summed at once: weights of a block of 16 channels take 128 kB then,
#: a quarter of the level-2 cache.
_MOST_STEPS = 2048
#: Steps, and output channels, from which on panels of several taps pay for being packed.
_LEAST_STEPS, _LEAST_OUT = 16, 8
#: Bytes of a plane, and these times output channels, up to which 1x1 filters read planes of so many pixels in place:
#: packing takes a share of the time that falls with the output channels, reading in place one that grows with the
#: planes. 480 to 16 channels of 14x14 take 28 us instead of 43, 1024 to 64 167 instead of 226, 576 to 96 161 instead of
#: 169, 64 to 384 68 instead of 71. 192 to 64 of 28x28 take 13 % less in one hour and 10 % more in the next, 256 to 64
#: of 56x56 20 % more; and 576 to 160 of 7x7 7 % more, whose rows end amid a tile too often.
_IN_PLACE_PLANE, _IN_PLACE_BYTES, _IN_PLACE_PIXELS = 1024, LEVEL_2_BYTES // 5, 100
#: Channels, with their planes up to so many bytes, and bytes of a pixel's channels whatever the planes, up to which 1x1
#: filters read x in place: few rows are foreseen by the hardware. 16 to 64 channels of 28x28 take 15 us instead of 18,
#: 17x17 8.7 instead of 10.9, 54x54 95 % of the time, but 80x80 and 112x112 4 % more; 12 to 24 of 112x112 88 %, 10 to 10
#: of 200x200 76 us instead of 99, 8 to 32 of 56x56 17 instead of 21. In float64 8 to 32 of 56x56 take 83 %, and 16 to
#: 64 7 % more.
_FEW_CHANNELS, _FEW_BYTES, _FEW_BYTES_OF_A_PIXEL = 16, LEVEL_2_BYTES // 2, 48
#: Bytes after which addresses share a set of the caches of eight ways, of level 1 and of level 2, rows of output that
#: are written meanwhile, and rows that may share one: 8 channels of 160x160 take 1.8 times as long in place, 14 of
#: 64x64 1.4, 3 of 224x224 0.83 to 1.06, as x and output happen to lie, and 2 of 256x256 1.1.
_SETS = ((4096, 4, 6), (LEVEL_2_BYTES // 8, 0, 1))
#: Cycles to begin to pack a channel, to pack a row of it and each vector, to join a row to a line and each vector, to
#: copy what a tap sees to a panel and each vector, on one thread of a Zen 3: 1180 to 8000 in all for a channel of 3x3
#: at stride 2 on maps of 14x14 to 56x56, 13,400 for 5x5 on 28x28; 650 to 900 of 1x1 at stride 2 on 28x28, 250 on 14x14.
#: One by one an element takes 5.
_BEGIN_CYCLES, _ROW_CYCLES, _LINE_CYCLES, _COPY_CYCLES, _ONE_CYCLES = 100.0, (15.0, 7.5), (2.5, 2.5), (1.5, 2.5), 5.0
#: Cycles for each element that another thread has packed, and for all to have packed before any begins: 1x1 at stride 2
#: from 512 to 128 channels of 28x28 takes 375 us packed for all, and 518 by each task for itself.
_OTHERS_CYCLES, _ALL_CYCLES = 1.3, 4000.0
#: Cycles that a plane takes longer where two threads write to parts of it, as they wait for one another's cache lines:
#: some hundred more than this where their caches are far from one another; and blocks of channels that can be shared
#: out among some threads.
_PARTED_CYCLES, _ENOUGH_BLOCKS = 240, 4


def _stays_in_place(problem: Convolution) -> bool:
    """Whether a 1x1 filter better reads x in place."""
    _, height, width = problem.axes
    follow = height.size == 1 or problem.x_strides[3] == width.size
    joined = follow and problem.x_strides[4] == width.stride == height.stride == 1
    if not joined or problem.is_padded or problem.taps > 1 or problem.pixels < _IN_PLACE_PIXELS:
        return False
    plane = problem.pixels * problem.element.size
    is_small = plane <= _IN_PLACE_PLANE and plane * problem.out_channels // problem.groups <= _IN_PLACE_BYTES
    return is_small or _has_few_rows(problem, plane)


def _has_few_rows(problem: Convolution, plane: int) -> bool:
    """Whether so few channels are read that the hardware foresees them, without one driving out another."""
    channels, size = problem.channels // problem.groups, problem.element.size
    few = channels <= _FEW_CHANNELS and channels * plane <= _FEW_BYTES
    step = problem.x_strides[1] * size
    return (few or channels * size <= _FEW_BYTES_OF_A_PIXEL) and all(
        (channels + written) * gcd(step, span) <= rows * span for span, written, rows in _SETS
    )


def suits_panels(problem: Convolution) -> bool:
    """Whether pixels are packed in panels."""
    channels, out = problem.channels // problem.groups, problem.out_channels // problem.groups
    steps = channels * problem.taps
    widest = max(tile.pixels(lanes_for(problem.element)) for tile in TILE_SHAPES[TARGET.registers])
    least_bytes = _LEAST_TILES * widest * min(steps, max(_MOST_STEPS, problem.taps)) * problem.element.size
    pays = problem.taps == 1 or (steps >= _LEAST_STEPS and out >= _LEAST_OUT)
    return (
        TARGET.registers == 16
        and pays
        and not _stays_in_place(problem)
        and least_bytes <= SHARED_LIMIT // 2
        and not problem.widened_from
        and not problem.element.is_integer
    )


def _parts(problem: Convolution) -> list[Part]:
    """Parts of the channels, of no more than so many steps each if they have several."""
    channels = problem.channels // problem.groups
    each = ceil_div(channels, ceil_div(channels, max(1, _MOST_STEPS // problem.taps)))
    return [
        Part(replace(problem, channels=min(each, channels - first) * problem.groups), first, first * problem.taps)
        for first in range(0, channels, each)
    ]


def _keeps_weights(problem: Convolution) -> bool:
    """Whether a task better keeps weights, as there are more of them than pixels, of all images.

    3x3 at stride 2 over 192 channels of 16x16 takes 22 % less for 8 images if each task keeps pixels, 1x1 from 960 to
    320 channels of 7x7 11 % for 16.
    """
    return problem.groups == 1 and problem.out_channels > problem.images * problem.pixels


def _parts_planes(problem: Convolution, blocks: int, packing: float, byte_count: int) -> bool:
    """Whether threads would share planes of one image, and better share out the channels: each then packs all of x.

    1x1 from 32 to 128 channels of 27x27 takes 69 us instead of 100, from 20 to 60 of 40x40 51 instead of 80, from 24 to
    144 of 56x56 0.77 of the time; from 64 to 64 of 28x28, for which packing takes 300 cycles a plane, 1.1.
    """
    is_one = problem.images * problem.groups * problem.axes[0].out == 1
    is_little = byte_count <= ALONE_BYTES and packing <= problem.out_channels * _PARTED_CYCLES
    return is_one and blocks >= _ENOUGH_BLOCKS and is_little


@dataclass(frozen=True)
class Panels:
    """Panels of a part of the sums."""

    problem: Convolution  #: of that part
    tile: TileShape
    source: int  #: SHARED, or PRIVATE to a task
    tiles: int  #: that are packed at a time

    @property
    def steps(self) -> int:
        """Steps of the reduction."""
        return self.problem.channels // self.problem.groups * self.problem.taps

    @property
    def width(self) -> int:
        """Pixels of a panel."""
        return self.tile.pixels(lanes_for(self.problem.element))

    @property
    def elements(self) -> int:
        """Elements of a panel."""
        return self.steps * self.width

    @property
    def is_row(self) -> bool:
        """Whether a channel of x is one row of pixels already."""
        _, height, width = self.problem.axes
        _, _, _, row, column = self.problem.x_strides
        follows = height.out == 1 or row * height.stride == width.out
        return self.problem.taps == 1 and not self.problem.is_padded and column * width.stride == 1 and follows

    @cached_property
    def packed(self) -> Source:
        """How a channel is packed before: the rows of some tiles, which begin anywhere."""
        columns = self.problem.axes[2].out
        rows = min(self.problem.axes[1].out, ceil_div(self.tiles * self.width - 1, columns) + 1)
        return packed_source(self.problem, PRIVATE, (1, rows, columns))

    @cached_property
    def line(self) -> int:
        """Elements of a line of pixels, which is written and read a tile and a vector beyond the last."""
        columns = self.problem.axes[2].out
        return apart(
            _rows(self.packed) * columns + self.width + 2 * lanes_for(self.problem.element), self.problem.element.size
        )

    @property
    def has_lines(self) -> bool:
        """Whether the rows of a packed channel are lines already, as each phase has no more than one column sees."""
        return self.packed.row == self.problem.axes[2].out

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """Of several taps, where in a packed channel lines begin: one for each column of taps and phase of rows."""
        packed = self.packed
        assert packed.packed is not None
        depths, rows, columns = packed.packed
        if self.has_lines:
            return ()
        plane = depths.length * packed.depth
        return tuple(
            ((pd * len(rows.phases) + ph) * len(columns.phases) + pw) * plane + ed * packed.depth + ew
            for pd, ed in depths.taps
            for ph in range(len(rows.phases))
            for pw, ew in columns.taps
        )

    @property
    def offsets(self) -> tuple[int, ...]:
        """Of several taps, the first pixel that each sees in the lines."""
        assert self.packed.packed is not None
        if self.has_lines:
            return self.packed.offsets
        depths, rows, columns = self.packed.packed
        return tuple(
            ((d * len(rows.phases) + ph) * len(columns.taps) + w) * self.line + eh * self.problem.axes[2].out
            for d in range(len(depths.taps))
            for ph, eh in rows.taps
            for w in range(len(columns.taps))
        )

    @cached_property
    def beside(self) -> int:
        """Scratch of a thread beside its panels: lines, and a packed channel, which is read a tile beyond its end."""
        if self.is_row:
            return 0
        if self.problem.taps == 1:
            return TOGETHER * self.line
        channel = self.packed.channel + self.width + 2 * lanes_for(self.problem.element)
        return apart(len(self.lines) * self.line + channel, self.problem.element.size)

    @cached_property
    def cycles(self) -> float:
        """Estimated cycles to pack a channel."""
        problem, lanes = self.problem, lanes_for(self.problem.element)

        def of(each: tuple[float, float], elements: int) -> float:
            return each[0] + each[1] * ceil_div(elements, lanes)

        copying = self.tiles * problem.taps * of(_COPY_CYCLES, self.width)
        if self.is_row:
            return copying
        packed = self.packed.packed
        assert packed is not None
        depths, rows, columns = packed
        all_rows = len(depths.phases) * depths.length * len(rows.phases) * rows.length
        phases = len(columns.phases)
        if packing_shape(problem)[0]:
            packing = all_rows * (_ROW_CYCLES[0] + phases * _ROW_CYCLES[1] * ceil_div(columns.length, lanes))
        else:
            packing = all_rows * phases * columns.length * _ONE_CYCLES
        joining = 0.0
        if problem.taps > 1:
            joining = len(self.lines) * rows.length * of(_LINE_CYCLES, problem.axes[2].out)
        return _BEGIN_CYCLES + packing + joining + copying

    def block(self, tables: list[Any]) -> Block:
        """Block that says how they are packed; `tables` keep alive what it points to."""
        problem, packed = self.problem, self.packed
        begins, offsets = table(self.lines), table(self.offsets)
        tables.extend((begins, offsets))
        fields = {
            "pack_channel": 0 if self.is_row else Code(pack_channel, problem.element, packing_shape(problem)),
            "packing": pack_block(problem, packed, tables),
            "is_packed": int(not self.is_row),
            "x_channel": problem.x_strides[1],
            "x_depth": problem.axes[0].stride * problem.x_strides[2],
            "taps": problem.taps,
            "line_begins": address(begins),
            "line_count": len(begins),
            "rows": _rows(packed),
            "offsets": address(offsets),
            "source_row": packed.row,
            "row_pixels": problem.axes[2].out,
            "pixels": _plane(problem),
            "panel": self.elements,
            "line": self.line,
        }
        return Block(PANELS, fields)


def _packing(problem: Convolution, of_parts: list[Panels], tasks: int) -> float:
    """Estimated cycles of one core to pack x, a share of each depth of each image in so many tasks."""
    planes = problem.images * problem.axes[0].out
    return planes * tasks * sum(panels.cycles * panels.problem.channels for panels in of_parts)


def _plane(problem: Convolution) -> int:
    """Pixels of a depth, which are tiled as one row."""
    return problem.axes[1].out * problem.axes[2].out


def _rows(source: Source) -> int:
    """Rows of each phase of a packed channel."""
    assert source.packed is not None
    return source.packed[1].length


def plan_panels(problem: Convolution) -> tuple[Plan, TileShape] | None:
    """Plan of a direct convolution that `suits_panels`, and the tile whose packed weights it reads.

    None where a channel and its panels would take too much scratch.
    """
    element, lanes = problem.element, lanes_for(problem.element)
    depths = problem.axes[0].out
    grid = Grid(depths, 1, _plane(problem))
    tile = choose_tile(problem, grid)
    width = tile.pixels(lanes)
    tiles = ceil_div(grid.columns, width)
    group_out = problem.out_channels // problem.groups
    blocks = ceil_div(group_out, tile.block(lanes))
    parts = _parts(problem)
    tile_bytes = max(part.problem.channels // problem.groups * problem.taps for part in parts) * width * element.size

    def panels_of(source: int, tiles: int) -> list[Panels]:
        # Parts differ in the last one at most: where filters are large, each is a channel, and what they share is long.
        kinds = {part.problem: Panels(part.problem, tile, source, tiles) for part in parts}
        return [kinds[part.problem] for part in parts]

    # Weights stay, pixels pass: where there is more weight than pixels, these are packed for all, and each task takes
    # a block of weights. Else the pixels of a task stay, which it packs for itself, unless the rows that it shares with
    # the next one take too long to be packed twice.
    most = min(tiles, max(_LEAST_TILES, PRIVATE_BYTES // tile_bytes))
    planes = problem.images * depths
    tile_tasks = pieces(planes * problem.groups, tiles, ceil_div(tiles, most))
    packing = _packing(problem, panels_of(PRIVATE, ceil_div(tiles, tile_tasks)), tile_tasks)
    for_all = _packing(problem, panels_of(SHARED, tiles), 1)
    elements_of_others = problem.images * problem.channels * problem.taps * problem.pixels
    handed_over = for_all + _OTHERS_CYCLES * elements_of_others + _ALL_CYCLES
    may_share = problem.groups == 1 and planes * tiles * tile_bytes <= SHARED_LIMIT // 2
    parts_planes = _parts_planes(problem, blocks, for_all, planes * tiles * tile_bytes)
    keeps_weights = parts_planes or (may_share and _keeps_weights(problem))
    is_shared = keeps_weights or (may_share and handed_over < packing)
    # Plans are compared by what is the same for any number of threads, or sums would be done in other parts for some.
    usual_tasks = max(ceil_div(tiles, most), min(tiles, ceil_div(_USUAL_TASKS, planes * problem.groups)))
    usual = _packing(problem, panels_of(PRIVATE, ceil_div(tiles, usual_tasks)), usual_tasks)
    expected = for_all if keeps_weights else min(usual, handed_over) if may_share else usual
    blocks_per_task = max(1, blocks // (2 * DIRECT_TASKS)) if keeps_weights else blocks
    if is_shared:
        most, packing = tiles, for_all if keeps_weights else handed_over
        tile_tasks = pieces(planes * ceil_div(blocks, blocks_per_task), tiles)
    per_task = ceil_div(tiles, tile_tasks)
    fetches = keeps_weights and tile.role == "channels" and per_task <= MOST_FETCHED

    # Of the largest task that any number of threads leads to: it decides about the parts in which sums are done.
    largest = panels_of(PRIVATE, most)
    kept_planes = planes if is_shared else 1
    elements, beside = max(panels.elements for panels in largest), max(panels.beside for panels in largest)
    if (kept_planes * most * elements + beside) * element.size > SHARED_LIMIT:
        return None
    tables: list[Any] = []
    multiplying = direct_cycles(problem, tile, grid)
    source = SHARED if is_shared else PRIVATE
    of_parts = panels_of(source, tiles if is_shared else per_task)
    # Of several taps panels are larger than x: to pack them twice costs 3x3 at stride 2 over 256 to 512 channels 2 %.
    may_pack_alone = keeps_weights and problem.taps == 1
    pays = may_pack_alone and pays_alone(packing, multiplying, planes * tiles * tile_bytes)
    if parts_planes or pays:
        source = OWN
    kept = apart(kept_planes * (tiles if is_shared else per_task) * elements, element.size)
    beside = max(panels.beside for panels in of_parts)
    shape = tile.role, tile.vectors, tile.width
    nowhere, used = table((0,)), table((0, 1))
    tables.extend((nowhere, used))
    work = Shares(grid, 1, tile_tasks, blocks_per_task, keeps_weights).fields(problem, tile, tile.role) | {
        "pack_panels": Code(pack_panels, element, shape),
        "lines": kept,
        "run": 1,
        "run_used": 1,
        "dilation": 1,
        "taps": 1,
        "offsets": address(nowhere),
        "steps": 0,
        "row_taps": address(used),
        "source": source,
        "source_channel": width,
        "source_row": 0,
        "last_start": ANYWHERE,
        "scratch_thread": thread_scratch(beside if source == SHARED else kept + beside, element),
    }
    steps = []
    packed_by = {panels: panels.block(tables) for panels in dict.fromkeys(of_parts)}
    for part, panels, ends in zip(parts, of_parts, ends_of(problem, len(parts), tables), strict=True):
        own = {
            "panels": packed_by[panels],
            "panel": panels.elements,
            "panel_channels": part.problem.channels // problem.groups,
            "channels": panels.steps,
            "first_channel": 0 if is_shared else part.channel,
            "first_weight": part.weight * tile.block(lanes),
            "source_batch": depths * tiles * panels.elements,
            "source_depth": tiles * panels.elements,
            **(ahead(part.problem, tile, 1, per_task) if fetches else NOTHING_AHEAD),
        }
        if is_shared:
            steps.append(_packing_step(part, panels, work, own))
        steps.append(Step(Code(direct, element), work | own | ends))
    shared = kept if source == SHARED else 0
    return Plan(tuple(steps), shared, work["scratch_thread"], element, expected + multiplying, tuple(tables)), tile


def _packing_step(part: Part, panels: Panels, work: dict[str, Any], own: dict[str, Any]) -> Step:
    """Step that packs all panels of a part."""
    problem = panels.problem
    channel_tasks = ceil_div(problem.channels, PANEL_CHANNELS)
    fields = {name: (work | own)[name] for name in ("pack_panels", "panels", "x_batch", "x_channel", "lines")}
    fields |= {
        "tasks": problem.images * problem.axes[0].out * channel_tasks,
        "channels": problem.channels,
        "channel_tasks": channel_tasks,
        "depths": problem.axes[0].out,
        "first_channel": part.channel,
        "tiles": panels.tiles,
        "step": problem.taps * panels.width,
        "packed_batch": own["source_batch"],
        "packed_depth": own["source_depth"],
        "own": work["scratch_thread"] if work["source"] == OWN else 0,
        "scratch_thread": work["scratch_thread"],
    }
    return Step(Code(panel_input, problem.element), fields, by_each=work["source"] == OWN)
