"""Blur pooling against the oracle: every filter, stride, padding mode and remainder, and in watched memory."""

import itertools
from math import comb

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    Frame,
    GuardedMemory,
    assert_close,
    between,
    every_dtype,
    integers,
    native,
    needs_mprotect,
    needs_threads,
    noise,
    with_ties_and_nan,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle_extras
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.routines.routine import lanes as lanes_for

MODES = ("reflect", "zeros", "symmetric", "replicate", "circular")


def check(x, *arguments, **options):
    """Require the result, returned or written into an array, to equal the oracle's; give it."""
    expected = oracle_extras.blur_pool2d(native(x), *arguments, **options)
    result = fastpool.blur_pool2d(x, *arguments, **options)
    assert_close(result, expected)
    frame = Frame(expected.shape, expected.dtype.type, contiguous=x.shape[-1] % 2 == 0)
    assert fastpool.blur_pool2d(x, *arguments, **options, out=frame.array) is frame.array
    np.testing.assert_array_equal(frame.array, result)
    frame.assert_kept()
    return result


def at_every_width(dtype):
    """Give x of every width up to two vectors and two elements, every filter, and column strides to 4."""
    for width in range(1, 2 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]) + 3):
        for stride in range(1, 5):
            yield integers(width, (1, 2, 3, width), dtype), 1 + (width + stride) % 7, (1 + width % 2, stride)


@every_dtype
def test_every_width_and_stride(dtype):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    places = [lambda a: between(a, np.nan), LAYOUTS["every second column"], LAYOUTS["within a larger one"]]
    for index, (x, size, stride) in enumerate(at_every_width(dtype)):
        check(places[(0, 1, 0, 2)[index % 4]](x), size, stride, padding_mode=MODES[index % 5])


def check_guarded_memory(dtype_name):
    """Forbidden pages lie right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for index, (x, size, stride) in enumerate(at_every_width(dtype)):
        memory, at_end = GuardedMemory(), index % 2 == 0
        expected = oracle_extras.blur_pool2d(x, size, stride)
        out = memory.array(np.zeros(expected.shape, dtype), at_end)
        assert_close(fastpool.blur_pool2d(memory.array(x, at_end), size, stride, out=out), expected)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_blur", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", range(1, 8))
def test_every_argument(size, mode, dtype):
    """Also where the padding is larger than the input."""
    for index, stride in enumerate([1, 2, 3, 7, (1, 2), [2, 1], (3,)]):
        for shape in [(1, 2, 5, 9), (2, 1, 1), (1, 3, 2, 1)]:
            x = (with_ties_and_nan if index % 2 else integers)(index, shape, dtype)
            steps = stride if stride != (3,) else 3
            result = fastpool.blur_pool2d(x, size, stride, padding_mode=mode)
            assert_close(result, oracle_extras.blur_pool2d(x, size, steps, padding_mode=mode))


def test_defaults_and_weights():
    """One element shows the filter: 1-3-3-1 along both axes, sum 1; one element of padding before, two after."""
    for size in range(2, 8):
        x = np.zeros((1, 19, 19))
        x[0, 9, 9] = 1
        row = np.array([comb(size - 1, k) for k in range(size)]) / 2 ** (size - 1)
        full = fastpool.blur_pool2d(x, size, 1)[0]
        first = 9 - size // 2
        np.testing.assert_array_equal(full[first : first + size, first : first + size], np.outer(row, row))
        assert full.sum() == 1
    x = noise(1, (2, 3, 8, 9), np.float64)
    np.testing.assert_array_equal(fastpool.blur_pool2d(x), fastpool.blur_pool2d(x, 4, 2, padding_mode="reflect"))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)), "reflect")
    weight = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    filters = np.broadcast_to(weight, (3, 1, 4, 4)).copy()
    assert_close(fastpool.blur_pool2d(x), fastpool.conv2d(padded, filters, None, 2, groups=3))


@every_dtype
def test_size_one_is_a_strided_slice(dtype):
    x = with_ties_and_nan(2, (2, 3, 7, 9), dtype)
    for stride in (1, 2, (3, 1)):
        height, width = stride if isinstance(stride, tuple) else (stride, stride)
        result = fastpool.blur_pool2d(x, 1, stride)
        np.testing.assert_array_equal(result, x[..., ::height, ::width])
        assert not np.shares_memory(result, x)
        assert result.flags.c_contiguous


@every_dtype
def test_a_flat_image_stays_flat(dtype):
    x = np.full((1, 2, 11, 21), 0.7, dtype)
    for size, mode in itertools.product(range(1, 8), set(MODES) - {"zeros"}):
        np.testing.assert_allclose(fastpool.blur_pool2d(x, size, padding_mode=mode), dtype(0.7), rtol=1e-6)


@every_dtype
def test_a_single_nan_reaches_exactly_the_windows_that_see_it(dtype):
    for place in itertools.product((0, 2, 5), (0, 7, 16, 20)):
        x = integers(5, (1, 6, 21), dtype)
        x[(0, *place)] = np.nan
        for size, stride, mode in [(4, 2, "reflect"), (3, 1, "zeros"), (7, 3, "circular")]:
            check(x, size, stride, padding_mode=mode)


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, dtype):
    for shape in [(2, 3, 7, 38), (3, 5, 9)]:
        x = with_ties_and_nan(10, shape, dtype)
        for size, stride in [(4, 2), (3, 1), (1, 2), (5, 3)]:
            check(LAYOUTS[layout](x), size, stride)


def test_batches_and_tasks():
    x = noise(12, (5, 3, 6, 9), np.float32)
    for part in (x, x[:1], x[:0], x[2], x[:, :1], x[3, :1], x[::-2], np.broadcast_to(x[:1], x.shape)):
        check(part)
    for shape in [(3, 50, 6, 7), (1, 300, 3, 5), (1, 2, 290, 230)]:
        check(noise(13, shape, np.float32), 3, 2)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_dtype
def test_results_are_bit_identical_for_any_number_of_threads(dtype):
    for shape in [(2, 3, 40, 41), (1, 1, 300, 350), (1, 90, 7, 5)]:
        x, results = noise(14, shape, dtype), set()
        for threads in (1, 2, 2, 1):
            with fastpool.threads(threads):
                results.add(fastpool.blur_pool2d(x).tobytes())
        assert len(results) == 1


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.integers(1, 7), st.sampled_from(MODES))
def test_anything_equals_the_oracle(data, seed, dtype, size, mode):
    shape = (*data.draw(st.sampled_from([(), (0,), (1,), (3,)])), *(data.draw(st.integers(1, n)) for n in (3, 7, 40)))
    step = st.integers(1, 5)
    make = data.draw(st.sampled_from([noise, integers, with_ties_and_nan]))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    check(layout(make(seed, shape, dtype)), size, data.draw(st.one_of(step, st.tuples(step, step))), padding_mode=mode)


X = integers(0, (2, 4, 6, 7), np.float32)
BAD = {
    "x": [None, [1.0], X[0, 0], X[None], X[:, :0], X[..., :0], X.astype(complex), X.astype(int), np.ma.array(X)],
    "filter_size": [0, -1, 1.5, True, "2", None, (3, 3), 8, 10**30],
    "stride": [0, -1, 1.5, True, "2", None, (2,) * 3, 10**30],
    "padding_mode": ["edge", None, 0, ("reflect",), b"reflect"],
    "out": [1, X, np.zeros((2, 4, 3, 4))],
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    for value in BAD[argument]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.blur_pool2d(**{"x": X} | {argument: value})


def test_huge_strides_cost_nothing():
    x = integers(1, (1, 2, 6, 7), np.float32)
    for stride in (10**8, 2**31 - 1, (1, 2**31 - 1), (2**31 - 1, 1)):
        check(x, 3, stride)
