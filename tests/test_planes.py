"""Packing of planes that a few vectors hold: each vector of the packed channel is put together in registers."""

from itertools import product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    between,
    every_dtype,
    lanes_of,
    needs_mprotect,
    noise,
)
from processes import FILLED_MEMORY, run_apart
from test_joined import join_all
from volumes import DEPTHS, conv3d

import fastpool
from fastpool import oracle
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.plans import packing
from fastpool.routines.pack import PLANE_VECTORS, pack_planes

pytestmark = pytest.mark.skipif(not PLANE_VECTORS, reason="needs AVX-512, which permutes elements of two vectors")

#: Filter and options: padding of each side, strides, dilations, taps that meet nothing but padding.
FILTERS = [
    ((1, 2), {}),
    ((3, 3), {"padding": 1}),
    ((2, 3), {"padding": ((0, 2), (1, 0)), "stride": (2, 1)}),
    ((3, 2), {"padding": 2, "dilation": (2, 3), "stride": 2}),
]


def sizes(dtype):
    """Rows and columns of planes of one element up to all that eight vectors hold, with every number of them."""
    lanes = lanes_of(dtype)
    return [
        (1, 1),
        (3, 2),
        (1, lanes - 1),
        (2, lanes // 2),
        (lanes - 1, 2),
        (4, lanes // 2),
        (3, lanes),
        (4, lanes - 1),
        (4, lanes),
        (8, lanes - 1),
    ]


def pack_all(patch, way):
    """Let planes be packed in registers wherever they can be, joined or not."""
    patch.setattr(packing, "_TABLE_CYCLES", 0.0)
    patch.setattr(packing, "_ONE_BY_ONE_CYCLES", np.inf)
    planner = Planner(patch)
    if way == "joined":
        join_all(patch)
        planner.forget()
    else:
        planner.force(source=way)
    return planner


def packed_by(planner):
    """Vectors of the planes that were packed in registers since the last call, or 0, of each plan that packs."""
    steps = [plan.steps[0].fields for plan in planner.plans]
    codes = [fields["pack_channel"] for fields in steps if fields.get("pack_channel")]
    planner.plans.clear()
    return [code.shape[1] if code.routine is pack_planes else 0 for code in codes]


@pytest.fixture(params=["joined", "shared", "own"])
def in_registers(request, monkeypatch):
    yield pack_all(monkeypatch, request.param)
    Planner.forget()


@every_dtype
def test_planes_of_every_size(in_registers, dtype):
    """NaN lies between planes and must not leak in, and nothing around the output may change."""
    taken = []
    for (kernel, options), size, images in product(FILTERS, sizes(dtype), (1, 3)):
        weight, x = noise(1, (5, 9, *kernel), dtype), noise(2, (images, 9, *size), dtype)
        try:
            wanted = oracle.conv2d(x, weight, **options)
        except ValueError:
            continue  # the filter is larger than the padded plane
        conv, frame = fastpool.Conv2d(weight, algorithm="direct", **options), Frame(wanted.shape, dtype)
        assert_close(conv(between(x, np.nan), out=frame.array), wanted)
        frame.assert_kept()
        apart = np.full((2 * images, 18, *size), np.nan, dtype)
        apart[1::2, ::2] = x
        assert_close(conv(apart[1::2, ::2]), wanted)
        assert_close(conv(apart[1::2, ::2][::-1]), oracle.conv2d(x[::-1], weight, **options))
        taken += packed_by(in_registers)
    assert set(taken) == set(PLANE_VECTORS)


@every_dtype
@pytest.mark.parametrize("mode", DATA_PADDING_MODES)
def test_planes_padded_with_data(in_registers, dtype, mode):
    for size in sizes(dtype)[1:]:
        weight, x = noise(1, (5, 4, 2, 3), dtype), noise(2, (2, 4, *size), dtype)
        options = {"padding": ((1, 0), (0, 1)), "padding_mode": mode}
        try:
            wanted = oracle.conv2d(x, weight, **options)
        except ValueError:
            continue  # of one element nothing can be reflected
        assert_close(fastpool.Conv2d(weight, algorithm="direct", **options)(x), wanted)
    assert any(packed_by(in_registers))


def of_both(value):
    """Give a value of rows and columns that may be the same for both."""
    return (value, value) if isinstance(value, int) else value


def volumes(depth, size, dtype):
    """Volumes whose planes are of a size, filters and options for them, and what the convolution gives."""
    taps, stride, dilation, pads, depths = DEPTHS[depth]
    for kernel, of_planes in FILTERS:
        weight, x = noise(1, (5, 3, taps, *kernel), dtype), noise(2, (2, 3, depths, *size), dtype)
        options = {
            "stride": (stride, *of_both(of_planes.get("stride", 1))),
            "padding": [pads, *map(of_both, of_both(of_planes.get("padding", 0)))],
            "dilation": (dilation, *of_both(of_planes.get("dilation", 1))),
        }
        try:
            wanted = conv3d(x, weight, None, **options, groups=1)
        except ValueError:
            continue  # the filter is larger than the padded plane
        yield x, weight, options, wanted


@every_dtype
@pytest.mark.parametrize("way", ["shared", "own"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_planes_of_volumes(monkeypatch, depth, way, dtype):
    """Each plane of a volume is one, wherever it lies; NaN lies between them."""
    planner, taken = pack_all(monkeypatch, way), []
    for size in sizes(dtype):
        for x, weight, options, wanted in volumes(depth, size, dtype):
            conv, frame = fastpool.Conv3d(weight, algorithm="direct", **options), Frame(wanted.shape, dtype)
            assert_close(conv(between(x, np.nan), out=frame.array), wanted)
            frame.assert_kept()
            apart = np.full((2, 6, 2 * x.shape[2], *size), np.nan, dtype)
            apart[:, 1::2, 1::2] = x[:, :, ::-1]
            assert_close(conv(apart[:, 1::2, 1::2][:, :, ::-1]), wanted)
            taken += packed_by(planner)
    Planner.forget()
    assert set(taken) >= set(PLANE_VECTORS)


@every_dtype
@pytest.mark.parametrize("mode", DATA_PADDING_MODES)
def test_volumes_padded_with_data(monkeypatch, dtype, mode):
    planner = pack_all(monkeypatch, "shared")
    weight, x = noise(1, (5, 4, 3, 2, 3), dtype), noise(2, (2, 4, 5, 4, 3), dtype)
    pads = [(2, 1), (1, 0), (0, 1)]
    padded = np.pad(x, [(0, 0), (0, 0), *pads], {"replicate": "edge", "circular": "wrap"}.get(mode, mode))
    wanted = conv3d(padded, weight, None, (2, 1, 1), [(0, 0)] * 3, (1, 1, 1), 1)
    options = {"stride": (2, 1, 1), "padding": pads, "padding_mode": mode}
    assert_close(fastpool.Conv3d(weight, algorithm="direct", **options)(x), wanted)
    assert packed_by(planner) == [1 if dtype == np.float32 else 2]
    Planner.forget()


@every_dtype
def test_what_no_vectors_hold(in_registers, dtype):
    """Larger planes, and rows or columns that do not lie side by side, are packed in other ways."""
    lanes = lanes_of(dtype)
    weight = noise(1, (5, 4, 3, 2), dtype)
    for size, part in [
        ((8, lanes), np.s_[:]),
        ((4, 8), np.s_[..., ::2]),
        ((4, 8), np.s_[..., :3]),
        ((4, 3), np.s_[..., ::-1]),
        ((4, 3), np.s_[:, :, ::-1]),
    ]:
        x = noise(2, (2, 4, *size), dtype)[part]
        assert_close(fastpool.Conv2d(weight, algorithm="direct", padding=1)(x), oracle.conv2d(x, weight, padding=1))
    assert not any(packed_by(in_registers))


@every_dtype
def test_they_are_taken_where_they_pay(planner, dtype):
    """Of one image, whose vectors are whole; not of many images of a pixel or two each."""
    fastpool.Conv2d(noise(1, (48, 384, 5, 5), dtype), stride=2, padding=4, dilation=2).explain((1, 384, 9, 3))
    assert packed_by(planner) == [2 if dtype == np.float32 else 4]
    fastpool.Conv2d(noise(1, (256, 64, 2, 2), dtype)).explain((16, 64, 2, 3))
    assert packed_by(planner) == [0]


def check_that_nothing_beyond_an_array_is_touched():
    for way, dtype in product(("joined", "shared", "own"), DTYPES):
        with pytest.MonkeyPatch.context() as patch:
            planner, memory = pack_all(patch, way), GuardedMemory()
            for (kernel, options), size, at_end in product(FILTERS, sizes(dtype)[3:], (False, True)):
                weight, x = noise(1, (5, 4, *kernel), dtype), noise(2, (2, 4, *size), dtype)
                wanted = oracle.conv2d(x, weight, **options)
                out = memory.array(np.zeros_like(wanted), at_end)
                conv = fastpool.Conv2d(weight, algorithm="direct", **options)
                assert_close(conv(memory.array(x, at_end), out=out), wanted)
            for depth, size, at_end in product(DEPTHS if way != "joined" else (), sizes(dtype)[3:5], (False, True)):
                for x, weight, options, wanted in volumes(depth, size, dtype):
                    out = memory.array(np.zeros_like(wanted), at_end)
                    conv = fastpool.Conv3d(weight, algorithm="direct", **options)
                    assert_close(conv(memory.array(x, at_end), out=out), wanted)
            assert any(packed_by(planner))


@needs_mprotect
def test_nothing_beyond_an_array_is_touched():
    run_apart("test_planes", "check_that_nothing_beyond_an_array_is_touched", environment=FILLED_MEMORY)
