"""Direct convolution with every register tile and source, at every remainder, in watched memory."""

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    Frame,
    Planner,
    Prefixes,
    assert_close,
    between,
    integers,
    needs_mprotect,
    telling_tiles,
)
from processes import FILLED_MEMORY, run_apart
from sweeps import some, sweep

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.machine.processor import TARGET
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import TILE_SHAPES, TileShape

TILES = telling_tiles(TILE_SHAPES[TARGET.registers])
JOINED, AS_THEY_ARE = ", rows joined", ", of rows as they are"

SOURCES = {
    "in place": {"kernel": (2, 2), "groups": 1},
    "in place, rows joined": {"kernel": (2, 1), "groups": 2},
    "in place, strided": {"kernel": (1, 1), "stride": (2, 3), "groups": 2},
    "in place, strided rows of taps": {"kernel": (2, 4), "stride": (1, 2), "groups": 1},
    "in place, edged": {"kernel": (2, 3), "stride": (1, 2), "groups": 2},
    "shared": {"kernel": (2, 3), "begin": (1, 2), "groups": 2},
    "shared, rows joined": {"kernel": (1, 2), "stride": (1, 2), "groups": 1},
    "own": {"kernel": (2, 3), "begin": (1, 2), "groups": 2},
    "private": {"kernel": (3, 2), "stride": (1, 2), "begin": (0, 1), "groups": 2},
    "private, row by row": {"kernel": (1, 2), "stride": (2, 3), "begin": (1, 0), "groups": 1},
    "private, in parts": {"kernel": (3, 3), "stride": (2, 2), "begin": (0, 1), "groups": 2},
}
if TARGET.registers == 16:
    SOURCES |= {
        "panels": {"kernel": (2, 3), "stride": (1, 2), "begin": (1, 0), "groups": 2},
        "panels, of rows as they are": {"kernel": (1, 1), "groups": 2},
        "panels, shared": {"kernel": (1, 1), "stride": (2, 1), "groups": 1},
        "panels, own": {"kernel": (1, 1), "stride": (2, 1), "groups": 1},
        "panels, in parts": {"kernel": (1, 3), "begin": (0, 2), "groups": 2},
        "panels, shared, in parts": {"kernel": (3, 1), "groups": 1},
    }


#: Variants of tiles of channels.
OF_CHANNELS = ("strided", "edged")
CASES = [
    (tile, source)
    for tile in TILES
    for source in SOURCES
    if tile.role == "channels" or not any(variant in source for variant in OF_CHANNELS)
    if "own" not in source or tile in (TILES[0], TILES[-1])  # tiles read what a thread has packed as what all have
]


def kind_of(source):
    """Name of a source among those that a planner can be made to take."""
    return "in place" if source.startswith("in place") else source.removesuffix(JOINED).removesuffix(AS_THEY_ARE)


def remainders(tile, dtype, source):
    """Give all output channels up to one and a half blocks and one, and all widths up to two tiles and one.

    Each comes as a problem and its part: (channels, rows, columns).
    """
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    pixels, rows = tile.pixels(lanes), 2
    most_channels, most_columns = tile.block(lanes) * 3 // 2 + 1, 2 * pixels + 1
    problem = Prefixes(dtype, group_in=2, group_out=most_channels, size=(rows, most_columns), **SOURCES[source])
    parts = [(1 + columns % most_channels, columns) for columns in range(1, most_columns + 1)]
    parts += [(channels, most_columns - channels % (pixels + 1)) for channels in range(1, most_channels + 1)]
    for channels, columns in parts:
        # Of one column the rows are joined, and have no edges. To be read in place, a row, or the rows joined, must be
        # as long as the tile.
        if "edged" in source and columns == 1:
            continue
        if not source.startswith("in place") or columns * (rows if source.endswith(JOINED) else 1) >= pixels:
            yield problem, (channels, rows, columns)


#: float64 is the same code on half the lanes: every third of the cases has it.
OF_DTYPES = [(dtype, *case) for dtype, every in zip(DTYPES, (1, 3), strict=True) for case in CASES[::every]]


@pytest.mark.parametrize(
    ("dtype", "tile", "source"),
    [
        pytest.param(dtype, tile, source, id=f"{dtype.__name__}-{tile.role}{tile.vectors}x{tile.width}-{source}")
        for dtype, tile, source in OF_DTYPES
    ],
)
@sweep
def test_every_tile_at_every_remainder(planner, dtype, tile, source):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    name, joined = kind_of(source), source.endswith(JOINED)
    planner.force(tile, name)
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype, contiguous=len(frames) % 4 != 3))
        return frames[-1].array

    for index, (problem, part) in enumerate(remainders(tile, dtype, source)):
        apart = index % 2 and not joined  # rows that are apart in memory cannot be joined
        problem.check(*part, LAYOUTS["within a larger one"] if apart else lambda a: between(a, np.nan), place_out)
    assert not joined or all(plan.steps[-1].fields["out_rows"] == 1 for plan in planner.plans)
    for variant in OF_CHANNELS:
        if variant in source:
            assert {plan.steps[-1].fields["row_of_tiles"].shape[0].split()[0] for plan in planner.plans} == {variant}
    planner.assert_taken(tile, name)
    assert len(frames) > tile.pixels(lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))
    for frame in frames:
        frame.assert_kept()


def check_guarded_memory(dtype_name):
    """Every tile and source, with forbidden pages right after or right before each array."""
    cases = [case[1:] for case in OF_DTYPES if case[0] == np.dtype(dtype_name)]
    for tile, source in some(cases, 3, DTYPES.index(np.dtype(dtype_name))):
        with pytest.MonkeyPatch.context() as patch:
            planner = Planner(patch)
            planner.force(tile, kind_of(source))
            for index, (problem, part) in enumerate(remainders(tile, np.dtype(dtype_name).type, source)):
                if index % 3 == 0:
                    problem.check_guarded(*part, at_end=index % 2 == 0)
            planner.assert_taken(tile, kind_of(source))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("without_panels")
def test_pixels_that_are_fetched_ahead(planner, monkeypatch, dtype):
    """Of the next tiles, or the next row, which may not be there, and outputs; nothing that is computed differs."""
    monkeypatch.setattr("fastpool.plans.direct.LEVEL_2_BYTES", 0)
    monkeypatch.setattr("fastpool.plans.ahead.FAR_BYTES", 0)
    for tile in (TILES[0], next(tile for tile in TILES if tile.role == "pixels")):
        planner.force(tile, "in place")
        for stride in (1, 2) if tile.role == "channels" else (1,):
            x, weight = integers(1, (2, 5, 3, 101), dtype), integers(2, (70, 5, 1, 1), dtype)
            found = fastpool.conv2d(between(x, np.nan), weight, stride=stride)
            assert_close(found, oracle.conv2d(x, weight, stride=stride))
            fields = planner.plans[-1].steps[-1].fields
            assert fields["x_ahead"] > 0
            assert fields["out_ahead"] == 2 * fields["pixels"]


@pytest.mark.parametrize("shape", [(1, 512, 7, 7), (1, 300, 5, 5)], ids=str)
def test_weights_that_are_fetched_ahead_end_with_the_next_block(planner, shape):
    x, weight = integers(1, shape, np.float32), integers(2, (700, shape[1], 1, 1), np.float32)
    assert_close(fastpool.conv2d(x, weight), oracle.conv2d(x, weight))
    fields = planner.plans[-1].steps[-1].fields
    assert fields["lines_ahead"] > 0
    fetched = fields["tiles_fetching"] * fields["tile_ahead"]
    assert fields["weights_block"] <= fetched < fields["weights_block"] + fields["tile_ahead"]


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_tiles", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


def test_every_tile_of_this_processor_is_known():
    """The tests above iterate the table that plans choose from; it may not be empty or hold a tile twice."""
    every = TILE_SHAPES[TARGET.registers]
    assert len(set(every)) == len(every) > 5
    assert {tile.role for tile in every} == {"channels", "pixels"}
    assert all(tile.vectors * tile.width + tile.vectors < TARGET.registers for tile in every)


@pytest.mark.skipif(TARGET.registers == 16, reason="a vector is half of a block, whose tiles are too narrow for one")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_block_takes_one_vector_if_that_holds_it(planner, dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    planner.force(next(tile for tile in TILES if tile.role == "channels" and tile.vectors == 2))
    for channels in (lanes, 2 * lanes, 2 * lanes + 1, 3 * lanes, 3 * lanes + 1):
        x, weight = integers(1, (1, 3, 6, 30), dtype), integers(2, (channels, 3, 3, 3), dtype)
        residual = integers(3, (1, channels, 6, 30), dtype)
        found = fastpool.conv2d(x, weight, padding=1, residual=residual, activation="relu")
        assert_close(found, oracle.conv2d(x, weight, padding=1, residual=residual, activation="relu"))
        fields = planner.plans.pop().steps[-1].fields
        is_half = channels > lanes and 0 < channels % (2 * lanes) <= lanes
        assert (fields["row_of_last"].shape[1], fields["row_of_tiles"].shape[1]) == (1 if is_half else 2, 2)
        assert fields["row_of_last"].shape[2] == fields["row_of_tiles"].shape[2]


#: Single taps, whose last tile of a row may be narrower.
ROWS = {
    "in place": {"kernel": (1, 1), "groups": 1},
    "in place, strided": {"kernel": (1, 1), "stride": (1, 2), "groups": 2},
    "shared": {"kernel": (1, 1), "begin": (0, 1), "groups": 2},
}


def rows_with_a_rest(planner, dtype, source):
    """Force wide tiles; give rows of up to two and a half, last blocks of two vectors, of one and of few channels."""
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    tile = TileShape("channels", 2, 13 if np.dtype(dtype).itemsize == 4 else 8)
    planner.force(tile, kind_of(source))
    problem = Prefixes(dtype, group_in=3, group_out=4 * lanes, size=(1, 5 * tile.width // 2), **ROWS[source])
    for columns in range(tile.width, 5 * tile.width // 2 + 1):
        yield problem, ((4 * lanes, 3 * lanes, 3 * lanes + 1)[columns % 3], 1, columns)
        fields, rest = planner.plans[-1].steps[-1].fields, columns % tile.width
        is_narrow = columns > tile.width and rest >= 3
        assert fields["row_of_rest"].shape[1:] == (2, rest if is_narrow else tile.width)
        assert fields["whole_tiles"] == fields["tiles"] - is_narrow
        # A last block of fewer vectors has its own tiles, all of them as wide.
        assert fields["whole_of_last"] == fields["tiles"] - (is_narrow and fields["row_of_last"].shape[1] == 2)
    planner.assert_taken(tile, kind_of(source))


@pytest.mark.skipif(TARGET.registers == 16, reason="a tile of few pixels spares little")
@pytest.mark.parametrize("source", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_tile_of_a_row_is_as_narrow_as_the_rest(planner, dtype, source):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype))
        return frames[-1].array

    for problem, part in rows_with_a_rest(planner, dtype, source):
        problem.check(*part, lambda a: between(a, np.nan), place_out)
        frames[-1].assert_kept()


def check_guarded_rows(source):
    """The same, with forbidden pages right after or right before each array."""
    with pytest.MonkeyPatch.context() as patch:
        for index, (problem, part) in enumerate(rows_with_a_rest(Planner(patch), np.float32, source)):
            problem.check_guarded(*part, at_end=index % 2 == 0)


@needs_mprotect
@pytest.mark.skipif(TARGET.registers == 16, reason="a tile of few pixels spares little")
@pytest.mark.parametrize("source", ROWS)
def test_not_a_byte_beyond_such_a_row_is_touched(source):
    run_apart("test_tiles", "check_guarded_rows", source, environment=FILLED_MEMORY)
