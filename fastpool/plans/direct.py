"""Plan of a direct convolution: which role and tile, what is packed and where, how the work is cut.

Ranks are lifted to three spatial axes (a 2-D convolution has depth 1), so that one plan serves all.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.machine.processor import THREADS
from fastpool.plans.ahead import input_bytes, is_far
from fastpool.plans.edges import NO_EDGES, Edges, edges_of, omitted_share, row_taps
from fastpool.plans.packing import (
    ALONE_BYTES,
    PACK_CYCLES,
    PACK_ONE_CYCLES,
    Packed,
    Source,
    channel_cycles,
    channel_elements,
    is_packed_by_table,
    is_packed_in_registers,
    is_packed_in_vectors,
    lay_out,
    pack_block,
    packed_elements,
    packed_source,
    packing_shape,
    pays_alone,
    table_code,
)
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.private import Part, cut, slack, thread_elements
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.plans.tasks import Grid, Shares, pieces
from fastpool.plans.tile_choice import (
    ALIAS,
    APART_CYCLES,
    choose_tile,
    compared,
    direct_cycles,
    is_column,
    lie_apart,
    pixels_apart,
    tile_count,
)
from fastpool.routines.direct import (
    CHANNELS_AHEAD,
    CHANNELS_AT_ONCE,
    IN_PLACE,
    OWN,
    PRIVATE,
    SHARED,
    direct,
    edged,
    has_edged,
    has_far,
    is_edged,
)
from fastpool.routines.pack import pack_channel, pack_input
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import (
    CACHED_BYTES,
    DIRECT_TASKS,
    IS_ZEN_5,
    LEVEL_2_BYTES,
    SHARED_BYTES,
    SHARED_LIMIT,
    TileShape,
)

#: Blocks of channels that can be shared out among some threads.
_ENOUGH_BLOCKS = 4
#: Share of the multiplications that packing may take where channels fall into the same sets of a level-1 cache, which
#: speaks for it: pixels that lie apart are loaded one by one, several times a line. 1x1 at
#: stride 2 on 64x64 takes 2 to 8 % less packed from 128 to 256 and from 256 to 512 channels, on 32x32 from 64 to 64 40
#: to 80 % more. At stride 1 a tile loads a line once, and takes no longer: 256 to 48 channels of 32x32 119 us, and not
#: 161; 64 to 64 55, and not 99.
_ALIAS_SHARE = 1 / 6
#: Bytes of the weights of a block that are passed row by row in parts, and of such a part: half of a level-2 cache is
#: left to the pixels. 3x3 stride 2 over 512 channels of 14x14 (590 kB) takes 1.12 ms in two parts and 1.19 in one; 7x7
#: over 512 of 7x7 (3.2 MB) 6 % less in four. A part is a step more, and reads and writes the results once more. Of a
#: quarter of the cache each, up to twelve, that one takes 0.93 of the time, 3x3x3 at stride 2 from 256 to 512 channels
#: of 4x14x14 0.95, 3x3 over 1024 of 7x7 0.92; ten others take 0.99; of a tenth, 1.0.
_BLOCK_BYTES, _PART_BYTES, _MOST_PARTS = LEVEL_2_BYTES // 2, LEVEL_2_BYTES // 4, 12
#: Bytes of pixels of a task, if each of its blocks of channels reads them: 1x1 from 590 to 96 channels of 112x112 takes
#: 16.9 ms without a limit, 8.8 by half of a level-2 cache and 8.4 by a quarter.
TASK_BYTES = LEVEL_2_BYTES // 4
#: Bytes a cycle of weights that pass by each task from beyond the level-2 cache, beside its multiplications: 3x3 from
#: 2048 to 256 channels of 33x33 dilated by 18 takes 420 M cycles row by row, where its multiplications take 207 M.
_PASSING_RATE = 8
#: Tiles of a task up to which it fetches the next one's weights, as they take long to come beside so little work: with
#: cold weights 1x1 over 512 channels of 7x7 takes 0.59 ms for 2048 channels, and 0.72 without. Longer tasks gained
#: nothing. On Zen 5, those of 14 tiles gain nothing either, and take 2 to 7 % longer if weights are in its cache.
MOST_FETCHED = 8 if IS_ZEN_5 else 16
#: Tiles to the one whose pixels are fetched; see `_pixels_ahead`.
_TILES_AHEAD = 2
#: For a packed input, no tile needs to begin early.
ANYWHERE = 2**62
#: Elements that a task packs, of some channels if each has few: 16 times 256 channels of 2x3 take 22 us so, 55 singly.
_TOGETHER = 1024
#: Cycles by which an element takes longer that is packed for all threads, as every second comes from another core's
#: cache: all in all 1.0 to 3.6 each, and 4 more in hours in which that cache is far.
_PASS_ON_CYCLES = 1.3
#: Cycles by which a tile of pixels that lie apart, or at an edge, takes longer to begin than one of packed pixels: seen
#: where sums are short, at stems of 3 channels. With 130 they were packed more often: of 21 such layers that took 8 %
#: longer in the geometric mean.
_BEGIN_CYCLES = 60.0
#: Of a single tap, cycles that a step takes longer in place where packing is weighed against it; and how much longer
#: tasks pack for themselves what all of them cannot. Measured on Zen 5: 114 layers of 1x1 at stride 2 take 1.5 % longer
#: than by the better of both, and 5 % without these two, 175 to 780 channels of 60x60 32 %.
_WEIGHED_CYCLES, _TASKS_PACK = (APART_CYCLES, 4.0) if IS_ZEN_5 else (0.0, 1.0)


def _in_place(problem: Convolution) -> Source | None:
    d, h, w = problem.axes
    if problem.x_strides[4] != 1 or problem.widened_from:
        return None
    if problem.is_padded and not (problem.omits_padding and d.kernel == 1 and not (d.pad_begin or d.pad_end)):
        return None
    _, channel, depth, row, _ = problem.x_strides
    offsets = tuple(
        i * d.dilation * depth + (j * h.dilation - h.pad_begin) * row + k * w.dilation - w.pad_begin
        for i in range(d.kernel)
        for j in range(h.kernel)
        for k in range(w.kernel)
    )
    return Source(IN_PLACE, offsets, channel, depth * d.stride, row * h.stride, None)


def _join_rows(problem: Convolution, source: Source) -> Grid:
    """Treat rows as one long row where the source has nothing between them, so that tiles need not end at each row."""
    d, h, w = problem.outputs
    if source.packing == IN_PLACE and problem.is_padded:
        return Grid(d, h, w)
    pitch = pixels_apart(problem, source.packing)
    if source.row == w * pitch or h == 1:
        w, h = h * w, 1
        if source.depth == w * pitch or d == 1:
            w, d = d * w, 1
    return Grid(d, h, w)


def tile_cycles(problem: Convolution, plan: Plan) -> dict[TileShape, float]:
    """What `choose_tile` has compared: estimated cycles of each tile, on the rows and columns of a plan."""
    fields, grid = plan.steps[-1].fields, grid_of(plan)
    is_apart = fields["row_of_tiles"].shape[0] not in ("channels", "pixels")
    return compared(problem, grid, is_apart, fields["source"] == IN_PLACE)


def shared_bytes(problem: Convolution) -> tuple[int, int]:
    """Bytes of all of x packed, and up to how many all threads share one copy: more where there is much weight."""
    size = problem.element.size
    channel = channel_elements(_packed(problem), size)
    weight_bytes = problem.out_channels * problem.channels // problem.groups * problem.taps * size
    return problem.images * problem.channels * channel * size, max(SHARED_BYTES, min(weight_bytes, SHARED_LIMIT))


def _edges(problem: Convolution, grid: Grid, tile: TileShape) -> Edges | None:
    """Edges of the tiles of a row of x in place; None where there are no such tiles."""
    width, pixels = problem.axes[2], tile.pixels(lanes_for(problem.element))
    element = problem.element
    if (
        is_column(problem)
        or tile.role != "channels"
        or element.is_integer
        or not has_edged(width.kernel, width.stride, element.size)
    ):
        return None
    return edges_of(width, range(0, grid.columns, pixels), grid.columns - pixels, pixels)


#: Channels that are enough to be shared out, however many threads there are: sums are split by this, and shall not
#: depend on them.
_ENOUGH = 8
#: Cycles that a plane takes longer where two threads write to parts of it, as they wait for one another's cache lines;
#: and bytes of input that a thread reads meanwhile.
_PARTED_CYCLES, _READ_BYTES = 400, 16


def _is_packed_for_all(problem: Convolution) -> bool:
    """Whether one packed copy serves all threads, if x is packed."""
    needed, allowed = shared_bytes(problem)
    # With a task for each channel the threads would share the packing of few channels unevenly; of so little that each
    # thread packs it for itself, they share out the channels of the result.
    enough = problem.images * problem.channels >= _ENOUGH or problem.axes[1].out < _ENOUGH
    return needed <= allowed and (enough or _is_little(problem))


def _is_little(problem: Convolution) -> bool:
    """Whether packing all of x takes less than parting the planes of the result among threads.

    3x3 from 3 to 224 channels of 15x15 takes 25 us instead of 43, to 64 of 32x32 27 instead of 34.
    """
    # How many threads there are is not asked, as sums might be cut into other parts.
    packing = _rough_pack_cycles(problem)
    multiplying = problem.multiply_adds / lanes_for(problem.element)
    return packing <= min(problem.out_channels * _PARTED_CYCLES, multiplying / 8)


def _packed(problem: Convolution) -> Packed:
    """How all of x is packed."""
    return lay_out(problem, SHARED, problem.outputs)


def _rough_pack_cycles(problem: Convolution) -> float:
    """Cycles to pack all of x, by which it is decided who does so: that short rows take longer is left out.

    Where they count, what is packed for all threads takes longer, too: 2x2 at stride 2 from 48 to 256 channels of four
    times 12x13 takes 158 us packed by each thread, 284 shared.
    """
    each = PACK_CYCLES if is_packed_in_vectors(problem) else PACK_ONE_CYCLES
    return each * shared_bytes(problem)[0] / problem.element.size


def _packs_alone(problem: Convolution, multiplying: float) -> bool:
    """Whether each thread packs all of x for itself.

    Not on Zen 5, of a single tap: there what another core has packed is near, and few elements are packed of what is
    read at a stride. 1x1 at stride 2 takes 8 to 17 % longer so where packing takes a tenth of the sums or more.

    Planes in registers take less than lines of another core's cache: 3x3x3 at stride 2 from 32 to 64 channels of 8x7x7
    takes 26 us so and 28 shared, or 34 and 60 when that cache is far; 5x5x5 from 32 to 16 of 5x7x7 36, row by row 43.
    """
    if IS_ZEN_5 and problem.taps == 1:
        return False
    if is_packed_in_registers(problem, _packed(problem)):
        return shared_bytes(problem)[0] <= ALONE_BYTES
    return pays_alone(_rough_pack_cycles(problem), multiplying, shared_bytes(problem)[0])


def _pack_cycles(problem: Convolution, for_all: bool) -> float:
    """Cycles to pack all of x, also for all threads."""
    packed = _packed(problem)
    passing_on = _PASS_ON_CYCLES * packed_elements(packed) if for_all else 0.0
    return problem.images * problem.channels * (channel_cycles(problem, packed) + passing_on)


def packing_cycles(problem: Convolution, plan: Plan) -> float:
    """Cycles of one core to pack what a plan reads, which are not among its cycles: the same for any number of threads.

    Whether all share a copy, or each has its own, depends on how many they are; how sums are done must not.
    """
    fields = plan.steps[-1].fields
    source, includes = fields["source"], fields["image_pixels"] > 0 or fields["panel"] > 0
    return 0.0 if source == IN_PLACE or includes else _pack_cycles(problem, for_all=source != PRIVATE)


def _suits_in_place(problem: Convolution, grid: Grid, tile: TileShape) -> bool:
    """Whether x is better read in place than packed.

    Rows that nothing parts are, if the best tile is no wider. Others are unless packing lets tiles of pixels save more
    than it costs: then 3x3 at stride 2 over 128 to 512 channels of 14x14 takes 10 to 15 % less in all on one thread,
    and 30 % on two, which need not hand one another what they have packed; 3x3 stems 8 %, 4x4 at stride 4 on 3 channels
    20 %; without padding, 2x2 to 16x16 at strides of 2 to 16 4 to 46 %; 1x7 over 128 to 192 channels of 17x17 13 to 19
    %; 5x5 at stride 2 over 16 to 384 channels of 7x7 to 112x112 9 to 40 %.
    """
    is_whole = not problem.is_padded and (problem.axes[2].stride == 1 or is_column(problem))
    if is_whole and tile == choose_tile(problem, grid, lie_apart(problem)):
        return True
    edges = _edges(problem, grid, tile) if lie_apart(problem) else NO_EDGES
    if edges is None:
        if problem.is_padded:  # tiles of pixels that lie apart sum all taps
            return False
        edges = NO_EDGES
    lanes = lanes_for(problem.element)

    def cycles(tile: TileShape, grid: Grid, edges: Edges, apart: int) -> float:
        columns = ceil_div(grid.columns, tile.pixels(lanes)) * tile.pixels(lanes)
        return direct_cycles(problem, tile, grid, apart) * (1 - omitted_share(problem, grid.rows, edges, columns))

    of_tile = _BEGIN_CYCLES + (_WEIGHED_CYCLES * problem.channels // problem.groups if problem.taps == 1 else 0.0)
    begins = of_tile * tile_count(problem, tile, grid) if lie_apart(problem) else 0.0
    is_shared = _is_packed_for_all(problem)
    outputs = problem.outputs
    packed = _join_rows(problem, packed_source(problem, SHARED, outputs)) if is_shared else Grid(*outputs)
    packing = _pack_cycles(problem, is_shared) * (_TASKS_PACK if problem.taps == 1 and not is_shared else 1.0)
    in_place = cycles(tile, grid, edges, pixels_apart(problem, IN_PLACE)) + begins
    return in_place <= cycles(choose_tile(problem, packed), packed, NO_EDGES, 1) + packing


def is_aliased(problem: Convolution, grid: Grid, tile: TileShape) -> bool:
    """Whether channels fall into the same cache sets, and packing costs less than that.

    One tap sees a line of each channel. Several see it again while it still is there: 3x3 filters on planes of 4 to 64
    KiB take 3 to 6 % less in place than packed, at strides of 2 to 4 7 to 40 %.
    """
    many = problem.taps == 1 and lie_apart(problem) and problem.channels // problem.groups >= 16
    if not many or problem.x_strides[1] * problem.element.size % ALIAS:
        return False
    return _pack_cycles(problem, for_all=True) <= _ALIAS_SHARE * direct_cycles(problem, tile, grid)


def _common_source(problem: Convolution) -> Source | None:
    """Where all tasks read; None where each packs for itself."""
    source = _in_place(problem)
    if source is not None:
        grid = _join_rows(problem, source)
        tile = choose_tile(problem, grid, lie_apart(problem), True)
        is_wide = grid.columns >= tile.pixels(lanes_for(problem.element))
        if is_wide and not is_aliased(problem, grid, tile) and _suits_in_place(problem, grid, tile):
            return source
    if not _is_packed_for_all(problem):
        return None
    return packed_source(problem, SHARED, problem.outputs)


def _parts_of_weights(problem: Convolution, tile: TileShape) -> tuple[Part, ...]:
    """Parts of the channels, so that the weights of a block stay in the cache from one row to the next."""
    group_channels = problem.channels // problem.groups
    block_bytes = group_channels * problem.taps * tile.block(lanes_for(problem.element)) * problem.element.size
    is_small = block_bytes <= _BLOCK_BYTES
    return parts_of_channels(problem, 1 if is_small else min(_MOST_PARTS, ceil_div(block_bytes, _PART_BYTES)))


def parts_of_channels(problem: Convolution, count: int) -> tuple[Part, ...]:
    """So many parts of the channels."""
    group_channels = problem.channels // problem.groups
    each = ceil_div(group_channels, count)
    return tuple(
        Part(replace(problem, channels=min(each, group_channels - first) * problem.groups), first, first * problem.taps)
        for first in range(0, group_channels, each)
    )


def _parts_planes(problem: Convolution, blocks: int) -> bool:
    """Whether threads would share planes of one image, and better share out the channels: each then reads all input.

    1x1 at stride 2 from 112 to 128 channels of 14x14 takes 11 us instead of 13.5, from 50 to 112 of 15x15 16 instead
    of 20, from 32 to 192 of 28x28 53 instead of 59.
    """
    input_bytes = problem.channels * prod(a.size for a in problem.axes) * problem.element.size
    return (
        problem.images * problem.groups == 1
        and blocks >= _ENOUGH_BLOCKS
        and input_bytes <= LEVEL_2_BYTES // 2
        and input_bytes <= problem.out_channels * _PARTED_CYCLES * _READ_BYTES
    )


def plan_direct(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the direct convolution, and the tile whose packed weights it reads."""
    element, lanes = problem.element, lanes_for(problem.element)
    common = _common_source(problem)
    grid = _join_rows(problem, common) if common else Grid(*problem.outputs)
    in_place = common is not None and common.packing == IN_PLACE
    tile = choose_tile(problem, grid, in_place and lie_apart(problem), in_place)
    pixels = tile.pixels(lanes)
    group_channels, group_out = problem.channels // problem.groups, problem.out_channels // problem.groups
    blocks = ceil_div(group_out, tile.block(lanes))
    tiles = ceil_div(grid.columns, pixels)
    outer = problem.images * problem.groups

    # Weights stay, pixels pass: where there is more weight than input, each task takes one block and all threads
    # together stream the weights once. Else the input stays, and each task runs all blocks over it.
    weight_bytes = group_out * group_channels * problem.taps * element.size
    input_bytes = group_channels * prod(a.size for a in problem.axes) * element.size
    # Pixels of many images come from memory each time they pass; and weights that a level-2 cache holds better pass by
    # all images: nine such layers of 4 and 16 take 0.983 of the time.
    all_pass = problem.images * input_bytes > CACHED_BYTES // 2 or weight_bytes <= LEVEL_2_BYTES // 4
    passing_bytes = input_bytes * (problem.images if all_pass else 1)
    blocks_outermost = common is not None and (weight_bytes > passing_bytes or _parts_planes(problem, blocks))
    # Taking a task costs as much as some of the small ones (64->256 on 13x13: 32 blocks of 1 us).
    blocks_per_task = max(1, blocks // (2 * DIRECT_TASKS)) if blocks_outermost else blocks
    others = outer * grid.depths * ceil_div(blocks, blocks_per_task)
    parts: tuple[Part, ...] = (Part(problem, 0, 0),)
    if common is None:
        task = cut(problem, tile)
        row_tasks, tile_tasks, parts = ceil_div(grid.rows, task.rows), ceil_div(tiles, task.tiles), task.parts
    else:
        least = ceil_div(input_bytes, TASK_BYTES) if blocks > 1 and not blocks_outermost else 1
        if grid.rows > 1:
            parts = _parts_of_weights(problem, tile) if blocks_outermost else parts
            row_tasks, tile_tasks = pieces(others, grid.rows, least), 1
        else:
            row_tasks, tile_tasks = 1, pieces(others, tiles, least)
    tiles_per_task = ceil_div(grid.rows, row_tasks) * ceil_div(tiles, tile_tasks)
    fetches = blocks_outermost and tile.role == "channels" and tiles_per_task <= MOST_FETCHED

    packing = common.packing if common else PRIVATE
    if packing == SHARED and _packs_alone(problem, direct_cycles(problem, tile, grid)):
        packing = OWN
    variant, edges = _variant(problem, grid, tile, packing)
    tables: list[Any] = [table(edges.entries)]
    pack: dict[str, Any] = {"pack_channel": 0}
    if packing in (SHARED, OWN) and is_packed_by_table(problem, _packed(problem)):
        pack = {"pack_channel": table_code(problem, _packed(problem))}
    elif packing != IN_PLACE:
        pack = {"pack_channel": Code(pack_channel, element, packing_shape(problem))}
    shares = Shares(grid, row_tasks, tile_tasks, blocks_per_task, blocks_outermost)
    work: dict[str, Any] = (
        shares.fields(problem, tile, variant)
        | pack
        | {
            "apart": pixels_apart(problem, packing),
            "edges": address(tables[0]),
            "edges_begin": edges.begin,
            "edges_end": edges.end,
            "dilation": problem.axes[2].dilation,
            "source": packing,
            "last_start": grid.columns - pixels if packing == IN_PLACE else ANYWHERE,
            "x_ahead": _pixels_ahead(problem, grid, common, pixels, variant) if common and in_place else 0,
        }
    )
    sources = {}  # parts of the same taps read alike
    for part in parts:
        if part.problem.axes not in sources:
            source = common or packed_source(part.problem, PRIVATE, (1, task.rows, task.columns))
            sources[part.problem.axes] = source, _reading(part.problem, source, grid.rows, tile, tables)
    channel = max(source.channel for source, _ in sources.values())
    copy = apart(problem.images * problem.channels * channel + slack(problem, tile), element.size)
    shared = copy if packing == SHARED else 0
    private = thread_elements(parts[0].problem, tile, channel) if packing == PRIVATE else 0
    private = thread_scratch(copy if packing == OWN else private, element)
    steps = []
    for part, ends in zip(parts, ends_of(problem, len(parts), tables), strict=True):
        source, read = sources[part.problem.axes]
        summed = {
            "channels": part.problem.channels // problem.groups,
            "first_channel": part.channel,
            "first_weight": part.weight * tile.block(lanes),
            "source_batch": problem.x_strides[0] if packing == IN_PLACE else problem.channels * source.channel,
            "scratch_thread": private,
            **(ahead(part.problem, tile, part.problem.taps, tiles_per_task) if fetches else NOTHING_AHEAD),
        }
        steps.append(Step(Code(direct, element), work | read | summed | ends))
    if packing in (SHARED, OWN):
        steps.insert(0, packing_step(problem, source, pack | {"packing": read["packing"]}, private))
    # Beside the multiplications, the input comes from memory at about 3 bytes a cycle, and is packed at as many.
    omitted = omitted_share(problem, grid.rows, edges, tiles * pixels)
    cycles = direct_cycles(problem, tile, grid) * (1 - omitted) + input_bytes * outer / 3
    if common is None and weight_bytes > LEVEL_2_BYTES:
        cycles += outer * grid.depths * row_tasks * tile_tasks * weight_bytes / _PASSING_RATE
    return Plan(tuple(steps), shared, private, element, cycles, tuple(tables), omitted), tile


def grid_of(plan: Plan) -> Grid:
    """Rows and columns that a plan tiles."""
    fields = plan.steps[-1].fields
    return Grid(fields["out_depths"], fields["out_rows"], fields["out_columns"])


def is_in_place(plan: Plan) -> bool:
    """Whether a plan of a direct convolution reads x where it is."""
    return bool(plan.steps[-1].fields["source"] == IN_PLACE)


def packs_little(problem: Convolution, plan: Plan) -> bool:
    """Whether a plan packs all of x as a whole, and each thread could do so for itself."""
    return plan.steps[-1].fields["source"] in (SHARED, OWN) and shared_bytes(problem)[0] <= ALONE_BYTES


def packing_step(problem: Convolution, source: Source, pack: dict[str, Any], own: int) -> Step:
    """Step that packs all of x: for all threads, or in each one's `own` elements of scratch."""
    # To take a task takes as long as to pack some tens of elements.
    together = min(ceil_div(_TOGETHER, source.channel), max(1, problem.images * problem.channels // DIRECT_TASKS))
    fields = pack | {
        "tasks": ceil_div(problem.images * problem.channels, together),
        "images": problem.images,
        "channels": problem.channels,
        "together": together,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "packed_channel": source.channel,
        "own": own,
    }
    return Step(Code(pack_input, problem.element), fields, by_each=own > 0)


def _pixels_ahead(problem: Convolution, grid: Grid, source: Source, pixels: int, variant: str) -> int:
    """Elements to the pixels that are fetched from the last-level cache or memory beside those of a single tap.

    For edged tiles these are those of another channel, where registers are few, or of the next row.

    They lie in as many places as there are channels, so that the hardware foresees none of them. Those of the tile
    after the next, or where rows are short lines of their own, of the next row: 1x1 from 1024 to 256 channels of 16
    times 14x14 takes 18 % less time so, 256 to 64 of 16 times 56x56 25 %, 128 to 128 of 112x112 16 %. One tile ahead
    12 % more than two, four 1 %. Where all that is in level-2 caches already, it takes up to 4 % more.
    """
    if is_edged(variant):
        return CHANNELS_AHEAD * source.channel or source.row
    if problem.taps > 1 or input_bytes(problem) <= THREADS * LEVEL_2_BYTES:
        return 0
    return source.row if grid.rows > 1 else _TILES_AHEAD * pixels * pixels_apart(problem, source.packing)


#: Of tasks long enough for weights to come beside them.
NOTHING_AHEAD = {"lines_ahead": 0, "tile_ahead": 0, "tiles_fetching": 0}


def ahead(problem: Convolution, tile: TileShape, taps: int, tiles: int) -> dict[str, int]:
    """How the next block's weights are fetched meanwhile, whole lines beside each step of the `tiles` of a task.

    The kernel sees `taps` of a channel. What is fetched ends with that block: lines of further ones would take the
    place of pixels, 1x1 over 512 to 2048 channels of 7x7 takes 2 to 3 % longer then.
    """
    per_line, steps = 64 // problem.element.size, problem.channels // problem.groups * problem.taps // taps
    at_once = CHANNELS_AT_ONCE if taps == 1 and steps >= CHANNELS_AT_ONCE else 1
    block = tile.block(lanes_for(problem.element))
    lines = ceil_div(at_once * taps * block, per_line * tiles)
    of_tile = lines * per_line * (steps // at_once)
    return {"lines_ahead": lines, "tile_ahead": of_tile, "tiles_fetching": ceil_div(steps * taps * block, of_tile)}


def _variant(problem: Convolution, grid: Grid, tile: TileShape, packing: int) -> tuple[str, Edges]:
    """Variant of the tile, and its edges."""
    width = problem.axes[2]
    if packing != IN_PLACE or not lie_apart(problem):
        return tile.role, NO_EDGES
    edges = _edges(problem, grid, tile)
    far = has_far(width.kernel) and grid.rows > 1 and is_far(problem)
    return ("strided", NO_EDGES) if edges is None else (edged(width.kernel, width.stride, far), edges)


def _reading(problem: Convolution, source: Source, rows: int, tile: TileShape, tables: list[Any]) -> dict[str, int]:
    """Fields that say how a source is packed, where its taps are, and which of them meet x."""
    offsets, used = table(source.offsets), table(row_taps(problem, rows))
    steps = table(np.full(problem.taps, tile.block(lanes_for(problem.element))))
    tables.extend((offsets, used, steps))
    return {
        "packing": pack_block(problem, source, tables),
        "taps": problem.taps,
        "run": problem.axes[2].kernel,
        "run_used": problem.axes[2].kernel,
        "offsets": address(offsets),
        "steps": address(steps),
        "row_taps": address(used),
        "source_channel": source.channel,
        "source_depth": source.depth,
        "source_row": source.row,
    }


def ends_of(problem: Convolution, parts: int, tables: list[Any]) -> list[dict[str, Any]]:
    """Fields that differ where sums are done in parts: the first has bias and residual, the last the activation."""
    if parts == 1:
        return [{}]
    no_bias = np.zeros(problem.out_channels, problem.element.dtype)
    tables.append(no_bias)
    adds = {"adds": 1, "no_bias": address(no_bias), "has_residual": 1, "residual_batch": problem.out_batch}
    unbounded = dict(zip(("low", "high"), problem.open_bounds, strict=True)) | {"has_bounds": 0}
    return [unbounded, *[adds | unbounded] * (parts - 2), adds]
