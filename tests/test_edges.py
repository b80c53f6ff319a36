"""What meets padding is left out: taps of rows, pixels of tiles that read x in place."""

from copy import deepcopy

import numpy as np
import pytest
from conftest import (
    DTYPES,
    TOLERANCE,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    between,
    needs_mprotect,
    noise,
    telling_tiles,
)
from hypothesis import given
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart
from sweeps import some, sweep

import fastpool
from fastpool import layer, oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.edges import NO_EDGES, edges_of, omitted_share, row_taps
from fastpool.plans.problem import Convolution
from fastpool.routines.direct import EDGED_ROWS, IN_PLACE, edged, has_edged, has_far, left_out_at
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import TILE_SHAPES

EVERY_TILE = telling_tiles(TILE_SHAPES[TARGET.registers])
TILES = [tile for tile in EVERY_TILE if tile.role == "channels"]
FLOAT32 = ELEMENT_TYPES[np.dtype(np.float32)]
FLAT = Axis(1, 1, 1, 1, 0, 0, 1)


def axis_of(size, kernel, stride, dilation, begin, end):
    return Axis(
        size, kernel, stride, dilation, begin, end, (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1
    )


@st.composite
def axes(draw):
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    begin, end = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    least = max(1, dilation * (kernel - 1) + 1 - begin - end)
    return axis_of(draw(st.integers(least, least + 40)), kernel, stride, dilation, begin, end)


def missing(axis, start, pixels):
    """Pixels of a tile that each tap does not find in x, one by one."""
    return [
        [
            t
            for t in range(pixels)
            if not 0 <= (start + t) * axis.stride - axis.pad_begin + tap * axis.dilation < axis.size
        ]
        for tap in range(axis.kernel)
    ]


@given(axes(), st.integers(1, 14))
def test_edges_are_what_lies_outside(axis, pixels):
    if pixels > axis.out:
        return
    starts = range(0, axis.out, pixels)
    found = edges_of(axis, starts, axis.out - pixels, pixels)
    wanted = [missing(axis, min(start, axis.out - pixels), pixels) for start in starts]
    if axis.pad_begin == axis.pad_end == 0:
        assert found is NO_EDGES
        assert not any(of_tap for of_tile in wanted for of_tap in of_tile)
        return

    def left_out(edge):
        return [
            sorted({*range(pixels)[:first], *range(pixels)[max(0, pixels - last) :]})
            for first, last in left_out_at(axis.kernel, axis.stride, edge)
        ]

    if found is None:  # there is a tile that no edge on either side would do for
        ways = [left_out(edge) for edge in np.ndindex(4, 4)]
        assert any(of_tile not in ways for of_tile in wanted)
        return
    for tile, of_tile in enumerate(wanted):
        # As `row_of_tiles` finds the entry of a tile.
        edge = found.entries[min(tile, max(found.begin, tile + found.begin + 1 - found.end))]
        assert of_tile == left_out(edge)
        assert edge != (0, 0) or found.begin <= tile < found.end


@pytest.mark.parametrize(
    ("size", "begin", "end", "entry"),
    [(28, 2, 2, (2, 1)), (29, 2, 2, (2, 2)), (28, 1, 2, (1, 2)), (28, 2, 0, (2, 0)), (27, 1, 1, (1, 1))],
)
def test_filters_of_5_at_stride_2_begin_and_end_anywhere(size, begin, end, entry):
    axis = axis_of(size, 5, 2, 1, begin, end)
    assert edges_of(axis, range(0, axis.out, axis.out), 0, axis.out).entries == (entry, (0, 0))


def problem_of(height, width, mode="zeros", finite=True, depth=FLAT):
    return Convolution(
        FLOAT32, 1, 4, 4, 1, (depth, height, width), (1, 1, 1, 1, 1), mode, -np.inf, np.inf, 1, None, finite=finite
    )


@given(axes(), axes())
def test_rows_of_taps_are_those_that_meet_x(height, width):
    problem = problem_of(height, width)
    found = row_taps(problem, height.out)
    for row in range(height.out):
        used = [
            tap
            for tap in range(height.kernel)
            if 0 <= row * height.stride - height.pad_begin + tap * height.dilation < height.size
        ]
        first, end = found[row]
        assert list(range(first // width.kernel, end // width.kernel)) == used
        assert first % width.kernel == end % width.kernel == 0
    share = omitted_share(problem, height.out, NO_EDGES, width.out)
    used = (found[:, 1] - found[:, 0]).sum()
    assert share == pytest.approx(1 - used / (height.out * problem.taps))


def test_all_taps_where_they_may_not_be_left_out():
    axis = axis_of(5, 3, 1, 1, 1, 1)
    assert row_taps(problem_of(axis, axis), 5).tolist() == [[3, 9], [0, 9], [0, 9], [0, 9], [0, 6]]
    assert row_taps(problem_of(axis, axis, mode="reflect"), 5).tolist() == [[0, 9]] * 5
    assert row_taps(problem_of(axis, axis, finite=False), 5).tolist() == [[0, 9]] * 5
    assert row_taps(problem_of(axis, axis), 1).tolist() == [[0, 9]]
    deep = problem_of(axis, axis, depth=axis_of(5, 3, 1, 1, 1, 1))
    assert row_taps(deep, 5).tolist() == [[0, 27]] * 5


def paddings(taps, stride):
    """Padding of rows and columns: half of the filter on both sides, or on one, or less; none between patches."""
    half = taps // 2 if stride < taps else 0
    fewer = [((0, 1), (1, 2)), ((1, 0), (2, 1))] if (taps, stride) == (5, 2) else []
    return [((1, 1), (half, half)), ((0, 2), (half, 0)), ((2, 0), (0, half)), *fewer]


def edged_cases(dtype):
    """Tile, taps of a row, stride: of a dtype.

    Each row of taps has the widest tile and every third of the others, so that three rows have all. float64 is the same
    code on half the lanes: it has every sixth.
    """
    step = {np.float32: 3, np.float64: 6}[dtype]
    for index, row in enumerate(EDGED_ROWS):
        if has_edged(*row, np.dtype(dtype).itemsize):
            for tile in [TILES[0], *TILES[1:][index % step :: step]]:
                yield tile, *row


def widths_for(tile, taps, stride, padding):
    """Widths of x for which there are edged tiles: as many outputs as the tile has pixels, up to some tiles more."""
    for out in range(tile.width, 3 * tile.width + 2):
        for spare in range(stride):
            width = (out - 1) * stride + taps - sum(padding) + spare
            if width < 1:
                continue
            axis = axis_of(width, taps, stride, 1, *padding)
            if edges_of(axis, range(0, axis.out, tile.width), axis.out - tile.width, tile.width) is not None:
                yield width


@pytest.mark.parametrize(
    ("tile", "taps", "stride", "dtype"),
    [
        pytest.param(
            *case, dtype, id=f"{case[1]} taps at stride {case[2]}-{dtype.__name__}-{case[0].vectors}x{case[0].width}"
        )
        for dtype in DTYPES
        for case in edged_cases(dtype)
    ],
)
@sweep
def test_every_edged_tile_at_every_width(planner, tile, taps, stride, dtype):
    """NaN surrounds x and must not leak in, and nothing around the output may change."""
    check_edged(planner, tile, taps, stride, dtype)
    planner.assert_taken(tile, "in place")


@pytest.mark.parametrize(("taps", "stride"), [row for row in EDGED_ROWS if has_far(row[0])])
@pytest.mark.parametrize("dtype", DTYPES)
@sweep
def test_edged_tiles_that_fetch_from_memory(planner, monkeypatch, taps, stride, dtype):
    """Rows of x and tiles of the output, where there is nothing to be fetched, too."""
    monkeypatch.setattr("fastpool.plans.ahead.FAR_BYTES", 0)
    for tile in TILES[:: len(TILES) // 2]:
        check_edged(planner, tile, taps, stride, dtype)
        fields = planner.plans[-1].steps[-1].fields
        assert fields["row_of_tiles"].shape[0] == edged(taps, stride, far=True)
        assert fields["x_ahead"] > 0
        assert fields["out_ahead"] == 2 * tile.width


def check_edged(planner, tile, taps, stride, dtype):
    """Require what tiles of so many taps give, at every width."""
    planner.force(tile, "in place")
    tried = 0
    weight = noise(1, (5, 3, 3, taps), dtype)
    for padding in paddings(taps, stride):
        conv = fastpool.Conv2d(weight, stride=(2, stride), padding=padding)
        for width in widths_for(tile, taps, stride, padding[1]):
            x = noise(width, (2, 3, 4, width), dtype)
            wanted = oracle.conv2d(x, weight, stride=(2, stride), padding=padding)
            frame = Frame(wanted.shape, dtype)
            residual = noise(2, wanted.shape, dtype)
            assert_close(conv(between(x, np.nan), out=frame.array), wanted)
            frame.assert_kept()
            assert_close(conv(between(x, np.nan), residual=residual), wanted + residual)
            tried += 1
    assert tried > tile.width


@pytest.mark.parametrize(
    ("dtype", "tile"),
    [(dtype, tile) for dtype in DTYPES for tile in EVERY_TILE],
    ids=lambda value: f"{value.role}{value.vectors}x{value.width}" if hasattr(value, "role") else value.__name__,
)
@pytest.mark.usefixtures("without_panels")
def test_padded_rows_in_place(planner, monkeypatch, dtype, tile):
    """Rows alone are padded: every tile reads x in place, and taps that would be outside are left out."""
    planner.force(tile)
    monkeypatch.setattr("fastpool.plans.direct._suits_in_place", lambda *_: True)
    pixels = tile.pixels(lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))
    for kernel, padding in (((3, 1), (1, 0)), ((5, 2), ((2, 4), (0, 0))), ((1, 1), ((3, 0), (0, 0)))):
        weight, bias = noise(1, (tile.block(8) + 1, 3, *kernel), dtype), noise(2, tile.block(8) + 1, dtype)
        conv = fastpool.Conv2d(weight, bias, padding=padding, algorithm="direct")
        for width in (pixels + 1, 2 * pixels + 1, 2 * pixels + 2):
            x = noise(width, (2, 3, 5, width), dtype)
            wanted = oracle.conv2d(x, weight, bias, padding=padding)
            frame = Frame(wanted.shape, dtype)
            assert_close(conv(between(x, np.nan), out=frame.array), wanted)
            frame.assert_kept()
    assert all(plan.omitted > 0 for plan in planner.plans)
    variants = {plan.steps[-1].fields["row_of_tiles"].shape[0] for plan in planner.plans}
    assert variants == {tile.role}
    planner.assert_taken(tile, "in place")


@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize("dtype", DTYPES)
def test_filters_of_one_column_read_padded_rows_in_place(planner, dtype):
    """Unless their weights are not finite: then the padding counts."""
    x, weight = noise(1, (1, 64, 17, 34), dtype), noise(2, (64, 64, 7, 1), dtype)
    for value, omits in ((1.0, True), (np.inf, False)):
        weight[3, 5, 2, 0] = value
        conv = fastpool.Conv2d(weight, padding=(3, 0))
        assert_close(conv(x), oracle.conv2d(x, weight, padding=(3, 0)))
        assert (planner.plans[-1].omitted > 0) == omits
        assert (planner.plans[-1].steps[-1].fields["source"] == IN_PLACE) == omits


def test_parts_of_the_channels(monkeypatch, planner):
    """Sums in parts add to what the neighbour of a tile has not written, edges or not."""
    monkeypatch.setattr("fastpool.plans.direct._BLOCK_BYTES", 1)
    monkeypatch.setattr("fastpool.plans.direct._PART_BYTES", 1024)
    tile = min((tile for tile in TILES if tile.vectors == 2), key=lambda tile: tile.width)
    planner.force(tile, "in place")
    for width in (14, 15, 27, 30):
        x, weight, bias = (
            noise(1, (1, 40, 7, width), np.float32),
            noise(2, (70, 40, 3, 3), np.float32),
            noise(3, 70, np.float32),
        )
        conv = fastpool.Conv2d(weight, bias, stride=2, padding=1, activation="relu")
        residual = noise(4, (1, 70, 4, (width + 1) // 2), np.float32)
        assert_close(
            conv(x, residual=residual), oracle.conv2d(x, weight, bias, 2, 1, residual=residual, activation="relu")
        )
    assert all(len(plan.steps) > 1 for plan in planner.plans)
    planner.assert_taken(tile, "in place")


#: A tile that may be edged, the narrowest: the planner may prefer lanes on pixels.
OF_CHANNELS = min(
    (tile for tile in TILE_SHAPES[TARGET.registers] if tile.role == "channels" and tile.vectors == 2),
    key=lambda tile: tile.width,
)
#: Input of which a row of outputs at stride 2 is one such tile.
OF_TILE = (1, 64, 2 * OF_CHANNELS.width, 2 * OF_CHANNELS.width)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(planner, value):
    """A zero of the padding times an infinite weight is NaN, so that nothing may be left out."""
    x = noise(1, (1, 3, 28, 28), np.float32)
    for place in np.ndindex(3, 3):
        weight = noise(2, (32, 3, 3, 3), np.float32)
        weight[(7, 1, *place)] = value
        conv = fastpool.Conv2d(weight, stride=2, padding=1)
        assert_close(conv(x), oracle.conv2d(x, weight, stride=2, padding=1))
    assert all(plan.omitted == 0 for plan in planner.plans)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_x_that_is_not_finite(planner, value):
    """At every corner and inside: it reaches those outputs that see it, and no others."""
    planner.force(OF_CHANNELS, "in place")
    weight = noise(2, (32, 3, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, stride=2, padding=1)
    for place in ((0, 0), (0, 27), (27, 0), (27, 27), (13, 14), (5, 27), (6, 0)):
        x = noise(1, (1, 3, 28, 28), np.float32)
        x[(0, 1, *place)] = value
        assert_close(conv(x), oracle.conv2d(x, weight, stride=2, padding=1))
    assert all(plan.omitted > 0 and plan.steps[0].fields["source"] == 0 for plan in planner.plans)


@pytest.mark.parametrize("source", ["shared", "private", "private, row by row", "private, in parts"])
@pytest.mark.parametrize("padding", [((2, 1), (1, 1)), ((5, 4), (0, 0)), ((0, 3), (2, 2))])
def test_rows_of_taps_are_left_out_of_packed_input(planner, source, padding):
    """Among them outputs that see nothing but padding, which are the bias."""
    for tile in TILE_SHAPES[TARGET.registers][::4]:
        planner.force(tile, source)
        x, weight, bias = (
            noise(1, (2, 6, 9, 11), np.float32),
            noise(2, (10, 3, 3, 3), np.float32),
            noise(3, 10, np.float32),
        )
        for stride in (1, (2, 1)):
            conv = fastpool.Conv2d(weight, bias, stride, padding, groups=2)
            assert_close(conv(x), oracle.conv2d(x, weight, bias, stride, padding, groups=2))
        assert all(plan.omitted > 0 for plan in planner.plans)
        planner.assert_taken(tile, source)


def test_copies_take_the_same_plan(planner, tmp_path):
    """Of weights of any kind of array: what is looked at is the convolution's own copy."""
    planner.force(OF_CHANNELS, "in place")
    weight = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(64, 64, 3, 3))
    weight[...] = noise(2, weight.shape, np.float32)
    x = noise(1, OF_TILE, np.float32)
    conv = fastpool.Conv2d(weight, stride=2, padding=1)
    assert conv.explain(x.shape).multiply_adds_done < conv.explain(x.shape).multiply_adds
    np.testing.assert_array_equal(conv(x), deepcopy(conv)(x))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": 1}, True),
        ({"padding": "same"}, True),
        ({"padding": ((0, 0), (0, 1))}, True),
        ({"padding": (0, 0)}, False),
        ({"padding": "valid"}, False),
        ({"padding": 1, "padding_mode": "reflect"}, False),
    ],
)
def test_weights_are_looked_at_where_they_meet_padding(monkeypatch, options, expected):
    looks = []
    monkeypatch.setattr("fastpool.convolution.are_finite", lambda weight: looks.append(weight.shape) or True)
    conv = fastpool.Conv2d(np.ones((4, 3, 3, 3), "f4"), **options)
    assert looks == [(4, 3, 3, 3)] * expected
    assert conv._layer.finite == expected


def test_all_weights_are_looked_at(monkeypatch):
    monkeypatch.setattr(layer, "_LOOK", 7)
    weight = np.ones((4, 3, 3, 3), "f4")
    assert layer.are_finite(weight)
    for place in range(weight.size):
        spoilt = weight.copy()
        spoilt.flat[place] = np.inf
        assert not layer.are_finite(spoilt)


def test_prepared_and_not_prepared_agree(planner):
    planner.force(OF_CHANNELS, "in place")
    x, weight = noise(1, (1, 64, 14, 14), np.float32), noise(2, (64, 64, 3, 3), np.float32)
    prepared = fastpool.Conv2d(weight, stride=2, padding=1, algorithm="direct")
    assert prepared.explain(x.shape).source == "in place"
    at_once = fastpool.conv2d(x, weight, stride=2, padding=1, algorithm="direct")
    np.testing.assert_allclose(prepared(x), at_once, rtol=0, atol=TOLERANCE[x.dtype] * np.abs(at_once).max())


def test_explain_counts_what_is_left_out(planner):
    planner.force(OF_CHANNELS, "in place")
    conv = fastpool.Conv2d(np.ones((64, 64, 3, 3), "f4"), stride=2, padding=1, algorithm="direct")
    found, taps = conv.explain(OF_TILE), 3 * OF_CHANNELS.width
    # A row of 3 taps for each row of outputs but the first, which has one less, and so with the columns.
    assert found.multiply_adds_done == found.multiply_adds * (taps - 1) ** 2 // taps**2
    assert "padding, which is left out" in str(found)


def check_guarded_memory(dtype_name):
    """Every edged tile with forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    cases = [(*case, padding) for case in edged_cases(dtype) for padding in paddings(*case[1:])]
    for index, (tile, taps, stride, padding) in enumerate(some(cases, 3, DTYPES.index(dtype))):
        with pytest.MonkeyPatch.context() as patch:
            planner = Planner(patch)
            planner.force(tile, "in place")
            weight = noise(1, (5, 3, 3, taps), dtype)
            conv = fastpool.Conv2d(weight, stride=(2, stride), padding=padding)
            widths = list(widths_for(tile, taps, stride, padding[1]))
            for width in some(widths[index % 3 :: 3], 2):
                for at_end in (False, True):
                    memory = GuardedMemory()
                    x = memory.array(noise(width, (1, 3, 4, width), dtype), at_end)
                    wanted = oracle.conv2d(x, weight, stride=(2, stride), padding=padding)
                    assert_close(conv(x, out=memory.array(np.zeros_like(wanted), at_end)), wanted)
            if len(widths) > 2:
                planner.assert_taken(tile, "in place")


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_edges", "check_guarded_memory", dtype, environment=FILLED_MEMORY)
