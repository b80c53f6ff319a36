"""Convolution with every register tile and source, at every remainder, in watched memory."""

import itertools
import sys

import numpy as np
import pytest
from conftest import (
    DTYPES,
    FILLED_MEMORY,
    LAYOUTS,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    between,
    integers,
    run_apart,
)

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.kernels import lanes as lanes_for
from fastpool.kernels.tiles import TARGET, TILE_SHAPES

TILES = TILE_SHAPES[TARGET.registers]
JOINED = ", rows joined"

#: Padding is only at the begin, so that a narrower input gives the first columns of the wide one's result.
REMAINDERS = {
    "in place": {"kernel": (2, 2), "stride": (1, 1), "begin": (0, 0), "groups": 1},
    "in place, rows joined": {"kernel": (2, 1), "stride": (1, 1), "begin": (0, 0), "groups": 2},
    "shared": {"kernel": (2, 3), "stride": (1, 1), "begin": (1, 2), "groups": 2},
    "shared, rows joined": {"kernel": (1, 2), "stride": (1, 2), "begin": (0, 0), "groups": 1},
    "private": {"kernel": (3, 2), "stride": (1, 2), "begin": (0, 1), "groups": 2},
    "private, row by row": {"kernel": (1, 2), "stride": (2, 3), "begin": (1, 0), "groups": 1},
}


def remainders(tile, dtype, geometry):
    """Give problems of all output channels up to one more than a block, and all widths up to one more than two tiles.

    Each is a function of two functions, which place its inputs and its output in memory, and the result it must have.
    """
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    most_channels, most_columns = tile.block(lanes) + 1, 2 * tile.pixels(lanes) + 1
    (kh, kw), (sh, sw), (top, left), groups = (geometry[k] for k in ("kernel", "stride", "begin", "groups"))
    rows = 2
    x = integers(1, (2, 2 * groups, (rows - 1) * sh + kh - top, (most_columns - 1) * sw + kw - left), dtype)
    weight = integers(2, (groups, most_channels, 2, kh, kw), dtype, 4)
    bias = integers(3, (groups, most_channels), dtype)
    residual = integers(4, (2, groups, most_channels, rows, most_columns), dtype)
    padding = ((top, 0), (left, 0))
    options = {"stride": (sh, sw), "padding": padding, "groups": groups}
    flat = oracle.conv2d(x, weight.reshape(-1, 2, kh, kw), bias.reshape(-1), residual=None, **options)
    reference = flat.reshape(residual.shape) + residual

    def problem(channels, columns):
        def run(place, place_out):
            arrays = (
                x[..., : (columns - 1) * sw + kw - left],
                weight[:, :channels].reshape(-1, 2, kh, kw),
                bias[:, :channels].reshape(-1),
            )
            shape = (2, groups * channels, rows, columns)
            addend = place(np.ascontiguousarray(residual[:, :, :channels, :, :columns]).reshape(shape))
            out = place_out(shape)
            fastpool.conv2d(*map(place, map(np.ascontiguousarray, arrays)), residual=addend, out=out, **options)
            assert_close(out, reference[:, :, :channels, :, :columns].reshape(shape))

        return run

    for columns in range(1, most_columns + 1):
        yield columns, problem(1 + columns % most_channels, columns)
    for channels in range(1, most_channels + 1):
        columns = most_columns - channels % (tile.pixels(lanes) + 1)
        yield columns, problem(channels, columns)


def read_in_place(tile, dtype, source, columns):
    """Whether a row of the problem, or its joined rows, is long enough for the tile."""
    pixels = tile.pixels(lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))
    return columns * (2 if source.endswith(JOINED) else 1) >= pixels


@pytest.mark.parametrize("source", REMAINDERS)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.role}{tile.vectors}x{tile.width}")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tile_at_every_remainder(planner, dtype, tile, source):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    name, joined = source.removesuffix(JOINED), source.endswith(JOINED)
    planner.force(tile, name)
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype, contiguous=len(frames) % 4 != 3))
        return frames[-1].array

    for columns, run in remainders(tile, dtype, REMAINDERS[source]):
        if name == "in place" and not read_in_place(tile, dtype, source, columns):
            continue
        run(lambda a: between(a, np.nan), place_out)
        if not joined:  # rows that are apart in memory cannot be
            run(LAYOUTS["within a larger one"], place_out)
    assert not joined or all(plan.steps[-1].fields["out_rows"] == 1 for plan in planner.plans)
    planner.assert_taken(tile, name)
    assert len(frames) > tile.pixels(lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))
    for frame in frames:
        frame.assert_kept()


def check_guarded_memory(dtype_name):
    """Every tile and source, with forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for tile, source in itertools.product(TILES, REMAINDERS):
        with pytest.MonkeyPatch.context() as patch:
            planner = Planner(patch)
            planner.force(tile, source.removesuffix(JOINED))
            for index, (_, run) in enumerate(remainders(tile, dtype, REMAINDERS[source])):
                if index % 3 == 0:
                    memory = GuardedMemory()
                    at_end = index % 2 == 0
                    run(
                        lambda a, m=memory, e=at_end: m.array(a, e),
                        lambda s, m=memory, e=at_end: m.array(np.zeros(s, dtype), e),
                    )
            assert len(planner.plans) > 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_tiles", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


def test_every_tile_of_this_processor_is_known():
    """The tests above iterate the table that plans choose from; it may not be empty or hold a tile twice."""
    assert len(set(TILES)) == len(TILES) > 5
    assert {tile.role for tile in TILES} == {"channels", "pixels"}
    assert all(tile.vectors * tile.width + tile.vectors < TARGET.registers for tile in TILES)
