"""Plan of a direct convolution: which role and tile, what is packed and where, how the work is cut.

Ranks are lifted to three spatial axes (a 2-D convolution has depth 1), so that one plan serves all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from fastpool.arrays import address
from fastpool.geometry import Axis, padding_source
from fastpool.kernels import lanes as lanes_for
from fastpool.kernels.direct import IN_PLACE, PRIVATE, SHARED, direct, row_of_tiles
from fastpool.kernels.pack import PACKING, pack_channel, pack_input
from fastpool.kernels.tiles import (
    DIRECT_TASKS,
    PRIVATE_BYTES,
    SHARED_BYTES,
    SHARED_LIMIT,
    TARGET,
    TILE_SHAPES,
    TileShape,
    even_shares,
)
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution, apart, ceil_div

#: Bytes after which addresses fall into the same set of a level-1 cache.
_ALIAS = 4096
#: For a packed input, no tile needs to begin early.
_ANYWHERE = 2**62


@dataclass(frozen=True)
class PackedAxis:
    """Polyphase layout of one axis, for a run of outputs."""

    phases: tuple[int, ...]  #: phases that a tap needs
    length: int  #: elements of each phase
    taps: tuple[tuple[int, int], ...]  #: (index of the phase, element) of each tap


def pack_axis(axis: Axis, outputs: int) -> PackedAxis:
    """Tap k of output o reads element o + (k*dilation)//stride of phase (k*dilation) % stride."""
    reach = [k * axis.dilation for k in range(axis.kernel)]
    phases = tuple(sorted({r % axis.stride for r in reach}))
    taps = tuple((phases.index(r % axis.stride), r // axis.stride) for r in reach)
    return PackedAxis(phases, outputs + reach[-1] // axis.stride, taps)


@dataclass(frozen=True)
class _Source:
    """Where the reduction reads: offsets of the taps and pitches, in elements."""

    packing: int
    offsets: tuple[int, ...]
    channel: int
    depth: int
    row: int
    packed: tuple[PackedAxis, PackedAxis, PackedAxis] | None


def _in_place(problem: Convolution) -> _Source | None:
    if any(a.stride != 1 or a.pad_begin or a.pad_end for a in problem.axes) or problem.x_strides[4] != 1:
        return None
    if problem.widened_from:
        return None
    _, channel, depth, row, _ = problem.x_strides
    d, h, w = problem.axes
    offsets = tuple(
        i * d.dilation * depth + j * h.dilation * row + k * w.dilation
        for i in range(d.kernel)
        for j in range(h.kernel)
        for k in range(w.kernel)
    )
    return _Source(IN_PLACE, offsets, channel, depth, row, None)


def _packed(problem: Convolution, packing: int, outputs: tuple[int, int, int]) -> _Source:
    axes = tuple(pack_axis(a, n) for a, n in zip(problem.axes, outputs, strict=True))
    d, h, w = axes
    row = w.length
    depth = h.length * row
    plane = d.length * depth
    offsets = tuple(
        ((pd * len(h.phases) + ph) * len(w.phases) + pw) * plane + ed * depth + eh * row + ew
        for pd, ed in d.taps
        for ph, eh in h.taps
        for pw, ew in w.taps
    )
    channel = apart(plane * prod(len(a.phases) for a in axes), problem.element.size)
    return _Source(packing, offsets, channel, depth, row, (d, h, w))


@dataclass(frozen=True)
class _Grid:
    """Output seen by the kernel: rows of columns, several of which may have been joined into one."""

    depths: int
    rows: int
    columns: int


def _join_rows(problem: Convolution, source: _Source) -> _Grid:
    """Treat rows as one long row where the source has nothing between them, so that tiles need not end at each row."""
    d, h, w = (a.out for a in problem.axes)
    if source.row == w or h == 1:
        w, h = h * w, 1
        if (source.depth == w or d == 1) and source.packing != PRIVATE:
            w, d = d * w, 1
    return _Grid(d, h, w)


def direct_cycles(problem: Convolution, tile: TileShape, grid: _Grid) -> float:
    """Estimated cycles of one core for the multiplications and stores."""
    lanes = lanes_for(problem.element)
    tiles = problem.images * grid.depths * grid.rows * -(-grid.columns // tile.pixels(lanes))
    blocks = problem.groups * -(-problem.out_channels // problem.groups // tile.block(lanes))
    reduction = problem.channels // problem.groups * problem.taps
    return tiles * blocks * (reduction * tile.step_cycles() + tile.store_cycles(lanes))


def choose_tile(problem: Convolution, grid: _Grid) -> TileShape:
    """Tile with the fewest cycles, waste at ragged edges included."""
    return min(TILE_SHAPES[TARGET.registers], key=lambda tile: direct_cycles(problem, tile, grid))


def tile_cycles(problem: Convolution, plan: Plan) -> dict[TileShape, float]:
    """What `choose_tile` has compared: estimated cycles of each tile, on the rows and columns of a plan."""
    fields = plan.steps[-1].fields
    grid = _Grid(fields["out_depths"], fields["out_rows"], fields["out_columns"])
    return {tile: direct_cycles(problem, tile, grid) for tile in TILE_SHAPES[TARGET.registers]}


def shared_bytes(problem: Convolution) -> tuple[int, int]:
    """Bytes of all of x packed, and up to how many all threads share one copy: more where there is much weight."""
    size = problem.element.size
    channel = _packed(problem, SHARED, (problem.axes[0].out, problem.axes[1].out, problem.axes[2].out)).channel
    weight_bytes = problem.out_channels * problem.channels // problem.groups * problem.taps * size
    return problem.images * problem.channels * channel * size, max(SHARED_BYTES, min(weight_bytes, SHARED_LIMIT))


def _choose_source(problem: Convolution) -> tuple[_Source, int]:
    """Where to read from, and the rows of one task where it packs for itself."""
    size = problem.element.size
    outs = (problem.axes[0].out, problem.axes[1].out, problem.axes[2].out)
    source = _in_place(problem)
    if source is not None:
        grid = _join_rows(problem, source)
        tile = choose_tile(problem, grid)
        aliased = source.channel * size % _ALIAS == 0 and problem.channels // problem.groups >= 16
        if grid.columns >= tile.pixels(lanes_for(problem.element)) and not aliased:
            return source, 0
    needed, allowed = shared_bytes(problem)
    # With a task for each channel the threads would share the packing of few channels unevenly.
    enough = problem.images * problem.channels >= DIRECT_TASKS or outs[1] < DIRECT_TASKS
    if needed <= allowed and enough:
        return _packed(problem, SHARED, outs), 0
    group_channels = problem.channels // problem.groups
    rows = problem.axes[1].out
    while rows > 1 and _packed(problem, PRIVATE, (1, rows, outs[2])).channel * group_channels * size > PRIVATE_BYTES:
        rows = -(-rows // 2)
    while rows > 4 and problem.images * problem.groups * outs[0] * -(-outs[1] // rows) < 8:
        rows = -(-rows // 2)
    return _packed(problem, PRIVATE, (1, rows, outs[2])), rows


def _pack_block(problem: Convolution, source: _Source, tables: list[Any]) -> int:
    """Address of the block that says how channels are packed; where nothing is packed it is not read."""

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    fields = dict(zip(("x_depth", "x_row", "x_column"), problem.x_strides[2:], strict=True))
    packed = source.packed or tuple(pack_axis(a, a.out) for a in problem.axes)
    for name, axis, layout in zip(("depth", "row", "column"), problem.axes, packed, strict=True):
        # A task's last rows may lie beyond the output; the table reaches as far as they do.
        pitch = axis.out + layout.length
        indices = [e * axis.stride + phase - axis.pad_begin for phase in layout.phases for e in range(pitch)]
        # Beyond the padding nothing is read for a result: a zero serves.
        end = axis.size + axis.pad_end
        sources = [padding_source(i, axis.size, problem.padding_mode) if i < end else -1 for i in indices]
        if name == "column":
            sources = [max(s, 0) for s in sources]
        fields |= {
            f"stride_{name}": axis.stride,
            f"{name}_phases": kept(layout.phases),
            f"{name}_phase_count": len(layout.phases),
            f"{name}_map": kept(sources),
            f"{name}_map_pitch": pitch,
            f"packed_{name}s": layout.length,
        }
    w = problem.axes[2]
    pads_with_data = problem.padding_mode != "zeros" and (w.pad_begin > 0 or w.pad_end > 0)
    fields |= {"width": w.size, "pad_left": w.pad_begin, "pads_with_data": int(pads_with_data)}
    tables.append(PACKING.block(**fields))
    return address(tables[-1])


def _pieces(others: int, most: int) -> int:
    """Pieces of rows or tiles, beside `others` independent tasks: about as many tasks as wanted, evenly shared."""
    least = max(1, DIRECT_TASKS // others)
    # A task more costs the reading of its pixels or weights once more: 2 % are put against an uneven share.
    return min(
        range(min(least, most), min(2 * least, most) + 1),
        key=lambda pieces: even_shares(others * pieces) * (1 + 0.02 * pieces),
    )


def plan_direct(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the direct convolution, and the tile whose packed weights it reads."""
    element, lanes = problem.element, lanes_for(problem.element)
    source, private_rows = _choose_source(problem)
    grid = _join_rows(problem, source) if source.packing != PRIVATE else _Grid(*(a.out for a in problem.axes))
    tile = choose_tile(problem, grid)
    pixels = tile.pixels(lanes)
    group_channels, group_out = problem.channels // problem.groups, problem.out_channels // problem.groups
    blocks = ceil_div(group_out, tile.block(lanes))
    tiles = ceil_div(grid.columns, pixels)
    outer = problem.images * problem.groups

    # Weights stay, pixels pass: where there is more weight than input, each task takes one block and all threads
    # together stream the weights once. Else the input stays, and each task runs all blocks over it.
    weight_bytes = group_out * group_channels * problem.taps * element.size
    input_bytes = group_channels * prod(a.size for a in problem.axes) * element.size
    blocks_outermost = source.packing != PRIVATE and weight_bytes > input_bytes
    blocks_per_task = 1 if blocks_outermost else blocks
    others = outer * grid.depths * ceil_div(blocks, blocks_per_task)
    if source.packing == PRIVATE:
        row_tasks, tile_tasks = ceil_div(grid.rows, private_rows), 1
    elif grid.rows > 1:
        row_tasks, tile_tasks = _pieces(others, grid.rows), 1
    else:
        row_tasks, tile_tasks = 1, _pieces(others, tiles)
    block_tasks = ceil_div(blocks, blocks_per_task)

    tables: list[Any] = [table(source.offsets)]
    pack = {
        "pack_channel": Code(pack_channel, element, (problem.widened_from, 1, 1)) if source.packing != IN_PLACE else 0,
        "packing": _pack_block(problem, source, tables),
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
    }
    source_batch = problem.x_strides[0] if source.packing == IN_PLACE else problem.channels * source.channel
    slack = pixels + lanes  # a tile may read, though not use, that much beyond the last row
    shared = problem.images * problem.channels * source.channel + slack if source.packing == SHARED else 0
    private = apart(group_channels * source.channel + slack, element.size) if source.packing == PRIVATE else 0

    steps = []
    if source.packing == SHARED:
        fields: dict[str, Any] = {"tasks": problem.images * problem.channels, "channels": problem.channels}
        fields["packed_channel"] = source.channel
        steps.append(Step(Code(pack_input, element), fields | pack))
    work: dict[str, Any] = {
        "row_of_tiles": Code(row_of_tiles, element, (tile.role, tile.vectors, tile.width)),
        "tasks": outer * grid.depths * row_tasks * tile_tasks * block_tasks,
        "source": source.packing,
        "images": problem.images,
        "groups": problem.groups,
        "channels": group_channels,
        "group_channels": group_out,
        "block": tile.block(lanes),
        "blocks": blocks,
        "taps": problem.taps,
        "offsets": address(tables[0]),
        "source_batch": source_batch,
        "source_channel": source.channel,
        "source_depth": source.depth,
        "source_row": source.row,
        "out_batch": problem.out_batch,
        "out_channel": problem.pixels,
        "residual_batch": problem.residual_batch or 0,
        "has_residual": int(problem.residual_batch is not None),
        "out_depths": grid.depths,
        "out_rows": grid.rows,
        "out_columns": grid.columns,
        "row_tasks": row_tasks,
        "tiles": tiles,
        "tile_tasks": tile_tasks,
        "blocks_per_task": blocks_per_task,
        "block_tasks": block_tasks,
        "blocks_outermost": int(blocks_outermost),
        "last_start": grid.columns - pixels if source.packing == IN_PLACE else _ANYWHERE,
        "scratch_thread": private,
        "low": problem.low,
        "high": problem.high,
    }
    steps.append(Step(Code(direct, element), work | pack))
    # Beside the multiplications, the input comes from memory at about 3 bytes a cycle, and is packed at as many.
    cycles = direct_cycles(problem, tile, grid) + input_bytes * outer / 3
    return Plan(tuple(steps), shared, private, element, cycles, tuple(tables)), tile
