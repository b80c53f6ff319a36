"""A matrix times a vector, with the weights of an output side by side or those of an input; one window is such."""

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    Frame,
    GuardedMemory,
    assert_close,
    assert_same_bits,
    between,
    every_dtype,
    needs_mprotect,
    needs_threads,
)
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle
from fastpool.arrays import address
from fastpool.dtypes import FLOATS
from fastpool.plans.linear import is_gemv, plan_gemv


def noise(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


GEMV_SIZES = [(1, 1), (3, 5), (10, 84), (33, 70), (130, 257), (1000, 48)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("by_rows", [True, False])
def test_a_matrix_times_a_vector(dtype, by_rows):
    for outputs, inputs in GEMV_SIZES:
        weight, x, bias = (
            noise(outputs, inputs, dtype=dtype),
            noise(inputs, dtype=dtype, seed=1),
            noise(outputs, dtype=dtype),
        )
        around = np.full(outputs + 2, 7, dtype)
        out = around[1:-1]
        lying = np.ascontiguousarray(weight if by_rows else weight.T)
        plan = plan_gemv(FLOATS[dtype], outputs, inputs, by_rows, -1.0, 6.0)
        results = []
        for count in (1, fastpool.get_num_threads()):
            with fastpool.threads(count):
                plan.run(address(x), address(lying), address(bias), 0, address(out))
            results.append(out.copy())
        expected = np.clip(weight.astype(float) @ x + bias, -1, 6)
        scale = (abs(weight).astype(float) @ abs(x) + abs(bias)).max()
        np.testing.assert_allclose(results[0], expected, rtol=0, atol=4 * np.finfo(dtype).eps * scale)
        np.testing.assert_array_equal(results[0], results[-1])
        assert around[0] == around[-1] == 7


#: Shape of an image that is one window, its filter, and options.
WINDOWS = [
    ((5, 3, 2), (3, 2), {}),
    ((70, 1, 1), (1, 1), {}),
    ((1, 4, 4), (4, 4), {}),
    ((20, 4, 4), (4, 4), {"stride": 3}),
    ((9, 3, 1), (3, 1), {"padding": ((0, 1), (0, 2)), "stride": 5}),
]


def takes_gemv(planner):
    """Whether all plans since the last call multiply a matrix by a vector, and that there were some."""
    taken = [is_gemv(plan) for plan in planner.plans]
    planner.plans.clear()
    return bool(taken) and all(taken)


@every_dtype
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_single_window(planner, dtype, window):
    """NaN surrounds x and must not leak in, and nothing around the output may change."""
    planner.forget()
    shape, kernel, options = window
    for out_channels in (*range(1, 10), 17):
        weight, bias = noise(out_channels, shape[0], *kernel, dtype=dtype), noise(out_channels, dtype=dtype)
        x = noise(1, *shape, dtype=dtype, seed=1)
        wanted = oracle.conv2d(x, weight, bias, **options)
        frame = Frame(wanted.shape, dtype)
        assert_close(fastpool.Conv2d(weight, bias, **options)(between(x, np.nan), out=frame.array), wanted)
        frame.assert_kept()
        assert_close(fastpool.conv2d(x, weight, bias, activation=(0.1, 0.5), **options), np.clip(wanted, 0.1, 0.5))
        assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, None, **options))
    assert takes_gemv(planner)


@every_dtype
@pytest.mark.parametrize("window", [((3, 2), {}), ((1, 4), {}), ((7, 7), {}), ((4, 1), {"stride": 2})], ids=str)
def test_a_window_of_each_channel(planner, dtype, window):
    """Images and channels lie apart, with NaN between them."""
    planner.forget()
    kernel, options = window
    for images, channels in ((1, 1), (1, 8), (2, 7), (3, 17), (2, 300)):
        weight, bias = noise(channels, 1, *kernel, dtype=dtype), noise(channels, dtype=dtype)
        x = noise(images, channels, *kernel, dtype=dtype, seed=1)
        wanted = oracle.conv2d(x, weight, bias, groups=channels, **options)
        frame, conv = Frame(wanted.shape, dtype), fastpool.Conv2d(weight, bias, groups=channels, **options)
        assert_close(conv(between(x, np.nan), out=frame.array), wanted)
        frame.assert_kept()
        apart = np.full((images, 2 * channels, *kernel), np.nan, dtype)
        apart[:, ::2] = x
        assert_close(conv(apart[:, ::2]), wanted)
        assert_close(conv(apart[:, ::2][::-1, ::-1]), oracle.conv2d(x[::-1, ::-1], weight, bias, groups=channels))
    assert takes_gemv(planner)
    explained = conv.explain(x.shape)
    assert (explained.algorithm, explained.role, explained.source) == ("depthwise", "inputs", "in place")
    assert explained.multiply_adds == x.size
    assert explained.multiply_adds_done * (1 - explained.waste) == pytest.approx(x.size)
    with_ends = fastpool.Conv2d(weight, bias, groups=channels, activation=(-0.1, 0.1))
    assert_close(with_ends(x), np.clip(wanted, -0.1, 0.1))


@every_dtype
def test_what_is_no_single_window(planner, dtype):
    """Two images or pixels, groups, taps that lie apart or meet padding, and a residual have other plans."""
    planner.forget()
    x, weight, residual = (
        noise(1, 4, 3, 3, dtype=dtype),
        noise(6, 4, 3, 3, dtype=dtype, seed=1),
        noise(1, 6, 1, 1, dtype=dtype),
    )
    wanted = oracle.conv2d(x, weight)
    assert_close(fastpool.conv2d(x, weight, residual=residual), wanted + residual)
    for shape, kernel, options in [
        ((2, 4, 3, 3), (3, 3), {}),
        ((1, 4, 3, 4), (3, 3), {}),
        ((1, 4, 3, 4), (3, 3), {"stride": 2}),
        ((1, 4, 3, 3), (2, 2), {"dilation": 2}),
        ((1, 4, 3, 3), (3, 3), {"padding": 1, "stride": 3}),
        ((1, 8, 3, 3), (3, 3), {"groups": 2}),
        ((1, 3, 3, 3), (3, 3), {"groups": 3}),
        ((1, 6, 3, 4), (3, 3), {"groups": 6}),
        ((1, 6, 1, 3), (1, 3), {"groups": 6}),
    ]:
        x = noise(*shape, dtype=dtype)
        weight = noise(6, shape[1] // options.get("groups", 1), *kernel, dtype=dtype, seed=1)
        assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, None, **options))
    assert planner.plans
    assert not any(map(is_gemv, planner.plans))


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_single_window_in_any_memory(dtype, layout):
    x, weight = noise(1, 6, 3, 2, dtype=dtype), noise(5, 6, 3, 2, dtype=dtype, seed=1)
    wanted = oracle.conv2d(x, weight)
    assert_close(fastpool.conv2d(LAYOUTS[layout](x), LAYOUTS[layout](weight)), wanted)
    assert_close(fastpool.Conv2d(LAYOUTS[layout](weight))(x), wanted)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_single_window_of_other_ranks(planner, rank):
    planner.forget()
    size = (2, 3, 4)[:rank]
    x, weight = noise(1, 7, *size), noise(9, 7, *size, seed=1)
    found = getattr(fastpool, f"conv{rank}d")(x, weight)
    assert_close(found.reshape(-1), weight.reshape(9, -1) @ x.reshape(-1))
    assert takes_gemv(planner)


@pytest.mark.parametrize("values", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 17, 35])
def test_a_single_window_that_is_not_finite(values, at):
    x, weight, bias = noise(1, 4, 3, 3), noise(5, 4, 3, 3, seed=1), noise(5)
    for place in (x, weight):
        copies = [x.copy(), weight.copy()]
        copies[place is weight].reshape(-1)[at] = values
        assert_close(fastpool.conv2d(*copies, bias), oracle.conv2d(*copies, bias))


@needs_threads
def test_a_single_window_has_the_same_bits():
    x, weight = noise(1, 128, 4, 4), noise(300, 128, 4, 4, seed=1)
    assert_same_bits(fastpool.Conv2d(weight), x)
    assert_same_bits(fastpool.Conv2d(noise(300, 1, 7, 7), groups=300), noise(5, 300, 7, 7))


def check_that_nothing_beyond_an_array_is_touched():
    for dtype in DTYPES:
        memory = GuardedMemory()
        for at_end in (False, True):
            for channels, out_channels in ((3, 1), (11, 7), (8, 16)):
                x, weight = noise(1, channels, 3, 3, dtype=dtype), noise(out_channels, channels, 3, 3, dtype=dtype)
                bias, out = noise(out_channels, dtype=dtype), np.zeros((1, out_channels, 1, 1), dtype)
                guarded = [memory.array(values, at_end) for values in (x, weight, bias, out)]
                fastpool.conv2d(*guarded[:3], out=guarded[3])
                assert_close(guarded[3], oracle.conv2d(x, weight, bias))
            for images, channels in ((1, 1), (3, 11), (2, 16)):
                x, weight = noise(images, channels, 3, 3, dtype=dtype), noise(channels, 1, 3, 3, dtype=dtype)
                bias, out = noise(channels, dtype=dtype), np.zeros((images, channels, 1, 1), dtype)
                guarded = [memory.array(values, at_end) for values in (x, weight, bias, out)]
                fastpool.conv2d(*guarded[:3], groups=channels, out=guarded[3])
                assert_close(guarded[3], oracle.conv2d(x, weight, bias, groups=channels))


@needs_mprotect
def test_a_single_window_reads_and_writes_nothing_beyond():
    run_apart("test_gemv", "check_that_nothing_beyond_an_array_is_touched", environment=FILLED_MEMORY)
