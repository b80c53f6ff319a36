"""Plan of a direct convolution of several small images: their pixels are packed as one row, so that they fill tiles.

Of a channel each tap has a copy of the pixels that it meets, in the order of the results of all images: a tile takes
the next pixels, whatever row or image they are of, and weights are read once for all of them. Packing takes as many
times as long as there are taps, which many channels of the result pay for. Packed, taps are channels of a 1x1 filter.
Those that meet nothing but padding are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.direct import (
    ANYWHERE,
    MOST_FETCHED,
    NOTHING_AHEAD,
    ahead,
    packing_step,
)
from fastpool.plans.edges import NO_EDGES
from fastpool.plans.packing import (
    ALONE_BYTES,
    MOST_PLACES,
    Packed,
    channel_cycles,
    copies_of_taps,
    is_packed_by_table,
    pack_block,
    packed_elements,
    pays_alone,
    plane_vectors,
    source_of,
    table_code,
)
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.private import slack
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.plans.tasks import Grid, Shares, pieces
from fastpool.plans.tile_choice import direct_cycles
from fastpool.routines.direct import JOINED_SHAPES, OWN, SHARED, direct
from fastpool.routines.pack import pack_images
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import DIRECT_TASKS, LEVEL_2_BYTES, SHARED_BYTES, SHARED_LIMIT, TileShape

#: Cycles to store a vector once more, where the pixels of a tile are of a further image; and to find that out.
_SEAM_CYCLES, _BEGIN_CYCLES = 4.0, 200.0
#: Cycles to pack an element by a table, from several images and of several taps, and to pass it on to another core; and
#: to transpose a row of up to a vector of images, however few, which two threads do each for itself: once, 25,600
#: elements of 16 images take 20,000, of 2 images 150,000.
_PACK_CYCLES, _TRANSPOSE_CYCLES = 6.3, 24.0
#: Bytes a cycle of weights that come from beyond the level-2 caches, of so many threads: 3x3 over 512 channels of 2x2
#: takes 155 us by two rows of tiles, which estimated without that would be 85, and 125 by one.
_STREAM_RATE, _THREADS = 13, 2
#: Bytes of a matrix up to which each thread transposes it for itself.
_MATRIX_BYTES = 2 * LEVEL_2_BYTES
#: Images up to which a matrix is transposed as a whole, by whole vectors of images: 4x4 from 128 to 32 channels of 32
#: times 4x4 takes 50 us so, and 120 in panels of 8; 1x1 over 512 channels of 1024 images 3.3 ms in panels, and 3.8.
_ONE_PANEL = 256
#: Rows that a task transposes.
_TRANSPOSED = 2048


@dataclass(frozen=True)
class Joined:
    """A convolution whose images are joined."""

    problem: Convolution

    @cached_property
    def images(self) -> Convolution:
        """The same convolution of one image, whose depths are the images."""
        batch, channel, _, row, column = self.problem.x_strides
        images = Axis(self.problem.images, 1, 1, 1, 0, 0, self.problem.images)
        x_strides = 0, channel, batch, row, column
        return replace(self.problem, images=1, axes=(images, *self.problem.axes[1:]), x_strides=x_strides)

    @cached_property
    def packed(self) -> Packed:
        """A copy for each tap."""
        depth, height, width = (copies_of_taps(axis, axis.out) for axis in self.images.axes)
        return depth, height, width

    @cached_property
    def is_matrix(self) -> bool:
        """Whether each image has one pixel, which sees all elements of x in the order of the weights."""
        _, height, width = self.images.axes
        _, channel, _, row, column = self.images.x_strides
        return (
            not self.problem.is_padded
            and self.problem.pixels == 1
            and (width.kernel == 1 or column * width.dilation == 1)
            and (height.kernel == 1 or row * height.dilation == width.kernel)
            and channel == self.images.taps
        )

    def width(self, tile: TileShape) -> int:
        """Pixels of a panel: a tile's, or all if they are few, among which tiles begin anywhere."""
        few = self.is_matrix and self.images.pixels <= _ONE_PANEL
        return self.images.pixels if few else tile.width

    def panel(self, tile: TileShape) -> int:
        """Elements from one panel to the next: all channels and taps."""
        return self.images.channels * self.images.taps * self.width(tile)

    def packed_elements(self, tile: TileShape) -> int:
        """Elements of x packed."""
        return self.panel(tile) * ceil_div(self.images.pixels, self.width(tile))

    @property
    def packed_bytes(self) -> int:
        """Bytes of x packed, but for what fills the last panel."""
        return self.images.channels * self.images.taps * self.images.pixels * self.images.element.size

    @property
    def packing_cycles(self) -> float:
        """Cycles to pack it."""
        if self.is_matrix:
            vectors = ceil_div(self.problem.images, lanes_for(self.problem.element))
            return _TRANSPOSE_CYCLES * self.images.channels * self.images.taps * vectors
        each = _PACK_CYCLES * packed_elements(self.packed)
        if plane_vectors(self.images, self.packed):
            each = min(each, channel_cycles(self.images, self.packed))
        return each * self.images.channels

    def is_own(self, multiplying: float) -> bool:
        """Whether each thread packs for itself, which takes less than lines from another core's cache.

        7x7 from 384 to 16 channels of 16 times 7x7 takes 120 us so, shared 130 or, when that cache is far, 430; 21
        layers that a table packs take 0.97 and 0.89 of the time. But of groups a thread needs some only: 800 to 128
        channels of 7x6 in four take 1.4.
        """
        if self.is_matrix:
            return self.packed_bytes <= _MATRIX_BYTES
        if self.images.groups == 1:
            return self.packed_bytes <= ALONE_BYTES
        return pays_alone(self.packing_cycles, multiplying, self.packed_bytes)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        channels = self.images.channels // self.images.groups
        return self.images.out_channels * channels * self.images.taps * self.images.element.size

    def cycles(self, tile: TileShape) -> float:
        """Estimated cycles of one core for the multiplications and stores."""
        columns, lanes = self.images.pixels, lanes_for(self.images.element)
        seams = (columns - 1) // self.problem.pixels * self.images.out_channels
        whole = ceil_div(columns, tile.width) * tile.width  # the last tile is as wide as the others
        tiles = whole // tile.width * ceil_div(self.images.out_channels, tile.block(lanes))
        return direct_cycles(self.images, tile, Grid(1, 1, whole)) + _SEAM_CYCLES * seams + _BEGIN_CYCLES * tiles

    @cached_property
    def compared(self) -> dict[TileShape, float]:
        """Cycles of each tile."""
        tiles = (TileShape("channels", *shape) for shape in JOINED_SHAPES)
        return {tile: self.cycles(tile) for tile in tiles}

    def reading(self, tile: TileShape) -> tuple[dict[str, int], list[Any]]:
        """Fields that say which taps are summed, and their tables: all taps are as many channels of a single one."""
        block, width = tile.block(lanes_for(self.images.element)), self.width(tile)
        channels = self.images.channels // self.images.groups * self.images.taps
        tables = [table((0, 1)), table((0,)), table((block,))]
        row_taps, offsets, steps = map(address, tables)
        fields = {
            "taps": 1,
            "run": 1,
            "run_used": 1,
            "row_taps": row_taps,
            "offsets": offsets,
            "steps": steps,
            "source_channel": width,
            "channels": channels,
            "group_inputs": channels,
            "weights_block": channels * block,
            "first_weight": 0,
        }
        return fields, tables

    def packing_step(self, tile: TileShape, tables: list[Any], own: int) -> Step:
        """Step that packs x, in each one's `own` elements of scratch or for all."""
        element, taps = self.images.element, self.images.taps
        if not self.is_matrix:
            source = replace(source_of(self.images, SHARED, self.packed), channel=taps * tile.width)
            packing = pack_block(self.images, source, tables, tile.width)
            pack = {"pack_channel": table_code(self.images, self.packed), "packing": packing}
            return packing_step(self.images, source, pack, own)
        elements = self.images.channels * taps
        fields = {
            "tasks": ceil_div(elements, _TRANSPOSED),
            "images": self.problem.images,
            "width": self.width(tile),
            "panel": self.panel(tile),
            "elements": elements,
            "together": _TRANSPOSED,
            "x_batch": self.problem.x_strides[0],
            "own": own,
        }
        return Step(Code(pack_images, element), fields, by_each=own > 0)


def suits_joined(problem: Convolution) -> bool:
    """Whether images can be joined, or rows of one: floats, each channel packed by a table, or all of x transposed."""
    if problem.element.is_integer or not problem.axes[0].is_single or not problem.images * problem.pixels:
        return False
    if problem.images == problem.axes[2].kernel == 1:  # packed rows have nothing between them in any case
        return False
    if problem.pixels > 1 and problem.images * problem.pixels > MOST_PLACES:
        return False
    joined = Joined(problem)
    if max(map(joined.packed_elements, joined.compared)) * problem.element.size > SHARED_LIMIT:
        return False
    if joined.is_matrix:
        return problem.images > 1
    is_little = joined.packed_bytes <= max(SHARED_BYTES, joined.weight_bytes)
    return is_little and is_packed_by_table(joined.images, joined.packed)


def streaming_cycles(problem: Convolution, tile: TileShape) -> float:
    """Cycles by which weights that no level-2 cache holds come later than a tile of few pixels asks for them.

    Tiles of the next pixels find a block's weights there, but take their time, too.
    """
    joined, lane_bytes = Joined(problem), tile.vectors * TARGET.vector_bytes
    if joined.weight_bytes <= _THREADS * LEVEL_2_BYTES or tile.role == "pixels":
        return 0.0
    return joined.weight_bytes * max(0.0, 1 / _STREAM_RATE - tile.step_cycles / lane_bytes)


def is_joined(plan: Plan) -> bool:
    """Whether a plan of a direct convolution joins images."""
    return bool(plan.steps[-1].fields.get("image_pixels"))


def plan_joined(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the convolution, and the tile whose packed weights it reads; packing is among its cycles."""
    joined = Joined(problem)
    images, element, lanes = joined.images, problem.element, lanes_for(problem.element)
    tile, multiplying = min(joined.compared.items(), key=lambda found: found[1])
    packing = joined.packing_cycles
    is_own = joined.is_own(multiplying)

    group_channels, group_out = images.channels // images.groups, images.out_channels // images.groups
    blocks, tiles = ceil_div(group_out, tile.block(lanes)), ceil_div(images.pixels, tile.width)
    blocks_outermost = joined.weight_bytes > joined.packed_bytes
    blocks_per_task = max(1, blocks // (2 * DIRECT_TASKS)) if blocks_outermost else blocks
    tile_tasks = pieces(images.groups * ceil_div(blocks, blocks_per_task), tiles)
    tiles_per_task = ceil_div(tiles, tile_tasks)
    shares = Shares(Grid(1, 1, images.pixels), 1, tile_tasks, blocks_per_task, blocks_outermost)
    # Not those of the next block if there is no room for them.
    block_bytes = group_channels * images.taps * tile.block(lanes) * element.size
    has_room = 2 * block_bytes <= LEVEL_2_BYTES
    fetches = blocks_outermost and tiles_per_task <= MOST_FETCHED and has_room

    read, tables = joined.reading(tile)
    tables.append(table(NO_EDGES.entries))
    copy = apart(joined.packed_elements(tile) + slack(images, tile), element.size)
    own = thread_scratch(copy, element) if is_own else 0
    step = joined.packing_step(tile, tables, own)
    fields = (
        shares.fields(images, tile, "joined")
        | read
        | (ahead(images, tile, 1, tiles_per_task) if fetches else NOTHING_AHEAD)
        | {
            "pack_channel": 0,
            "edges": address(tables[-1]),
            "edges_begin": NO_EDGES.begin,
            "edges_end": NO_EDGES.end,
            "dilation": 1,
            "source": OWN if is_own else SHARED,
            "source_batch": 0,
            "source_depth": 0,
            "source_row": 0,
            "panel": joined.panel(tile) if joined.width(tile) == tile.width else 0,
            "last_start": ANYWHERE,
            "first_channel": 0,
            "scratch_thread": own,
            "fetches_output": 0,  # a tile's is not in one place
            "out_channel": problem.pixels,
            "image_pixels": problem.pixels,
            "image_gap": problem.out_batch - problem.pixels,
            "residual_gap": (problem.residual_batch or 0) - problem.pixels,
        }
    )
    steps = step, Step(Code(direct, element), fields)
    return Plan(steps, 0 if is_own else copy, own, element, multiplying + packing, tuple(tables)), tile
