"""Plan of a Winograd convolution: which F(m, r), which schedule, how many tiles at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from typing import Any

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis, padding_source
from fastpool.machine.processor import TARGET, THREADS
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.plans.winograd_axes import arranged, as_images, forms_along
from fastpool.plans.winograd_forms import WinogradForm, u_product
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import (
    CACHED_BYTES,
    IS_ZEN_5,
    LEVEL_2_BYTES,
    TILE_SHAPES,
    WINOGRAD_PRIVATE_BYTES,
    TileShape,
    even_shares,
)
from fastpool.routines.winograd import (
    finish_rows,
    multiply,
    repair_rows,
    transform_filters,
    transform_rows,
    winograd_fused,
    winograd_input,
    winograd_output,
)

# Estimates are fitted to times of all forms and schedules over layers of 3x3 filters, in float32 and float64, on Zen 4
# with and without AVX-512. Where the level-2 cache is small, on a Zen 3, whose last-level cache other machines used as
# well.

_HAS_LARGE_CACHE = LEVEL_2_BYTES >= 1024**2
#: Cycles of a byte of a shared V, which one core writes and another reads. On Zen 5, 105 layers of 3x3 and 5x5 took 2 %
#: longer than by the best form and schedule with 0.25, and 5 % with 0.6. With 16 registers, on a Zen 3 whose cores
#: have caches far from one another, 12 layers take 0.90 of the time by 0.3 that they take by 0.15 (7x7 over 64 of 64x64
#: 0.68, 5x5 at stride 2 from 32 to 64 of 100x100 0.79), 11 take 0.956 by 0.35, and one 1.2 then.
_SHARED_CYCLES = (0.25 if IS_ZEN_5 else 0.6) if TARGET.registers == 32 else 0.3
#: Bytes of it up to which all images are done in one pass. Of more, in passes of about so many, 3x3 over 384 channels
#: of 32 times 13x13 takes 0.68 of the time, 512 of 16 and of 32 times 14x14 0.87 and 0.78, 256 of 64 times 14x14 0.82;
#: of 7 MB 1.0.
_PASS_BYTES = CACHED_BYTES // 2
#: Up to how many bytes it stays in the last-level cache, and else bytes a cycle at which it passes once more for each
#: out block.
_SHARED_KEPT, _AGAIN_RATE = CACHED_BYTES if _HAS_LARGE_CACHE else 8 * 1024**2, 4
#: Weights of up to so many bytes are kept by the level-2 cache.
_CACHED_BYTES = 512 * 1024
#: Bytes of weights, and bytes a cycle by which they delay the multiplications, behind most of which they are fetched.
_WEIGHT_RATES = (
    ((8 * 1024**2, 80), (CACHED_BYTES * 7 // 4, 30), (float("inf"), 10))
    if _HAS_LARGE_CACHE
    else ((8 * 1024**2, 40), (24 * 1024**2, 14), (float("inf"), 5))
)
#: Bytes of the weights that a task transforms on the fly and multiplies at once: beside the tiles of their channels and
#: the products in the level-2 cache.
_PART_BYTES = LEVEL_2_BYTES * 5 // 16
#: Cycles of one core for a vector of weights that is transformed on the fly: 512 -> 512 channels take 0.26 ms more on
#: two threads by F(4, 3), and 0.13 by F(2, 3). As the level-1 cache keeps none of them until they are read, fewer
#: operations or lines fetched for writing did not help.
_FLY_CYCLES = 3.5
#: Channels whose products are summed before their sum is added to that of others; half as many with seven points, which
#: err most. With that F(5, 3) errs by 4.8e-6 at most and F(4, 3) by 3.5e-6; summed in one go, by 1.3e-5 and 9e-6 with
#: 512. It costs 1 to 2 % of a layer.
_SUMMED = 128
#: Threads that estimates are for, however many there are: the form decides how sums are rounded.
_THREADS = 2
#: More than what the ends of products, tiles and strips add to scratch.
_ENDS_BYTES = 256 * 1024


def forms_for(problem: Convolution) -> tuple[WinogradForm, ...]:
    """Forms that can compute it: of square filters, others along one axis; plain rows.

    Dilation needs stride 1. Groups are taken if they have a vector of channels at least: else most lanes are idle. So
    are those of few channels in several taps of depth.
    """
    problem = arranged(problem)
    depth, height, width = problem.axes
    is_padded = width.is_padded or depth.is_padded
    is_wide = problem.channels // problem.groups >= lanes_for(problem.element)
    wide = is_wide or (problem.groups == 1 and depth.kernel == 1)
    if not wide or problem.x_strides[4] != 1:
        return ()
    if problem.element.is_integer:  # which the transforms would make fractions of
        return ()
    if is_padded and problem.padding_mode != "zeros":
        return ()
    forms = (replace(form, slices=depth.kernel) for form in forms_along(height, width))
    return tuple(
        form
        for form in forms
        if form.suits(problem.element)
        and (depth.kernel == 1 or not form.on_the_fly)
        and (depth.is_single or not form.folded)
        and Tiling(as_images(problem), form).least_bytes <= problem.workspace_limit
    )


@dataclass(frozen=True)
class Tiling:
    """Sizes that follow from a form."""

    problem: Convolution
    form: WinogradForm

    @cached_property
    def lanes(self) -> int:
        """Channels of a vector."""
        return lanes_for(self.problem.element)

    def _tiles_along(self, axis: Axis, outputs: int) -> int:
        """Tiles of all phases of a dilation, each of which has as many as the longest."""
        return axis.dilation * ceil_div(ceil_div(axis.out, axis.dilation), outputs)

    @cached_property
    def tile_rows(self) -> int:
        """Tiles down an image."""
        return self._tiles_along(self.problem.axes[1], self.form.tile_outputs[0])

    @cached_property
    def tile_columns(self) -> int:
        """Tiles across an image."""
        return self._tiles_along(self.problem.axes[2], self.form.tile_outputs[1])

    @property
    def row_starts(self) -> list[int]:
        """First output row of each row of tiles: the phases of a tile's place one after the other."""
        dilation, outputs = self.problem.axes[1].dilation, self.form.tile_outputs[0]
        return [i // dilation * outputs * dilation + i % dilation for i in range(self.tile_rows)]

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        return self.problem.images * self.tile_rows * self.tile_columns

    @property
    def channel_blocks(self) -> int:
        """Vectors of input channels, of a group."""
        return self.form.channel_blocks(self.problem.channels // self.problem.groups, self.lanes)

    @property
    def multiplied(self) -> int:
        """Channels of a phase of a group that are multiplied."""
        return self.problem.channels // self.problem.groups * self.form.fold

    @property
    def out_blocks(self) -> int:
        """Pairs of vectors of output channels, of a group."""
        return ceil_div(self.problem.out_channels // self.problem.groups, 2 * self.lanes)

    @property
    def tile_bytes(self) -> int:
        """Transformed input of a tile, of a group."""
        elements = self.form.products * self.form.phases * self.channel_blocks * self.lanes
        return elements * self.problem.element.size

    @property
    def least_columns(self) -> int:
        """Tiles beside each other of which a task has a multiple: dilated ones lie among each other."""
        return self.problem.axes[2].dilation

    @property
    def least_bytes(self) -> int:
        """Scratch of a thread without which nothing goes."""
        if self.form.on_the_fly:
            return self.of_pass.shared_bytes
        columns, size = self.least_columns, self.problem.element.size
        tiles = _in_panels(columns)
        beside = tiles * self.form.products * 2 * self.lanes + self.strip_elements(columns) if columns > 1 else 0
        return tiles * self.tile_bytes + beside * size + _ENDS_BYTES

    @property
    def v_bytes(self) -> int:
        """Transformed input."""
        return self.tile_bytes * self.tiles * self.problem.groups

    @cached_property
    def of_pass(self) -> Tiling:
        """The same of as many images as share a transformed input: all, unless that would be large."""
        images = self.problem.images
        passes = ceil_div(images, max(1, images * _PASS_BYTES // max(1, self.v_bytes)))
        return self if passes <= 1 else Tiling(replace(self.problem, images=ceil_div(images, passes)), self.form)

    def strip_elements(self, columns: int) -> int:
        """Input rows, or output rows, of so many tiles beside each other, while they are transformed."""
        form, lanes, dilation = self.form, self.lanes, self.problem.axes[2].dilation
        outputs = ceil_div(columns, dilation) * form.tile_outputs[1]
        down, across = (1, 1) if form.folded else form.strides
        span = across * (outputs + form.tile_taps[1] - 1) * dilation
        return max(
            down * form.sizes[0] * ceil_div(span, lanes) * lanes * lanes,
            form.tile_outputs[0] * (outputs * dilation + lanes) * lanes + lanes * lanes,
        )

    @property
    def shared_bytes(self) -> int:
        """Scratch for one thread, where the transformed input is shared: with products and strips of a row of tiles."""
        return self.shared_bytes_of(_shared_rows(self))

    def shared_bytes_of(self, rows: int) -> int:
        """The same in tasks of so many rows of tiles."""
        size = self.problem.element.size
        tasks = ceil_div(self.problem.images * self.tile_rows, rows)
        tiles = _in_panels(rows * self.tile_columns)
        products = self.form.products * tiles * 2 * self.lanes * size
        strip = self.strip_elements(self.tile_columns) * size
        v = tasks * tiles * self.tile_bytes * self.problem.groups
        u = self.form.products * self.u_product * size if self.form.on_the_fly else 0
        return v + max(products, WINOGRAD_PRIVATE_BYTES) + strip + u + _ENDS_BYTES

    @property
    def summed_blocks(self) -> int:
        """Blocks of channels that are summed in one go: sums in float32 err by the root of their length."""
        if self.problem.element.size > 4:
            return 2**40
        return max(1, (_SUMMED if self.form.size < 7 else _SUMMED // 2) // self.lanes)

    @property
    def part_blocks(self) -> int:
        """Blocks of channels that are multiplied at once: all, unless their weights are transformed on the fly."""
        if not self.form.on_the_fly:
            return self.channel_blocks
        block_bytes = self.form.multiplications * 2 * self.lanes**2 * self.problem.element.size
        parts = ceil_div(self.channel_blocks, max(1, _PART_BYTES // block_bytes))
        return ceil_div(self.channel_blocks, parts)

    @property
    def u_product(self) -> int:
        """Elements of U from one product to the next."""
        return u_product(self.form, self.part_blocks, self.problem.element.size, self.lanes)

    @property
    def u_bytes(self) -> int:
        """Transformed weights."""
        size = self.problem.element.size
        blocks = self.problem.groups * self.channel_blocks * self.out_blocks
        return self.form.multiplications * blocks * 2 * self.lanes**2 * size


@cache
def product_tile(tiles: int) -> TileShape:
    """Register tile for products of that many tiles."""
    shapes = [shape for shape in TILE_SHAPES[TARGET.registers] if shape.role == "channels" and shape.vectors == 2]
    return min(shapes, key=lambda shape: (ceil_div(tiles, shape.width) * (shape.step_cycles + 0.1), -shape.width))


def last_product_tile(tile: TileShape, out_channels: int, lanes: int) -> TileShape:
    """The one of the last block of so many output channels: of one vector, if that holds what others have left.

    Also if there is no other block, unlike `TileShape.last`: products have no tiles of one vector to choose from.
    3x3 from 64 to 16 channels of 56x56 takes 36 % less time so, from 64 to 48 of 28x28 20 %, from 100 to 272 of 26x26
    5 %; 7x7 at stride 2 from 3 to 16 of 224x224 35 %.
    """
    return TileShape(tile.role, 1, tile.width) if 0 < out_channels % (2 * lanes) <= lanes else tile


def _in_panels(tiles: int) -> int:
    """Tiles for which a task of so many has room: whole panels, if more than one."""
    width = product_tile(tiles).width
    return tiles if tiles <= width else ceil_div(tiles, width) * width


def winograd_cycles(problem: Convolution, form: WinogradForm) -> float:
    """Estimated cycles of one core."""
    problem = as_images(problem)
    tiling = Tiling(problem, form)
    shuffles = tiling.lanes.bit_length() - 1
    size, outputs, (down, across), (out_down, out_across) = form.size, form.outputs, form.sizes, form.tile_outputs
    # Multiply-adds of the transforms, loads and stores, shuffles of the transposes: per tile and vector of channels.
    # Each column is transformed by itself, then each row.
    columns, rows, out_rows = across if down > 1 else 0, down if across > 1 else 0, out_down if across > 1 else 0
    transform_in = form.phases * (0.55 * (columns + rows) * size**2 + form.products + down * out_across * shuffles)
    transform_out = 0.7 * (columns + out_rows) * size * outputs + form.products + out_down * out_across * shuffles
    transforms = tiling.tiles * (tiling.channel_blocks * transform_in + 2 * tiling.out_blocks * transform_out)
    planes = problem.channels * prod(axis.size for axis in problem.axes) + problem.out_channels * problem.pixels
    moved = problem.images * planes * problem.element.size
    return min(schedule_cycles(tiling).values()) + problem.groups * transforms + moved / 5


def schedule_cycles(tiling: Tiling) -> dict[str, float]:
    """Estimated cycles under each schedule: multiplications, and what passes the level-2 cache beside them.

    On Zen 5 as if both threads took as long as the one that takes longer: 3x3 at stride 2 over 128 channels of 56x56
    takes 0.36 ms in 4 shared tasks, 0.49 in 7 fused ones. Elsewhere not measured.
    """
    fused = float("inf") if tiling.form.on_the_fly else _fused_cycles(tiling)
    return {"shared": _shared_cycles(tiling), "fused": fused}


def _is_shared(tiling: Tiling) -> bool:
    cycles = schedule_cycles(tiling)
    return cycles["shared"] <= cycles["fused"]


def _shared_cycles(tiling: Tiling) -> float:
    of_pass = tiling.of_pass
    return _pass_cycles(of_pass) * tiling.problem.images / max(1, of_pass.problem.images)


def _pass_cycles(tiling: Tiling) -> float:
    if tiling.shared_bytes > tiling.problem.workspace_limit:
        return float("inf")
    group = _shared_rows(tiling) * tiling.tile_columns
    tasks = tiling.problem.groups * tiling.out_blocks * ceil_div(tiling.tiles, group)
    cycles = _uneven(tasks) * _multiply_cycles(tiling, group, tiling.tiles / group) + tiling.v_bytes * _SHARED_CYCLES
    if tiling.v_bytes > _SHARED_KEPT:
        cycles += tiling.out_blocks * tiling.v_bytes / _AGAIN_RATE
    return cycles + (_fly_cycles(tiling) if tiling.form.on_the_fly else _weight_cycles(tiling, 1))


def _fly_cycles(tiling: Tiling) -> float:
    """Cycles by which transforming all weights, once for each group of rows of tiles, exceeds reading them so."""
    groups = ceil_div(tiling.problem.images * tiling.tile_rows, _shared_rows(tiling))
    filters = tiling.problem.channels * tiling.out_blocks * 2
    return groups * filters * _FLY_CYCLES * tiling.form.multiplications


def _fused_cycles(tiling: Tiling) -> float:
    rows, columns = _fused_group(tiling)
    groups = tiling.problem.images * ceil_div(tiling.tile_rows, rows) * ceil_div(tiling.tile_columns, columns)
    return (
        _uneven(groups * tiling.problem.groups) * _multiply_cycles(tiling, rows * columns, groups)
        + _weight_cycles(tiling, groups)
        + _parted_cycles(tiling, rows, columns, _THREADS)
    )


def _uneven(tasks: int) -> float:
    """Factor by which multiplications in so many tasks take longer than half of them."""
    return even_shares(tasks, _THREADS) if IS_ZEN_5 else 1.0


#: Cycles that a row of a plane takes longer where two threads write to it: they wait for one another's cache lines. 5x5
#: from 3 to 256 channels of 31x34 takes 190 us, and 600 where each has half of the columns.
_PARTED_ROW_CYCLES = 400


def _parted_cycles(tiling: Tiling, rows: int, columns: int, threads: int) -> float:
    """Cycles that are lost if groups of so many rows and columns part rows among threads; all images and groups."""
    problem = tiling.problem
    row_groups = problem.images * problem.groups * ceil_div(tiling.tile_rows, rows)
    if columns >= tiling.tile_columns or row_groups >= threads:
        return 0.0
    return _PARTED_ROW_CYCLES * problem.images * problem.out_channels * problem.axes[1].out


def _multiply_cycles(tiling: Tiling, group: int, groups: float) -> float:
    """Cycles to multiply groups of tiles with all weights."""
    tile, problem = product_tile(group), tiling.problem
    last = last_product_tile(tile, problem.out_channels // problem.groups, tiling.lanes)
    steps = (tiling.out_blocks - 1) * tile.step_cycles + last.step_cycles
    products = tiling.form.multiplications * tiling.multiplied * problem.groups
    return products * groups * ceil_div(group, tile.width) * steps


def _weight_cycles(tiling: Tiling, times: int) -> float:
    """Cycles by which reading all weights so many times exceeds the multiplications."""
    if tiling.u_bytes <= _CACHED_BYTES * tiling.problem.groups:
        return 0.0
    return times * tiling.u_bytes / next(rate for most, rate in _WEIGHT_RATES if tiling.u_bytes <= most)


#: Where weights come from memory, and would more often than so many times, so many times as many tiles are taken at
#: once, whose V and M the last-level cache keeps: 3x3 from 768 to 768 channels of 64x64 takes 0.4 of the time, dilated
#: by 6 on 33x33 from 2048 to 256 0.7; where six tasks read all weights, nothing changes.
_READINGS, _MORE_TILES = 16, 8


def group_bytes(tiling: Tiling) -> int:
    """Bytes of V and M of a task at most: the level-2 cache keeps them, unless weights would be read too often."""
    tiles = WINOGRAD_PRIVATE_BYTES // _bytes_of_tile(tiling)
    if _HAS_LARGE_CACHE and tiling.u_bytes > _WEIGHT_RATES[1][0] and tiling.tiles > _READINGS * tiles:
        return min(_MORE_TILES * WINOGRAD_PRIVATE_BYTES, tiling.problem.workspace_limit // 2)
    return WINOGRAD_PRIVATE_BYTES


def _bytes_of_tile(tiling: Tiling) -> int:
    """Bytes of V and M of a tile."""
    products = tiling.form.products * (tiling.form.phases * tiling.channel_blocks + 2)
    return products * tiling.lanes * tiling.problem.element.size


def _least_tasks(problem: Convolution) -> int:
    """Fused tasks of an image and group: four, unless there are many of these, so that threads end together."""
    return 4 if problem.images * problem.groups < 8 else 1


#: Further numbers of parts of a row of tiles that are compared where there is one row, and nothing else to choose.
_FURTHER_PARTS = 6


def _fused_group(tiling: Tiling, threads: int = _THREADS) -> tuple[int, int]:
    """Rows and columns of tiles of a fused task: near the wanted number, near a multiple of the register tile."""
    wanted = max(1, group_bytes(tiling) // _bytes_of_tile(tiling))
    wanted = min(wanted, max(1, tiling.tile_rows * tiling.tile_columns // _least_tasks(tiling.problem)))
    least = tiling.least_columns
    all_columns = tiling.tile_columns // least
    multiplied = tiling.form.multiplications * tiling.out_blocks * tiling.multiplied
    of_group = multiplied * tiling.problem.images * tiling.problem.groups

    def cost(rows: int, columns: int) -> float:
        tile = product_tile(rows * columns)
        groups = ceil_div(tiling.tile_rows, rows) * ceil_div(tiling.tile_columns, columns)
        # Rows and columns of pixels at the border of a group are transposed twice: a small preference for squares.
        halo = 1 + 0.02 * (1 / rows + 1 / columns)
        found = groups * ceil_div(rows * columns, tile.width) * (tile.step_cycles + 0.1) * halo
        # All threads should end together.
        found *= even_shares(groups * tiling.problem.images * tiling.problem.groups, threads)
        # Fewer, larger groups read the weights less often.
        found *= 1 + 4 / (rows * columns)
        return found + _parted_cycles(tiling, rows, columns, threads) / of_group

    sizes = []
    for rows in range(1, tiling.tile_rows + 1):
        columns = max(min(tiling.tile_columns, wanted // rows), least)
        if rows * columns > max(wanted, least):
            break
        fewest = ceil_div(all_columns, columns // least)
        most = min(all_columns, fewest + _FURTHER_PARTS) if tiling.tile_rows == 1 else fewest
        sizes += [(rows, ceil_div(all_columns, parts) * least) for parts in range(fewest, most + 1)]
    return min(sizes, key=lambda size: cost(*size)) if sizes else (1, least)


def _shared_rows(tiling: Tiling, threads: int = _THREADS) -> int:
    """Rows of tiles of a task that takes one out block: products fit the cache, and register tiles are well filled."""
    problem, columns = tiling.problem, tiling.tile_columns
    most = problem.images * tiling.tile_rows
    budget = WINOGRAD_PRIVATE_BYTES // (tiling.form.products * 2 * tiling.lanes * problem.element.size)
    others = problem.groups * tiling.out_blocks

    def cost(rows: int) -> float:
        tile, row_groups = product_tile(rows * columns), ceil_div(most, rows)
        work = row_groups * ceil_div(rows * columns, tile.width) * (tile.step_cycles + 0.1)
        tasks = row_groups * others
        # Threads end the more closely together the more tasks there are: 256 channels on 4x4 take 183 us in 16 tasks of
        # 2 tiles, which fill register tiles as 4 do, and 99 in 8.
        # But each reads the weights: 192 channels on 32 images of 16x16 take 10 % more in tasks of 8 tiles than of 128.
        return work * even_shares(tasks, threads) * (1 + 0.5 / tasks) * (1 + 1 / (rows * columns))

    return min(range(1, max(1, min(most, budget // columns)) + 1), key=cost)


def plan_winograd(problem: Convolution, form: WinogradForm) -> Plan:
    """Plan of the convolution by `form`."""
    of_depths, problem = arranged(problem), as_images(problem)
    depth, element, tiling = of_depths.axes[0], problem.element, Tiling(problem, form)
    lanes, size = tiling.lanes, element.size
    block = 2 * lanes
    _, height, width = problem.axes
    shared = _is_shared(tiling)
    if shared:
        tiling = tiling.of_pass
        rows_of_tiles = tiling.problem.images * tiling.tile_rows
        columns = tiling.tile_columns
        rows = _shared_rows(tiling, THREADS)
        if tiling.shared_bytes_of(rows) > problem.workspace_limit:
            rows = _shared_rows(tiling)
        row_groups, column_groups = ceil_div(rows_of_tiles, rows), 1
        rows = ceil_div(rows_of_tiles, row_groups)
    else:
        rows, columns = _fused_group(tiling, THREADS)
        row_groups, column_groups = ceil_div(tiling.tile_rows, rows), ceil_div(tiling.tile_columns, columns)
    group = rows * columns
    tile = product_tile(group)
    last = last_product_tile(tile, problem.out_channels // problem.groups, lanes)
    slack = tile.width * lanes
    v_tiles = min(tile.width, group)
    v_panel = form.phases * tiling.channel_blocks * v_tiles * lanes
    v_task = ceil_div(group, v_tiles) * v_panel
    v_product = apart(problem.groups * row_groups * v_task if shared else v_task, size)
    m_product = apart(max(_in_panels(group), tile.width) * block, size)
    v_elements = apart(form.products * v_product + slack, size)
    m_elements = form.products * m_product
    strip = tiling.strip_elements(columns)
    u_elements = apart(form.products * tiling.u_product, size) if form.on_the_fly else 0
    private = thread_scratch(m_elements + apart(strip, size) + u_elements + (0 if shared else v_elements), element)
    filter_elements = prod(form.kernels) * block  # of a channel
    fetched = ceil_div(filter_elements, form.products) if form.on_the_fly else block
    group_channels = problem.channels // problem.groups

    seen_rows = form.strides[0] * (tiling.row_starts[-1] + height.dilation * (form.tile_outputs[0] + form.tile_taps[0]))
    source_rows = [
        padding_source(i - height.pad_begin, height.size, problem.padding_mode)
        if i - height.pad_begin < height.size + height.pad_end
        else -1
        for i in range(seen_rows)
    ]
    tables: list[Any] = [table(source_rows), table(form.segments), table(tiling.row_starts)]
    missed = np.zeros(1, np.int64)
    shape = form.shape
    of_columns = (shape[0] + (" dilated" if width.dilation > 1 else ""), *shape[1:])
    fields: dict[str, Any] = {
        "transform_rows": Code(transform_rows, element, of_columns),
        "multiply": Code(multiply, element, ("product", tile.vectors, tile.width)),
        "multiply_last": Code(multiply, element, ("product", last.vectors, last.width)),
        "transform_filters": Code(transform_filters, element, shape) if form.on_the_fly else 0,
        "finish_rows": Code(finish_rows, element, of_columns),
        "repair_rows": Code(repair_rows, element, is_rare=True),
        "missed": address(missed),
        "kernel_rows": form.kernels[0],
        "kernel_columns": form.kernels[1],
        "row_stride": form.strides[0],
        "column_stride": form.strides[1],
        "products": form.products,
        "phases": form.phases,
        "fold": form.fold,
        "images": tiling.problem.images,
        "first_image": 0,
        "groups": problem.groups,
        "channels": of_depths.channels // problem.groups,
        "channel_blocks": tiling.channel_blocks,
        "slice_blocks": tiling.channel_blocks // depth.kernel,
        "slices": depth.kernel,
        "depths": depth.out,
        "depth_stride": depth.stride,
        "depth_dilation": depth.dilation,
        "depth_size": depth.size,
        "pad_front": depth.pad_begin,
        "multiplied": tiling.multiplied,
        "out_channels": problem.out_channels // problem.groups,
        "out_blocks": tiling.out_blocks,
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "x_depth": problem.x_strides[2],
        "x_row": problem.x_strides[3],
        "width": width.size,
        "row_map": address(tables[0]),
        "row_starts": address(tables[2]),
        "row_dilation": height.dilation,
        "column_dilation": width.dilation,
        "pad_left": width.pad_begin,
        "out_rows": height.out,
        "out_columns": width.out,
        "out_batch": problem.out_batch,
        "out_channel": of_depths.pixels,
        "residual_batch": problem.residual_batch or 0,
        "has_residual": int(problem.residual_batch is not None),
        "has_bounds": int(problem.is_bounded),
        "tile_rows": tiling.tile_rows,
        "tile_columns": tiling.tile_columns,
        "group_rows": rows,
        "group_columns": columns,
        "row_groups": row_groups,
        "column_groups": column_groups,
        "segments": address(tables[1]),
        "v_tiles": v_tiles,
        "v_panel": v_panel,
        "v_task": v_task,
        "v_product": v_product,
        "on_the_fly": int(form.on_the_fly),
        "summed_blocks": tiling.summed_blocks,
        "part_blocks": tiling.part_blocks,
        "weights_block": group_channels * filter_elements if form.on_the_fly else form.products * tiling.u_product,
        "weights_channels": lanes * filter_elements,
        "u_product": tiling.u_product,
        "fetched": fetched,
        "fetched_product": tiling.part_blocks * lanes * fetched if form.on_the_fly else tiling.u_product,
        "m_product": m_product,
        "shared": v_elements if shared else 0,
        "scratch_thread": private,
        "v_offset": m_elements + apart(strip, size),
        "u_offset": m_elements + apart(strip, size),
        "m_offset": 0,
        "strip_offset": m_elements,
        "low": problem.low,
        "high": problem.high,
    }
    steps: list[Step] = []
    for first in range(0, problem.images, tiling.problem.images) if shared else ():
        images = min(tiling.problem.images, problem.images - first)
        row_groups = ceil_div(images * tiling.tile_rows, rows)
        of_pass = fields | {"first_image": first, "images": images, "row_groups": row_groups}
        for code, tasks in (
            (winograd_input, images * tiling.tile_rows * tiling.channel_blocks),
            (winograd_output, row_groups * tiling.out_blocks),
        ):
            steps.append(Step(Code(code, element), of_pass | {"tasks": problem.groups * tasks}))
    if not shared:
        tasks = problem.images * problem.groups * row_groups * column_groups
        steps.append(Step(Code(winograd_fused, element), fields | {"tasks": tasks}))
    cycles = winograd_cycles(of_depths, form)
    return Plan(tuple(steps), fields["shared"], private, element, cycles, tuple(tables), missed=missed)
