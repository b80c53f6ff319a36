"""Depthwise convolution of volumes, with lanes on channels: depths of every form, in watched memory, tasks of some."""

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
    integers,
    lanes_of,
    needs_mprotect,
    needs_threads,
    noise,
)
from processes import FILLED_MEMORY, run_apart
from volumes import DEPTHS, conv3d

import fastpool
from fastpool import oracle
from fastpool.plans import channelwise as plans
from fastpool.routines.channelwise import channelwise

#: Bytes of padded input in a task: as chosen, and so few that each task has one depth.
TASKS = {"all depths": None, "one depth": 1}
#: Rows and columns of filters, with their strides, dilations, and padding at the begins and ends.
PLANES = {
    "1x1": ((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "3x3": ((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))),
    "2x4": ((2, 4), (3, 2), (1, 1), ((0, 2), (3, 0))),
    "3x2": ((3, 2), (2, 5), (2, 3), ((4, 0), (0, 1))),
}


def volumes(planner, depth, plane, dtype):
    """Give x, weights and options: up to a vector of channels and three, all widths up to two vectors."""
    planner.take_depthwise(channelwise)
    taps, stride, dilation, pads, depths = DEPTHS[depth]
    kernel, strides, dilations, plane_pads = PLANES[plane]
    options = {"stride": (stride, *strides), "dilation": (dilation, *dilations), "padding": (pads, *plane_pads)}
    for width in range(1, 2 * lanes_of(dtype) + 3):
        rows, channels = 5 + width % 3, 1 + width % (lanes_of(dtype) + 3)
        width += (kernel[1] - 1) * dilations[1] - sum(plane_pads[1])
        if width > 0:
            x = integers(60, (2, channels, depths, rows, width), dtype, 4) + 5
            weight = integers(61, (channels, 1, taps, *kernel), dtype, 2) + 3
            yield x, weight, {**options, "groups": channels}


def assert_by_channels(planner):
    """Require that lanes were channels in all plans."""
    assert planner.plans
    assert all(plan.steps[-1].kernel.routine is channelwise for plan in planner.plans)


@every_dtype
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_volumes_at_every_remainder(planner, monkeypatch, depth, plane, tasks, dtype):
    """Bias, residual and activation; nothing around any array matters, and nothing around the result changes."""
    if TASKS[tasks]:
        monkeypatch.setattr(plans, "_DEPTHS_BYTES", TASKS[tasks])
    for x, weight, options in volumes(planner, depth, plane, dtype):
        bias = noise(62, len(weight), dtype)
        expected = conv3d(x, weight, bias, **options)
        residual = integers(63, expected.shape, dtype)
        frame = Frame(expected.shape, dtype, contiguous=x.shape[1] % 4 != 3)
        x, weight, bias = (between(array, np.nan) for array in (x, weight, bias))
        fastpool.conv3d(x, weight, bias, residual=residual, activation=(0, 900), out=frame.array, **options)
        assert_close(frame.array.copy(), np.clip(expected + residual, 0, 900))
        frame.assert_kept()
        fields = planner.plans[-1].steps[-1].fields
        if plane != "1x1":  # whose depths are rows
            depths, height = expected.shape[2:4]
            assert fields["rows_per_task"] == height * (1 if TASKS[tasks] else depths)
    assert_by_channels(planner)


def check_volumes_memory(dtype_name):
    """Forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for index, (depth, plane) in enumerate([("three taps", "3x3"), ("three taps, every second", "2x4")]):
        for tasks in TASKS.values():
            with pytest.MonkeyPatch.context() as patch:
                planner = Planner(patch)
                if tasks:
                    patch.setattr(plans, "_DEPTHS_BYTES", tasks)
                for x, weight, options in volumes(planner, depth, plane, dtype):
                    index += 1
                    memory = GuardedMemory()
                    expected = conv3d(x, weight, None, **options)
                    x, weight, out = (memory.array(a, index % 2) for a in (x, weight, np.zeros_like(expected)))
                    fastpool.conv3d(x, weight, out=out, **options)
                    assert_close(out, expected)
                assert_by_channels(planner)


@needs_mprotect
@pytest.mark.parametrize("dtype", [np.dtype(dtype).name for dtype in DTYPES])
def test_volumes_touch_not_a_byte_beyond_any_array(dtype):
    run_apart("test_depthwise_volumes", "check_volumes_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
def test_depths_that_meet_padding_are_left_out(planner, dtype):
    """If all weights are finite; an infinite one makes NaN of zeros."""
    planner.take_depthwise(channelwise)
    x, weight = noise(64, (1, 5, 4, 6, 7), dtype), noise(65, (5, 1, 3, 1, 1), dtype)
    options = {"stride": (1, 1, 1), "padding": ((1, 1), (0, 0), (0, 0)), "dilation": (1, 1, 1), "groups": 5}
    assert_close(fastpool.Conv3d(weight, None, **options)(x), conv3d(x, weight, None, **options))
    assert planner.plans.pop().omitted == pytest.approx(2 / 12)
    weight[3, 0, 0] = np.inf
    found = fastpool.Conv3d(weight, None, **options)(x)
    assert np.isnan(found[0, 3, 0]).all()
    assert not np.isnan(found[:, :3]).any()
    assert planner.plans.pop().omitted == 0


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_dtype
def test_volumes_are_bit_identical_for_any_number_of_threads(planner, dtype):
    planner.take_depthwise(channelwise)
    x, weight = noise(66, (1, 40, 9, 30, 31), dtype), noise(67, (40, 1, 3, 3, 3), dtype)
    results = set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results.add(fastpool.conv3d(x, weight, padding=1, groups=40).tobytes())
    assert len(results) == 1
    assert_by_channels(planner)


def test_a_task_has_as_many_depths_as_the_cache_holds(planner):
    """Few depths of large planes, which are read anew by each task, and all of small ones."""
    planner.take_depthwise(channelwise)
    weight = np.ones((16, 1, 3, 3, 3), np.float32)
    layer = fastpool.Conv3d(weight, padding=1, groups=16)
    for size, all_at_once in ((5, True), (50, False)):
        layer(np.ones((1, 16, 12, size, size), np.float32))
        plan = planner.plans.pop()
        rows, needed = plan.steps[-1].fields["rows_per_task"], plan.thread_elements * 4
        assert (rows == 12 * size) == all_at_once
        assert rows % size == 0
        assert needed < 2 * plans._DEPTHS_BYTES


def test_there_is_no_table_of_a_padding_far_larger_than_x(planner):
    """Its rows would be counted in it: only the output row in the middle sees x."""
    x, weight = integers(68, (1, 20, 6, 7), np.float32), integers(69, (20, 1, 3, 3), np.float32)
    found = fastpool.conv2d(x, weight, None, (2**21, 1), (2**21, 0), groups=20)
    assert_close(found[:, :, 1:2], oracle.conv2d(x[:, :, :3], weight, groups=20))
    assert not found[:, :, ::2].any()
    assert all(plan.steps[-1].kernel.routine is not channelwise for plan in planner.plans)
    assert max(table.nbytes for table in planner.plans[-1].tables) < 2**24
