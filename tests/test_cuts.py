"""Direct convolutions whose tasks pack for themselves: columns cut, and sums done in parts."""

import itertools
from collections import Counter

import numpy as np
import pytest
from conftest import LAYOUTS, Frame, assert_close, between, every_dtype, integers, lanes_of, noise, sums_of
from sweeps import sweep

import fastpool
from fastpool import oracle
from fastpool.arrays import ALIGNMENT
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.machine.processor import TARGET
from fastpool.plans import private
from fastpool.routines.tiles import TILE_SHAPES

#: A wide tile of each role.
TILES = [next(tile for tile in TILE_SHAPES[TARGET.registers] if tile.role == role) for role in ("channels", "pixels")]
every_tile = pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.role)


def pixels_of(tile, dtype):
    """Pixels of a tile."""
    return tile.pixels(lanes_of(dtype))


class Cuts:
    """What the plans since the last look were cut into."""

    def __init__(self, planner, monkeypatch):
        self._planner, self._patch = planner, monkeypatch

    def force(self, dtype, tile, room=None):
        """Let plans take a tile, cut rows and columns as far as they may, and sums into parts of so many elements."""
        self._planner.force(tile, "private, row by row")
        if room is not None:
            elements = room + pixels_of(tile, dtype) + lanes_of(dtype)
            self._patch.setattr(private, "SCRATCH_LIMIT", elements * np.dtype(dtype).itemsize + 3 * ALIGNMENT)
        self._planner.forget()

    def taken(self):
        """Give (columns cut, parts, which taps were cut) of each plan."""
        found = Counter()
        for plan in self._planner.plans:
            channels = {step.fields["first_channel"] for step in plan.steps}
            found["plans"] += 1
            found["columns"] += plan.steps[0].fields["tile_tasks"] > 1
            found["channels"] += len(channels) > 1
            found["taps"] += len(plan.steps) > len(channels)
        self._planner.plans.clear()
        return found


@pytest.fixture
def cuts(planner, monkeypatch):
    """Give `Cuts`."""
    return Cuts(planner, monkeypatch)


#: Stride, dilation and padding of the columns; kernel.
COLUMNS = [
    (1, 1, (0, 0), 3),
    (1, 1, (2, 1), 3),
    (2, 1, (1, 0), 3),
    (2, 3, (0, 4), 2),
    (3, 1, (2, 2), 4),
    (3, 2, (5, 0), 3),
    (4, 1, (2, 3), 6),
    (1, 5, (5, 5), 3),
]


@every_dtype
@every_tile
@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize("room", [None, 60 if TARGET.registers == 32 else 20])
@pytest.mark.parametrize(("stride", "dilation", "pads", "kernel"), COLUMNS)
@sweep
def test_columns_at_every_remainder(cuts, tile, room, stride, dilation, pads, kernel, dtype):
    """Every width up to four tiles and one; whole numbers, with a filler around x that must not be read."""
    cuts.force(dtype, tile, room)
    pixels, options = pixels_of(tile, dtype), {"stride": (1, stride), "dilation": (1, dilation)}
    reach, frames, wide = (kernel - 1) * dilation + 1, [], 0
    weight, bias = integers(1, (3, 2, 2, kernel), dtype, 4), integers(2, (3,), dtype)
    widths = range(1, 4 * pixels + 2)
    for width in widths if pixels < 20 else [*widths[: pixels + 2], *widths[pixels + 2 :: 7], *widths[-pixels:]]:
        size = (width - 1) * stride + reach - sum(pads)
        if size < 1:
            continue
        x = integers(width, (1, 2, 3, size + width % stride), dtype)
        expected = oracle.conv2d(x, weight, bias, padding=((0, 1), pads), **options)
        tiles = -(-expected.shape[-1] // pixels)
        wide += tiles > 1 and -(-tiles // 2) * pixels > (reach - 1) // stride  # halves have more columns than overlap
        frames.append(Frame(expected.shape, dtype))
        given = LAYOUTS["within a larger one"](x) if width % 2 else between(x, np.nan)
        fastpool.conv2d(given, weight, bias, padding=((0, 1), pads), out=frames[-1].array, **options)
        assert_close(frames[-1].array, expected)
        frames[-1].assert_kept()
    found = cuts.taken()
    assert found["columns"] >= wide > pixels / 2
    assert (found["channels"] > 0) == (room is not None)


@every_dtype
@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize("mode", ["zeros", *DATA_PADDING_MODES])
@pytest.mark.parametrize("room", [None, 150 if TARGET.registers == 32 else 60, 20])
def test_columns_of_every_padding(cuts, room, mode, dtype):
    """Paddings longer than a task, and than x; columns of x next to each other, apart, and backwards."""
    cuts.force(dtype, TILES[0], room)
    weight = integers(3, (5, 3, 2, 3), dtype, 4)
    for (pads, width), (stride, dilation), layout in itertools.product(
        [((0, 0), 90), ((3, 70), 40), ((65, 2), 30), ((50, 50), 1), ((1, 40), 8)],
        [(1, 1), (2, 1), ((1, 3), (1, 2))],
        ["contiguous", "every second column", "columns reversed"],
    ):
        x = integers(width, (2, 3, 4, width), dtype)
        arguments = (weight, None, stride, ((2, 1), pads), dilation)
        expected = oracle.conv2d(x, *arguments, padding_mode=mode)
        assert_close(fastpool.conv2d(LAYOUTS[layout](x), *arguments, padding_mode=mode), expected)
    found = cuts.taken()
    assert found["columns"] > found["plans"] / 3
    assert (found["channels"] > 0) == (room is not None)
    assert (found["taps"] > 0) == (room == 20)


@every_dtype
@every_tile
@pytest.mark.parametrize("room", [1, 40, 100, 250, 600])
@sweep
def test_parts_of_the_sums(cuts, tile, room, dtype):
    """Of 1 to 9 channels in 1 or 2 groups, and of filters of many shapes; bias, residual and activation come once."""
    cuts.force(dtype, tile, room)
    for channels, kernel in itertools.product([1, 2, 5, 9], [(1, 1), (3, 3), (1, 7), (8, 1), (5, 6), (2, 40), (11, 2)]):
        groups, stride, dilation = 1 + channels % 2, (1 + channels // 5, 1 + kernel[0] % 2), (1 + kernel[1] % 3, 1)
        x = integers(channels, (2, channels * groups, 35, 43), dtype, 3)
        weight, bias = integers(4, (4 * groups, channels, *kernel), dtype, 2), integers(5, (4 * groups,), dtype)
        options = {"stride": stride, "padding": ((1, 0), (0, 2)), "dilation": dilation, "groups": groups}
        expected = oracle.conv2d(x, weight, bias, **options)
        residual = integers(6, expected.shape, dtype)
        arrays = {"bias": bias, "residual": residual, "activation": (-20, 25)}
        assert_close(fastpool.conv2d(x, weight, bias, **options), expected)
        conv = fastpool.Conv2d(weight, bias, **options, activation=(-20, 25))
        clamped = oracle.conv2d(x, weight, **arrays, **options)
        assert 0 < (np.abs(clamped) < 20).sum() < clamped.size
        for out in (None, np.full_like(clamped, np.nan)):
            assert_close(conv(x, residual=residual, out=out), clamped)
    found = cuts.taken()
    assert found["channels"] > 3
    assert found["taps"] > 3 or room > 100


@every_dtype
def test_parts_with_nan_and_infinities(cuts, dtype):
    """They appear in the outputs that see them, whichever part they are in, and stay through the activation."""
    cuts.force(dtype, TILES[1], 30)
    clean = {"x": integers(7, (1, 6, 9, 50), dtype, 3), "weight": integers(8, (9, 6, 3, 4), dtype, 3)}
    clean |= {"bias": integers(9, (9,), dtype), "residual": integers(10, (1, 9, 9, 49), dtype)}
    for name, value, activation in itertools.product(clean, [np.nan, np.inf, -np.inf], [None, "relu6", (None, 1)]):
        arrays = {key: a.copy() for key, a in clean.items()}
        arrays[name].reshape(-1)[[arrays[name].size // 3, -1]] = value
        expected = oracle.conv2d(**arrays, padding=1, activation=activation)
        assert_close(fastpool.conv2d(**arrays, padding=1, activation=activation), expected)
    assert cuts.taken()["taps"]


@pytest.mark.parametrize("dtypes", [("int8", "int8"), ("uint8", "int8"), ("int16", "int32"), ("int64", "int8")])
@pytest.mark.parametrize("room", [None, 60 if TARGET.registers == 32 else 20])
def test_parts_of_integers(cuts, room, dtypes):
    """Sums wrap, in parts as well; limits of the result count once."""
    cuts.force(sums_of(*dtypes), TILES[0], room)
    x = np.random.default_rng(11).integers(0, 120, (2, 10, 7, 70)).astype(dtypes[0])
    weight = np.random.default_rng(12).integers(-120, 120, (8, 5, 3, 4)).astype(dtypes[1])
    for options in ({}, {"stride": 2, "dilation": (1, 5)}, {"padding_mode": "circular", "activation": (-9999, 12345)}):
        arguments = {"padding": (3, 8), "groups": 2} | options
        assert_close(fastpool.conv2d(x, weight, **arguments), oracle.conv2d(x, weight, **arguments))
    found = cuts.taken()
    assert found["columns"] == 3
    assert (found["channels"] == 3) == (room is not None)


def layers_of_other_ranks(axes, dtype):
    """Give arrays, options and what PyTorch computes in float64, which takes longer than all else."""
    torch = pytest.importorskip("torch")
    for kernel, dilation, size in itertools.product(
        [(3, 2, 5), (4, 3, 1), (1, 1, 30)], [1, 2, 7], [(9, 8, 75), (3, 2, 128)]
    ):
        kernel, size = (
            kernel[-axes:],
            tuple(2 * dilation * k + s for k, s in zip(kernel[-axes:], size[-axes:], strict=True)),
        )
        x, weight = noise(13, (2, 4, *size), dtype), noise(14, (6, 2, *kernel), dtype)
        for stride in (1, 2):
            options = {"stride": stride, "padding": 3, "dilation": dilation, "groups": 2}
            functional = getattr(torch.nn.functional, f"conv{axes}d")
            expected = functional(torch.from_numpy(x).double(), torch.from_numpy(weight).double(), None, **options)
            yield x, weight, options, expected.numpy().astype(dtype)


@every_dtype
@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.usefixtures("one_thread_of_pytorch")
@sweep
def test_other_ranks_against_pytorch_in_float64(cuts, axes, dtype):
    """Depths, rows and columns of the filter are cut."""
    layers = list(layers_of_other_ranks(axes, dtype))
    for room in (None, 30, 200):
        cuts.force(dtype, TILES[0], room)
        for x, weight, options, expected in layers:
            assert_close(getattr(fastpool, f"conv{axes}d")(x, weight, **options), expected)
        found = cuts.taken()
        assert found["columns"] > found["plans"] / 2
        assert (found["channels"] > 0) == (room is not None)
        assert found["taps"] > 0 or room != 30


@every_dtype
def test_taps_far_apart(cuts, dtype):
    """Rows between the taps are left out: fewer, as many, and more outputs of a task than rows from tap to tap."""
    for room in (None, 100):
        cuts.force(dtype, TILES[0], room)
        for dilation, stride, kernel in itertools.product([2, 3, 8, 15], [1, 2, 3], [1, 2, 4]):
            x = integers(15, (1, 3, 47, 30), dtype)
            weight = integers(16, (4, 3, kernel, 2), dtype, 4)
            for mode, pads in [("zeros", ((9, 4), (1, 1))), ("symmetric", ((30, 60), (0, 3)))]:
                arguments = (weight, None, stride, pads, (dilation, 1))
                expected = oracle.conv2d(x, *arguments, padding_mode=mode)
                assert_close(fastpool.conv2d(x, *arguments, padding_mode=mode), expected)


def test_rows_of_several_that_are_far_apart(planner, monkeypatch):
    """A task of 5 rows whose taps are 6 rows apart."""
    x, weight = integers(17, (2, 8, 60, 40), np.float32), integers(18, (8, 8, 3, 3), np.float32)
    planner.force(source="private")
    for rows in (1, 5, 6, 7, 20):
        monkeypatch.setattr(private, "_LEAST", rows)
        monkeypatch.setattr(private, "_TASKS", 2**60)
        planner.forget()
        for mode in ("zeros", "reflect"):
            arguments = (weight, None, 1, 6, 6)
            expected = oracle.conv2d(x, *arguments, padding_mode=mode)
            assert_close(fastpool.conv2d(x, *arguments, padding_mode=mode), expected)
    assert len({plan.steps[-1].fields["row_tasks"] for plan in planner.plans}) > 2


def test_the_real_limit():
    """Long filters of many channels: one row of them all is more than 16 MiB."""
    x, weight = noise(19, (1, 1024, 3100), np.float64), noise(20, (2, 1024, 3000), np.float64)
    conv = fastpool.Conv1d(weight, padding=((1, 0),))
    found = conv.explain(x.shape)
    assert found.parts == 2
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0)))
    pairs = [[np.correlate(a, b, "valid") for a, b in zip(padded[0], channels, strict=True)] for channels in weight]
    expected = np.array([np.sum(products, axis=0) for products in pairs])[np.newaxis]
    assert_close(conv(x), expected)
    assert_close(conv(x), expected)


@every_dtype
def test_long_rows(dtype):
    """As they come: 1-D, in many tasks, each of a part of the row."""
    x, weight = integers(21, (2, 16, 60_001), dtype), integers(22, (4, 16, 3), dtype, 4)
    conv = fastpool.Conv1d(weight, padding=1, stride=3)
    found = conv.explain(x.shape)
    assert found.source == "packed per task"
    assert found.tasks >= 8
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1))), 3, 2)[:, :, ::3]
    assert_close(conv(x), np.einsum("ncik,ock->noi", windows, weight, dtype=np.float64).astype(dtype))
