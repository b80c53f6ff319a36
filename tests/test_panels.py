"""Panels of volumes: each depth of the result has tiles of its own. Those of planes: `test_tiles`."""

from itertools import product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    OF_PANELS,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    between,
    every_dtype,
    needs_mprotect,
    needs_threads,
    noise,
)
from processes import FILLED_MEMORY, run_apart
from volumes import DEPTHS, conv3d

import fastpool
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.machine.processor import TARGET
from fastpool.routines.direct import IN_PLACE, OWN, PRIVATE, SHARED

pytestmark = pytest.mark.skipif(TARGET.registers != 16, reason="panels are for few registers")

#: Filter, stride, dilation and padding of rows and columns, and groups.
FILTERS = [
    ((1, 1), (1, 1), (1, 1), [(0, 0), (0, 0)], 2),
    ((1, 1), (2, 2), (1, 1), [(0, 0), (0, 0)], 1),
    ((3, 3), (2, 2), (1, 1), [(1, 1), (1, 1)], 1),
    ((2, 3), (1, 2), (2, 1), [(0, 1), (2, 0)], 2),
    ((2, 3), (2, 3), (1, 1), [(1, 0), (1, 1)], 1),  # each row of x is one that a column sees
]


def layers(depth, dtype):
    """Volumes, filters and options for them, and what the convolution gives."""
    taps, stride, dilation, pads, depths = DEPTHS[depth]
    for seed, (kernel, strides, dilations, padding, groups) in enumerate(FILTERS):
        for size in ((7, 9), (4, 5)):
            x = noise(seed, (2, 18, depths, *size), dtype)
            weight = noise(seed + 9, (22, 18 // groups, taps, *kernel), dtype)
            options = {
                "stride": (stride, *strides),
                "padding": [pads, *padding],
                "dilation": (dilation, *dilations),
                "groups": groups,
            }
            bias = noise(seed + 18, 22, dtype)
            yield x, weight, bias, options, conv3d(x, weight, bias, **options)


def take_panels(patch, source):
    """Let panels be packed wherever they can be."""
    planner = Planner(patch)
    planner.force(source=source)
    return planner


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("source", OF_PANELS)
@every_dtype
def test_volumes(planner, dtype, source, depth):
    """NaN lies between volumes and must not leak in, and nothing around the output may change."""
    planner.force(source=source)
    taken = []
    for x, weight, bias, options, wanted in layers(depth, dtype):
        frame = Frame(wanted.shape, dtype)
        fastpool.conv3d(between(x, np.nan), weight, bias, **options, out=frame.array)
        assert_close(frame.array, wanted)
        frame.assert_kept()
        apart = np.full((4, *x.shape[1:3], 2 * x.shape[3], x.shape[4] + 3), np.nan, dtype)
        apart[1::2, :, ::-1, ::2, 2:-1] = x
        assert_close(fastpool.conv3d(apart[1::2, :, ::-1, ::2, 2:-1], weight, bias, **options), wanted)
        taken += [plan.steps[-1].fields for plan in planner.plans]
        planner.plans.clear()
    in_panels = [fields["out_depths"] for fields in taken if fields["panel"]]
    assert len(in_panels) > len(taken) / 2
    assert max(in_panels) > 1 or DEPTHS[depth][-1] == 1


@pytest.mark.parametrize("mode", DATA_PADDING_MODES)
@every_dtype
def test_volumes_padded_with_data(planner, dtype, mode):
    planner.force(source="panels")
    x, weight = noise(1, (1, 8, 4, 6, 7), dtype), noise(2, (19, 8, 3, 2, 3), dtype)
    wide = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode, mode)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 0), (1, 1)), wide)
    wanted = conv3d(padded, weight, None, (2, 1, 2), [(0, 0)] * 3, (1, 1, 1), 1)
    options = {"stride": (2, 1, 2), "padding": ((1, 2), (1, 0), (1, 1)), "padding_mode": mode}
    assert_close(fastpool.conv3d(x, weight, **options), wanted)
    assert planner.plans.pop().steps[-1].fields["panel"]


def check_guarded_volumes(dtype_name):
    """With forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for source in OF_PANELS:
        with pytest.MonkeyPatch.context() as patch:
            planner = take_panels(patch, source)
            memory = GuardedMemory()
            for depth, at_end in product(DEPTHS, (False, True)):
                for x, weight, bias, options, wanted in layers(depth, dtype):
                    out = memory.array(np.zeros_like(wanted), at_end)
                    arrays = [memory.array(array, at_end) for array in (x, weight, bias)]
                    assert_close(fastpool.conv3d(*arrays, **options, out=out), wanted)
            assert any(plan.steps[-1].fields["panel"] for plan in planner.plans)


@needs_mprotect
@pytest.mark.parametrize("dtype", [np.dtype(dtype).name for dtype in DTYPES])
def test_memory_around_volumes(dtype):
    run_apart("test_panels", "check_guarded_volumes", dtype, environment=FILLED_MEMORY)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@pytest.mark.parametrize("source", OF_PANELS)
def test_volumes_are_bit_identical_for_any_number_of_threads(planner, source):
    planner.force(source=source)
    x, weight = noise(3, (2, 20, 5, 12, 13), np.float32), noise(4, (48, 20, 3, 3, 3), np.float32)
    results = set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results.add(fastpool.conv3d(x, weight, padding=1, stride=2).tobytes())
    assert len(results) == 1


@pytest.mark.skipif(TARGET.name != "avx2", reason="measured with AVX2")
def test_volumes_are_packed_in_panels(planner):
    """3x3x3 at stride 2 from 256 to 512 channels of 4x14x14 takes 0.42 of the time so."""
    weight = np.ones((512, 256, 3, 3, 3), np.float32)
    fastpool.conv3d(np.ones((1, 256, 4, 14, 14), np.float32), weight, stride=2, padding=1)
    fields = planner.plans.pop().steps[-1].fields
    assert fields["panel"]
    assert fields["out_depths"] == 2


@pytest.mark.skipif(TARGET.name != "avx2", reason="measured with AVX2")
@pytest.mark.parametrize(
    ("shape", "out_channels", "sources", "in_panels"),
    [
        ((512, 28, 28), 32, {IN_PLACE}, False),  # 0.57 of the time of panels
        ((256, 56, 56), 16, {IN_PLACE}, False),  # 0.31
        ((128, 28, 28), 256, {SHARED, OWN}, True),  # in place 1.6 times as long
        ((128, 14, 14), 256, {SHARED, OWN}, False),  # 0.86: of few lines all of a channel is read
        ((64, 8, 14, 14), 128, {SHARED, OWN}, False),  # 0.84
        ((512, 28, 28), 1024, {SHARED}, True),
    ],
)
def test_pixels_of_one_tap_that_lie_apart(planner, shape, out_channels, sources, in_panels):
    weight = np.ones((out_channels, shape[0]) + (1,) * (len(shape) - 1), np.float32)
    convolve = fastpool.conv2d if len(shape) == 3 else fastpool.conv3d
    convolve(np.ones((1, *shape), np.float32), weight, stride=2)
    fields = planner.plans.pop().steps[-1].fields
    assert fields["source"] in sources
    assert bool(fields["panel"]) == in_panels


@pytest.mark.skipif(TARGET.name != "avx2", reason="measured with AVX2")
@pytest.mark.parametrize(
    ("shape", "out_channels", "source"),
    [
        ((512, 28, 28), 16, IN_PLACE),  # 0.65 of the time of panels
        ((512, 200), 16, IN_PLACE),  # 0.74
        ((512, 28, 28), 64, PRIVATE),
        ((64, 64, 64), 8, PRIVATE),  # channels drive one another out of a cache: in place 1.36
        ((32, 27, 27), 128, OWN),  # 0.69, as threads do not write to the same planes
        ((64, 28, 28), 64, PRIVATE),  # 1.1, as packing takes more than that
    ],
)
def test_pixels_of_one_tap_side_by_side(planner, shape, out_channels, source):
    weight = np.ones((out_channels, shape[0]) + (1,) * (len(shape) - 1), np.float32)
    convolve = fastpool.conv2d if len(shape) == 3 else fastpool.conv1d
    convolve(np.ones((1, *shape), np.float32), weight)
    fields = planner.plans.pop().steps[-1].fields
    assert (fields["source"], bool(fields["panel"])) == (source, source != IN_PLACE)
