"""Which register tile a direct convolution takes: the cycles of each, waste at ragged edges included."""

from __future__ import annotations

from math import gcd

from fastpool.machine.processor import TARGET
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.tasks import Grid, last_tile, rest_tile
from fastpool.routines.direct import IN_PLACE
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import IS_ZEN_5, LEVEL_1_BYTES, TILE_SHAPES, TileShape

#: Bytes after which addresses fall into the same set of a level-1 cache.
ALIAS = 4096
#: Ways of a level-1 cache set, and cycles that a stored line takes longer which is no more there when the next tile
#: writes the rest of it. Measured on Zen 5: 3x3 from 3 to 64 channels of 224x224, whose planes are 49 times 4096 bytes
#: apart, takes 1.24 ms by 2x14 and 0.65 by 2x8 with lanes on pixels, of 220x220 0.53 and 0.49. Lanes on pixels write
#: whole vectors: to 96 of 96x96 a channel takes 6 longer by 2x14 and 2x12 than by 2x10.
_WAYS, _ALIASED_STORE, _ALIASED_PIXELS = 12, 20.0, 6.0
#: Cycles that a step of a single tap takes longer where pixels lie apart, each channel on a page of its own: 224 to 176
#: channels of 80x80 take 11.6 a step by 1x8, 18.3 by 2x8, 23.1 by 2x10.
APART_CYCLES = 3.0


def is_column(problem: Convolution) -> bool:
    """Whether rows have a pixel each: read in place, those of a column are a row, one row of x apart.

    3x300 filters over the words of a text, 100 of them on 50x300, take 50 us instead of 124.
    """
    return problem.axes[2].out == 1 and problem.axes[1].out > 1 and not problem.is_padded


def pixels_apart(problem: Convolution, packing: int) -> int:
    """Elements of the source from one pixel of a row to the next."""
    if packing != IN_PLACE:
        return 1
    return problem.axes[1].stride * problem.x_strides[3] if is_column(problem) else problem.axes[2].stride


def lie_apart(problem: Convolution) -> bool:
    """Whether the pixels of a row of x lie apart, or a tap does not find all of them."""
    return pixels_apart(problem, IN_PLACE) != 1 or problem.axes[2].is_padded


def tile_count(problem: Convolution, tile: TileShape, grid: Grid) -> int:
    """Tiles that are summed, of all blocks of channels."""
    lanes = lanes_for(problem.element)
    tiles = problem.images * grid.depths * grid.rows * ceil_div(grid.columns, tile.pixels(lanes))
    return tiles * problem.groups * ceil_div(problem.out_channels // problem.groups, tile.block(lanes))


def _aliased_cycles(problem: Convolution, tile: TileShape) -> float:
    """Cycles by which the stores of a tile take longer where more of its planes fall into a cache set than it holds."""
    if not IS_ZEN_5:
        return 0.0
    lanes = lanes_for(problem.element)
    planes_held = _WAYS * (ALIAS // gcd(problem.pixels * problem.element.size, ALIAS))
    if tile.role == "pixels":
        return _ALIASED_PIXELS * tile.width if tile.width >= planes_held else 0.0
    is_aliased = tile.block(lanes) > planes_held
    return _ALIASED_STORE * tile.block(lanes) * ceil_div(tile.width, lanes) if is_aliased else 0.0


def direct_cycles(problem: Convolution, tile: TileShape, grid: Grid, apart: int = 1) -> float:
    """Estimated cycles of one core for the multiplications and stores, of pixels so many elements `apart`."""
    lanes, reduction = lanes_for(problem.element), problem.channels // problem.groups * problem.taps
    pitch = apart * problem.element.size
    # A tile of one tap sees each line once. Of many channels all come from the level-2 cache, also weights that the
    # tile before has seen. Where registers are few pixels are packed in panels, which are read in order.
    are_many = TARGET.registers == 32 and problem.taps == 1 and reduction * 2 * TARGET.vector_bytes > LEVEL_1_BYTES

    def of_tile(tile: TileShape) -> float:
        is_far = are_many and reduction * tile.step_bytes(pitch) > LEVEL_1_BYTES
        step = tile.far_cycles(pitch) if is_far else tile.step_cycles if problem.taps == 1 else tile.seen_cycles
        return reduction * step + tile.store_cycles(lanes) + _aliased_cycles(problem, tile)

    tiles, last = tile_count(problem, tile, grid), last_tile(problem, tile)
    spared = of_tile(tile) - of_tile(rest_tile(problem, tile, grid.columns))
    whole = of_tile(tile) - spared / ceil_div(grid.columns, tile.pixels(lanes))
    if last is tile:
        return tiles * whole
    blocks = ceil_div(problem.out_channels // problem.groups, tile.block(lanes))
    # Blocks of two sizes are shared out less evenly: 1x1 from 256 to 144 channels of 14x14 takes 7 % more so.
    return tiles * (1 + 0.25 / blocks) * ((blocks - 1) * whole + of_tile(last)) / blocks


def choose_tile(problem: Convolution, grid: Grid, apart: bool = False, in_place: bool = False) -> TileShape:
    """Tile with the fewest cycles, waste at ragged edges included; or of those for pixels that lie `apart`."""
    return min(compared(problem, grid, apart, in_place).items(), key=lambda found: found[1])[0]


def compared(problem: Convolution, grid: Grid, apart: bool, in_place: bool) -> dict[TileShape, float]:
    """Estimated cycles of each tile; pixels that lie apart are single numbers, beside channels as lanes.

    In place, a tile is no wider than a row, if there is one. 60 layers of maps of 2x2 to 8x9 take 0.92 of the time so,
    as more of them can be read in place: 1x1 from 288 to 512 channels of four times 7x5 in 32 groups 17 us, and not 31.
    """
    lanes = lanes_for(problem.element)
    # Of 36 layers of a single tap half took more than 10 % longer by the best tile of three vectors than by another.
    tiles = TILE_SHAPES[TARGET.registers]
    if problem.taps == 1:
        tiles = tuple(tile for tile in tiles if (tile.role, tile.vectors) != ("channels", 3))
    if apart:
        tiles = tuple(tile for tile in tiles if tile.role == "channels")
    if apart or in_place:
        tiles = tuple(tile for tile in tiles if tile.pixels(lanes) <= grid.columns) or tiles
    if not apart:
        return {tile: direct_cycles(problem, tile, grid) for tile in tiles}
    longer = APART_CYCLES * (problem.channels // problem.groups) if problem.taps == 1 else 0.0
    pitch = pixels_apart(problem, IN_PLACE)
    return {
        tile: direct_cycles(problem, tile, grid, pitch) + longer * tile_count(problem, tile, grid) for tile in tiles
    }
