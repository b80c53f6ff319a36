"""Subsampling against the oracle over every argument, at every remainder, and in watched memory."""

import itertools

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
from sweeps import examples

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.routines.routine import lanes as lanes_for

pytestmark = pytest.mark.usefixtures("rows_alone")


def factors(seed, channels, dtype):
    """Give a weight and a bias for each channel."""
    return integers(seed, (channels,), dtype), integers(seed + 1, (channels,), dtype)


def check(x, weight, bias, *arguments, **options):
    """Require the result, returned or written into an array, to equal the oracle's; give it."""
    expected = oracle.subsample2d(*map(native, (x, weight, bias)), *arguments, **options)
    result = fastpool.subsample2d(x, weight, bias, *arguments, **options)
    assert_close(result, expected)
    frame = Frame(expected.shape, expected.dtype.type, contiguous=x.shape[-1] % 2 == 0)
    assert fastpool.subsample2d(x, weight, bias, *arguments, **options, out=frame.array) is frame.array
    np.testing.assert_array_equal(frame.array, result)
    frame.assert_kept()
    return result


def at_every_width(dtype):
    """Give x of every width up to two vectors and two elements, factors, and windows of every column stride to 4."""
    widths = range(2, 2 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]) + 3)
    kernels = [(2, 2), (3, 2), (2, 5), (3, 1)]
    for width, stride in itertools.product(widths, range(1, 5)):
        kernel = kernels[(width + stride) % 4]
        padding = ((1, 0), (3, 0)) if kernel == (2, 5) else 0
        yield integers(width, (2, 3, 5, width), dtype), *factors(width, 3, dtype), (kernel, (2, stride), padding)


@every_dtype
def test_every_width_and_stride(dtype):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    for x, weight, bias, windows in at_every_width(dtype):
        weight, bias = between(weight, np.nan), between(bias, np.nan)
        for place in (lambda a: between(a, np.nan), LAYOUTS["every second column"], LAYOUTS["within a larger one"]):
            check(place(x), weight, bias, *windows)


def check_guarded_memory(dtype_name):
    """Forbidden pages lie right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for index, (*inputs, windows) in enumerate(at_every_width(dtype)):
        memory, at_end = GuardedMemory(), index % 2 == 0
        expected = oracle.subsample2d(*inputs, *windows)
        out = memory.array(np.zeros(expected.shape, dtype), at_end)
        fastpool.subsample2d(*(memory.array(a, at_end) for a in inputs), *windows, out=out)
        assert_close(out, expected)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_subsampling", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kernel_size", [2, (3, 2), (2, 5), (4, 3)])
def test_every_argument(kernel_size, ceil_mode, dtype):
    weight, bias = factors(1, 3, dtype)
    strides = [None, (), 1, 2, 3, 5, (1, 2), (3, 1)]
    paddings = [0, 4, (2, 0), [0, 3], ((1, 0), (2, 5)), "valid", "same", "same_upper", "same_lower"]
    for index, (stride, padding) in enumerate(itertools.product(strides, paddings)):
        x = (with_ties_and_nan if index % 2 else integers)(index, (2, 3, 7, 19), dtype)
        result = fastpool.subsample2d(x, weight, bias, kernel_size, stride, padding, ceil_mode)
        steps = kernel_size if stride in (None, ()) else stride
        assert_close(result, oracle.subsample2d(x, weight, bias, kernel_size, steps, padding, ceil_mode))


def test_by_hand():
    """One weight and one bias for each channel; the stride is that of the kernel; padding counts as zero."""
    x = np.arange(1.0, 17.0).reshape(1, 4, 4) * np.array([1.0, 10.0]).reshape(2, 1, 1)
    weight, bias = np.array([0.5, -1.0]), np.array([100.0, 0.0])
    result = fastpool.subsample2d(x, weight, bias, 2)
    np.testing.assert_array_equal(result, [[[107, 111], [123, 127]], [[-140, -220], [-460, -540]]])
    padded = fastpool.subsample2d(x, weight, bias, 3, 2, 1, True)
    np.testing.assert_array_equal(padded[0], [[107, 115, 106], [128.5, 149.5, 118], [113.5, 122.5, 108]])


@every_dtype
def test_without_bias(dtype):
    x, weight = integers(2, (2, 3, 6, 7), dtype), integers(3, (3,), dtype)
    expected = oracle.subsample2d(x, weight, np.zeros(3, dtype), 2)
    assert_close(fastpool.subsample2d(x, weight, None, 2), expected)


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, dtype):
    """Of x, weight and bias, one after the other and all together."""
    change = LAYOUTS[layout]
    x, (weight, bias) = with_ties_and_nan(4, (2, 5, 7, 18), dtype), factors(5, 5, dtype)
    for stride in (1, 2, 3):
        expected = oracle.subsample2d(x, weight, bias, (3, 2), stride, 1)
        for arrays in [(change(x), weight, bias), (x, change(weight), bias), (x, weight, change(bias))]:
            assert_close(fastpool.subsample2d(*arrays, (3, 2), stride, 1), expected)
        check(change(x), change(weight), change(bias), (3, 2), stride, 1)


def test_broadcast_arrays():
    x, (weight, bias) = integers(6, (3, 4, 6, 19), np.float32), factors(7, 4, np.float32)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
        flat = np.broadcast_to(x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))], x.shape)
        check(flat, np.broadcast_to(weight[:1], 4), np.broadcast_to(bias[1:2], 4), 2, 1)


@every_dtype
def test_batches(dtype):
    """Any number of images, none, and no batch axis at all."""
    x, (weight, bias) = integers(8, (5, 3, 6, 9), dtype), factors(9, 3, dtype)
    for part in (x, x[:1], x[:0], x[2], x[::-2]):
        check(part, weight, bias, (2, 3), 2)
    empty = np.empty((0, 3, 3, 3), dtype)
    assert fastpool.subsample2d(x[:0], weight, bias, (2, 3), out=empty) is empty
    wide, factors_of_it = integers(10, (2, 300, 5, 6), dtype), factors(11, 300, dtype)
    check(wide, *factors_of_it, 2)
    check(wide[:, 3:4], *(f[3:4] for f in factors_of_it), 2)


@every_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities(value, dtype):
    """In x they reach the windows that see them, in weight and bias their channel."""
    clean = {
        "x": integers(12, (2, 3, 6, 9), dtype),
        "weight": integers(13, (3,), dtype),
        "bias": integers(14, (3,), dtype),
    }
    for name in clean:
        arrays = {key: a.copy() for key, a in clean.items()}
        arrays[name].reshape(-1)[1] = value
        check(**arrays, kernel_size=2)


def test_inputs_are_left_alone():
    arrays = noise(15, (2, 3, 6, 7), np.float64), noise(16, (3,), np.float64), noise(17, (3,), np.float64)
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    result = fastpool.subsample2d(*arrays, 2)
    for a, copy in zip(arrays, copies, strict=True):
        assert not np.shares_memory(result, a)
        np.testing.assert_array_equal(a, copy)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_dtype
def test_results_are_bit_identical_for_any_number_of_threads(dtype):
    for shape, kernel in [((2, 3, 140, 141), 3), ((1, 2, 200, 350), (2, 5)), ((3, 90, 7, 6), 2)]:
        x, weight, bias = noise(18, shape, dtype), noise(19, shape[1:2], dtype), noise(20, shape[1:2], dtype)
        results = set()
        for threads in (1, 2, 2, 1):
            with fastpool.threads(threads):
                results.add(fastpool.subsample2d(x, weight, bias, kernel, 2).tobytes())
        assert len(results) == 1


@settings(deadline=None, max_examples=examples(60))
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.booleans())
def test_anything_equals_the_oracle(data, seed, dtype, ceil_mode):
    """The kernel is drawn no larger than the input, so that it fits with any padding."""
    batch, channels, height, width = (
        data.draw(st.integers(low, high)) for low, high in [(0, 3), (1, 4), (1, 9), (1, 40)]
    )
    sizes = [
        kernel for kernel in [(1, 1), (2, 2), (3, 2), (2, 5), (4, 3)] if kernel[0] <= height and kernel[1] <= width
    ]
    kernel = data.draw(st.sampled_from(sizes))
    pair = st.tuples(st.integers(1, 5), st.integers(1, 5))
    ends = st.tuples(st.integers(0, 9), st.integers(0, 9))
    padding = data.draw(st.one_of(ends, st.tuples(ends, ends), st.sampled_from(["valid", "same", "same_lower"])))
    x, (weight, bias) = integers(seed, (batch, channels, height, width), dtype), factors(seed + 1, channels, dtype)
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    check(layout(x), layout(weight), layout(bias), kernel, data.draw(st.none() | pair), padding, ceil_mode)


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4]), st.integers(1, 3), st.integers(0, 2))
def test_it_is_a_depthwise_convolution_with_equal_weights(seed, kernel, stride, padding):
    x, (weight, bias) = integers(seed, (2, 3, 9, 23), np.float32), factors(seed + 1, 3, np.float32)
    filters = np.broadcast_to(weight[:, None, None, None], (3, 1, kernel, kernel))
    result = fastpool.subsample2d(x, weight, bias, kernel, stride, padding)
    assert_close(result, fastpool.conv2d(x, filters, bias, stride, padding, groups=3))
    mean = fastpool.subsample2d(x, np.full(3, 1 / kernel**2, np.float32), None, kernel, stride, padding)
    assert_close(mean, fastpool.avg_pool2d(x, kernel, stride, padding))
