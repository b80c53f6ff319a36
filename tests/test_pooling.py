"""Pooling against the oracle over every argument, at every remainder, and in watched memory."""

import itertools
import sys

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
from processes import FILLED_MEMORY, run_apart
from sweeps import some, sweep

import fastpool
from fastpool import oracle, runtime
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.routines.routine import lanes as lanes_for

pytestmark = pytest.mark.usefixtures("rows_alone")

INF, NAN = np.inf, np.nan

#: What windows can be reduced to: name of the function, and its arguments beside the windows.
REDUCTIONS = {
    "max": ("max_pool2d", {}),
    "max and where": ("max_pool2d", {"return_indices": True}),
    "min": ("min_pool2d", {}),
    "min and where": ("min_pool2d", {"return_indices": True}),
    "mean": ("avg_pool2d", {}),
    "mean of valid": ("avg_pool2d", {"count_include_pad": False}),
    "sum over 3": ("avg_pool2d", {"divisor_override": 3}),
    "sum over -2": ("avg_pool2d", {"divisor_override": -2, "count_include_pad": False}),
    "sum": ("sum_pool2d", {}),
    "L1": ("lp_pool2d", {"norm_type": 1}),
    "L2": ("lp_pool2d", {"norm_type": 2.0}),
    "L3": ("lp_pool2d", {"norm_type": 3}),
    "L1.5": ("lp_pool2d", {"norm_type": 1.5}),
    "L0.5": ("lp_pool2d", {"norm_type": 0.5}),
    "Linf": ("lp_pool2d", {"norm_type": INF}),
}

every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def reduce(module, reduction, x, **windows):
    """Call the function of `fastpool` or `oracle` that computes this reduction."""
    name, options = REDUCTIONS[reduction]
    return getattr(module, name)(x, **options, **windows)


def check(reduction, x, **windows):
    """Require the result, returned or written into an array, to equal the oracle's; give it."""
    expected = reduce(oracle, reduction, native(x), **windows)
    result = reduce(fastpool, reduction, x, **windows)
    assert_close(result, expected)
    values = result[0] if isinstance(result, tuple) else result
    frame = Frame(values.shape, values.dtype.type, contiguous=x.shape[-1] % 2 == 0)
    filled = reduce(fastpool, reduction, x, **windows, out=frame.array)
    if isinstance(result, tuple):
        np.testing.assert_array_equal(filled[1], result[1])
        filled = filled[0]
    assert filled is frame.array
    np.testing.assert_array_equal(frame.array, values)
    frame.assert_kept()
    return result


def fits(x, kernel_size, dilation=1, padding=0, **_):
    """Whether a window of the given size fits into the padded input."""
    (kh, kw), (dh, dw) = (v if isinstance(v, tuple) else (v, v) for v in (kernel_size, dilation))
    if isinstance(padding, str):
        return padding != "valid" or (dh * (kh - 1) < x.shape[-2] and dw * (kw - 1) < x.shape[-1])
    rows, columns = padding if isinstance(padding, tuple | list) else (padding, padding)
    spaces = [sum(p) if isinstance(p, tuple | list) else 2 * p for p in (rows, columns)]
    return dh * (kh - 1) < x.shape[-2] + spaces[0] and dw * (kw - 1) < x.shape[-1] + spaces[1]


# ------------------------------------------------------------------------------------------------- every remainder

#: Windows of few and of many taps. Those of few are compiled for each size: nearly all tests here share one size.
WINDOWS = [
    {"kernel_size": (2, 3)},
    {"kernel_size": (2, 3), "padding": ((1, 0), (2, 3))},
    {"kernel_size": (2, 4), "dilation": (1, 3), "padding": ((0, 1), (5, 3))},
    {"kernel_size": (2, 3), "padding": "same", "ceil_mode": True},
    {"kernel_size": (1, 11), "padding": "same_lower"},
]


def at_every_width(dtype):
    """Give x of every width up to two vectors and two elements, and windows of every column stride up to 4."""
    widths = range(1, 2 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]) + 3)
    for width, stride in itertools.product(widths, range(1, 5)):
        windows = WINDOWS[(width + stride) % len(WINDOWS)], WINDOWS[(width + 2 * stride + 2) % len(WINDOWS)]
        x = integers(width, (2, 3, 4, width), dtype)
        for options in windows:
            if fits(x, **options):
                yield x, {**options, "stride": (2, stride)}


@every_dtype
@every_reduction
@sweep
def test_every_width_and_stride(reduction, dtype):
    """NaN surrounds the input and must not leak in; nothing around the output may change."""
    places = [lambda a: between(a, NAN), LAYOUTS["within a larger one"], LAYOUTS["every second column"]]
    count = 0
    for index, (x, windows) in enumerate(at_every_width(dtype)):
        check(reduction, places[(0, 1, 0, 2)[index % 4]](x), **windows)
        count += 1
    assert count > min(100, 15 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))  # there are more the longer vectors are


def check_guarded_memory(dtype_name):
    """Every reduction with forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for reduction in some(REDUCTIONS, 2, DTYPES.index(dtype)):
        sizes = itertools.islice(at_every_width(dtype), 0, None, 3)
        for index, (x, windows) in some(enumerate(sizes), 3):
            memory, at_end = GuardedMemory(), index % 2 == 0
            expected = reduce(fastpool, reduction, x, **windows)
            shape = expected[0].shape if isinstance(expected, tuple) else expected.shape
            out = memory.array(np.zeros(shape, dtype), at_end)
            assert_close(reduce(fastpool, reduction, memory.array(x, at_end), **windows, out=out), expected)
    for shape, at_end in itertools.product([(1, 1, 1), (2, 3, 7), (1, 9, 17), (3, 4, 33), (1, 1, 2100)], [True, False]):
        values = integers(1, shape, dtype)
        x = GuardedMemory().array(values, at_end)
        for function in ADAPTIVE.values():
            assert_close(function(fastpool, x), function(oracle, values))


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_pooling", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


# -------------------------------------------------------------------------------------------------- every argument

GRID = list(
    itertools.product(
        [4, (2, 3), (5, 2), (4, 5), (2, 7)],  # kernel_size
        [None, (), 1, 2, 3, 5, (1, 2), (2, 1), (3, 4)],  # stride
        [0, 1, 4, (2, 0), [0, 3], ((1, 0), (2, 5)), ((0, 6), (7, 0)), "valid", "same", "same_upper", "same_lower"],
        [1, 2, (1, 3), (4, 1)],  # dilation
        [False, True],  # ceil_mode
    )
)


@pytest.mark.usefixtures("whole_vectors")
@every_dtype
@every_reduction
def test_every_argument(reduction, dtype):
    """A thirtieth of all combinations for each reduction and dtype, which together are all of them."""
    part = 2 * list(REDUCTIONS).index(reduction) + DTYPES.index(dtype)
    xs = [with_ties_and_nan(part, (2, 2, 7, 9), dtype), integers(part, (2, 2, 7, 9), dtype)]
    count = 0
    for index in range(part, len(GRID), 30):
        kernel_size, stride, padding, dilation, ceil_mode = GRID[index]
        windows = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        x = xs[index % 2]
        if not fits(x, **windows):
            with pytest.raises(ValueError, match="kernel_size must fit"):
                reduce(fastpool, reduction, x, **windows)
            continue
        expected_stride = kernel_size if stride in (None, ()) else stride
        expected = reduce(oracle, reduction, x, **{**windows, "stride": expected_stride}, ceil_mode=ceil_mode)
        assert_close(reduce(fastpool, reduction, x, **windows, ceil_mode=ceil_mode), expected)
        count += 1
    assert count > 80


@pytest.mark.usefixtures("whole_vectors")
@every_dtype
@every_reduction
def test_windows_that_see_no_input(reduction, dtype):
    """Padding beyond the kernel, and dilated taps on both sides of a small input."""
    nothing = {"max": -INF, "max and where": -INF, "min": INF, "min and where": INF}.get(reduction, 0.0)
    for size in [(1, 1), (2, 3), (3, 20)]:
        x = integers(1, (1, 2, *size), dtype) + 10
        for padding, stride in itertools.product([6, (3, 9), ((8, 0), (0, 9)), ((0, 4), (5, 2))], [1, 2, 3]):
            result = check(reduction, x, kernel_size=(2, 3), stride=stride, padding=padding)
            values = result[0] if isinstance(result, tuple) else result
            assert (values == nothing).any()
            if isinstance(result, tuple):
                assert (result[1][values == nothing] == 0).all()
        check(reduction, x, kernel_size=2, stride=1, padding=5, dilation=5)  # taps step over the input
        check(reduction, x, kernel_size=2, stride=2, padding=(5, 25), dilation=(5, 25), ceil_mode=True)


@every_dtype
def test_positional_order(dtype):
    """The order is PyTorch's."""
    x = integers(2, (1, 2, 8, 9), dtype)
    for name in ("max_pool2d", "min_pool2d"):
        arguments = (x, (3, 2), (2, 1), (1, 1), (1, 2), True, True)
        assert_close(getattr(fastpool, name)(*arguments), getattr(oracle, name)(*arguments))
    for arguments in [(x, (3, 2), (2, 1), (1, 1), True, False), (x, (3, 2), (2, 1), (1, 1), True, False, 7)]:
        assert_close(fastpool.avg_pool2d(*arguments), oracle.avg_pool2d(*arguments))
    assert_close(fastpool.sum_pool2d(x, (3, 2), (2, 1), 1, True), oracle.sum_pool2d(x, (3, 2), (2, 1), 1, True))
    assert_close(fastpool.lp_pool2d(x, 2, (3, 2), (2, 1), True), oracle.lp_pool2d(x, 2, (3, 2), (2, 1), True))
    assert_close(fastpool.adaptive_max_pool2d(x, (3, 2), True), oracle.adaptive_max_pool2d(x, (3, 2), True))


def test_numpy_integers_are_integers():
    x = integers(3, (1, 2, 8, 9), np.float64)
    expected = oracle.max_pool2d(x, 3, 2, 1, 1)
    two, three, one = np.int64(2), np.uint8(3), np.int32(1)
    assert_close(fastpool.max_pool2d(x, three, two, one, one), expected)
    assert_close(fastpool.max_pool2d(x, [three, 3], np.array([2, 2]), np.array([[1, 1], [1, 1]]), (one, 1)), expected)
    assert_close(fastpool.adaptive_avg_pool2d(x, two), oracle.adaptive_avg_pool2d(x, 2))
    assert_close(fastpool.adaptive_avg_pool2d(x, (two, None)), oracle.adaptive_avg_pool2d(x, (2, None)))
    assert_close(fastpool.avg_pool2d(x, 2, divisor_override=three), oracle.avg_pool2d(x, 2, divisor_override=3))
    assert_close(fastpool.lp_pool2d(x, np.float32(1.5), 2), oracle.lp_pool2d(x, 1.5, 2))


# --------------------------------------------------------------------------------------------------------- by hand


def test_divisors_of_the_mean():
    """In ceil mode the padding at the end counts, what overhangs it does not."""
    x = np.arange(1.0, 17.0).reshape(1, 4, 4)
    mean = fastpool.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
    np.testing.assert_allclose(mean[0], [[14 / 9, 30 / 9, 2], [57 / 9, 11, 6], [4.5, 7.5, 4]], rtol=1e-15)
    valid = fastpool.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
    np.testing.assert_allclose(valid[0], [[3.5, 5, 6], [9.5, 11, 12], [13.5, 15, 16]], rtol=1e-15)
    nine = fastpool.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=9)
    np.testing.assert_allclose(nine[0] * 9, fastpool.sum_pool2d(x, 3, 2, 1, ceil_mode=True)[0], rtol=1e-15)


@every_dtype
def test_indices_of_ties_nan_and_infinities(dtype):
    """Of equal ones the first in row-major order, of NaN the last, and the first tap where all are -inf."""
    x = np.array([[[7, 7, 1, 2], [7, 7, NAN, NAN], [-INF, -INF, NAN, 5], [-INF, -INF, 5, 5]]], dtype)
    values, indices = fastpool.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(values, np.array([[[7, NAN], [-INF, NAN]]], dtype))
    np.testing.assert_array_equal(indices, [[[0, 7], [8, 10]]])
    values, indices = fastpool.min_pool2d(-x, 2, return_indices=True)
    np.testing.assert_array_equal(values, np.array([[[-7, NAN], [INF, NAN]]], dtype))
    np.testing.assert_array_equal(indices, [[[0, 7], [8, 10]]])
    # With padding the first tap is the first that falls on the input.
    lowest = np.full((1, 3, 3), -INF, dtype)
    indices = fastpool.max_pool2d(lowest, 2, 1, 1, return_indices=True)[1]
    np.testing.assert_array_equal(indices[0], [[0, 0, 1, 2], [0, 0, 1, 2], [3, 3, 4, 5], [6, 6, 7, 8]])
    indices = fastpool.min_pool2d(-lowest, 2, 1, ((1, 0), (0, 1)), 2, return_indices=True)[1]
    np.testing.assert_array_equal(indices[0], [[3, 4], [0, 1]])


@every_dtype
@pytest.mark.parametrize("name", ["max_pool2d", "min_pool2d"])
def test_indices_lead_to_the_values(name, dtype):
    x = with_ties_and_nan(4, (2, 3, 8, 11), dtype)
    for options in ({"stride": 1}, {"padding": 1}, {"dilation": (2, 1), "ceil_mode": True}):
        values, indices = getattr(fastpool, name)(x, (3, 2), **options, return_indices=True)
        assert indices.dtype == np.int64
        planes = x.reshape(2, 3, -1)
        found = np.take_along_axis(planes, indices.reshape(2, 3, -1), 2).reshape(values.shape)
        np.testing.assert_array_equal(found, values)
        np.testing.assert_array_equal(getattr(fastpool, name)(x, (3, 2), **options), values)


@every_dtype
def test_a_single_nan_reaches_exactly_the_windows_that_see_it(dtype):
    for place in itertools.product((0, 2, 5), (0, 7, 16, 20)):
        x = integers(5, (1, 6, 21), dtype)
        x[(0, *place)] = NAN
        seen = fastpool.sum_pool2d(np.isnan(x).astype(dtype), (2, 3), 1) > 0
        for reduction in REDUCTIONS:
            result = reduce(fastpool, reduction, x, kernel_size=(2, 3), stride=1)
            values = result[0] if isinstance(result, tuple) else result
            np.testing.assert_array_equal(np.isnan(values), seen)


def test_norms_take_the_absolute_value():
    x = np.array([[[-3.0, 4.0], [0.0, -12.0]]])
    for p, expected in [
        (1, 19),
        (2, 13),
        (3, (27 + 64 + 12**3) ** (1 / 3)),
        (INF, 12),
        (0.5, (3**0.5 + 2 + 12**0.5) ** 2),
    ]:
        np.testing.assert_allclose(fastpool.lp_pool2d(x, p, 2), [[[expected]]], rtol=1e-14)


# ------------------------------------------------------------------------------------------------ adaptive, global


@every_dtype
def test_adaptive_of_every_size(dtype):
    """Fewer and more outputs than inputs, None, one integer for both axes."""
    for height, width in [(1, 1), (1, 7), (5, 1), (4, 6), (7, 18), (9, 35)]:
        x = integers(6, (2, 3, height, width), dtype)
        odd = with_ties_and_nan(7, (2, 3, height, width), dtype)
        for out in [
            1,
            2,
            7,
            (1, 5),
            (3, 1),
            (None, 4),
            (6, None),
            (None, None),
            None,
            (2, 40),
            [11, 3],
            (width, height),
        ]:
            pair = (out, out) if out is None else out
            assert_close(fastpool.adaptive_avg_pool2d(x, out), oracle.adaptive_avg_pool2d(x, pair))
            assert_close(fastpool.adaptive_avg_pool2d(odd, out), oracle.adaptive_avg_pool2d(odd, pair))
            assert_close(fastpool.adaptive_max_pool2d(odd, out), oracle.adaptive_max_pool2d(odd, pair))
            assert_close(fastpool.adaptive_max_pool2d(odd, out, True), oracle.adaptive_max_pool2d(odd, pair, True))


ADAPTIVE = {
    "adaptive mean": lambda module, x: module.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive max": lambda module, x: module.adaptive_max_pool2d(x, (3, None)),
    "adaptive max and where": lambda module, x: module.adaptive_max_pool2d(x, (2, 9), return_indices=True),
    "global mean": lambda module, x: module.global_avg_pool2d(x),
    "global max": lambda module, x: module.global_max_pool2d(x),
    "adaptive mean to one": lambda module, x: module.adaptive_avg_pool2d(x, 1),
    "adaptive max to one": lambda module, x: module.adaptive_max_pool2d(x, (1, 1)),
    "adaptive max to one and where": lambda module, x: module.adaptive_max_pool2d(x, 1, True),
}
EVERY = ADAPTIVE | {
    name: lambda module, x, name=name: reduce(module, name, x, kernel_size=(2, 3), stride=(2, 1), padding=(0, 1))
    for name in REDUCTIONS
}
every_function = pytest.mark.parametrize("function", EVERY.values(), ids=EVERY)


@every_dtype
def test_global_at_every_width(dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    for width in [*range(1, 2 * lanes + 3), 2047, 2048, 2049, 4100]:
        x, odd = integers(8, (2, 2, 3, width), dtype), with_ties_and_nan(9, (2, 3, 2, width), dtype)
        for layout in ("contiguous", "within a larger one", "every second column", "columns reversed"):
            place = LAYOUTS[layout]
            assert_close(fastpool.global_avg_pool2d(place(x)), oracle.global_avg_pool2d(x))
            assert_close(fastpool.global_avg_pool2d(place(odd)), oracle.global_avg_pool2d(odd))
            assert_close(fastpool.global_max_pool2d(place(x)), oracle.global_max_pool2d(x))
            assert_close(fastpool.global_max_pool2d(place(odd)), oracle.global_max_pool2d(odd))
        rows = x.reshape(2, 2, width, 3)  # short rows that touch
        assert_close(fastpool.global_avg_pool2d(rows), oracle.global_avg_pool2d(rows))
        assert_close(fastpool.global_max_pool2d(rows), oracle.global_max_pool2d(rows))


# ------------------------------------------------------------------------------------------- shapes, memory, threads


@every_dtype
@every_function
@pytest.mark.parametrize("layout", LAYOUTS)
@sweep
def test_strides_alignment_and_byte_order(layout, function, dtype):
    for shape in [(2, 3, 7, 18), (3, 5, 9)]:
        x = with_ties_and_nan(10, shape, dtype)
        assert_close(function(fastpool, LAYOUTS[layout](x)), function(oracle, x))


@every_function
def test_broadcast_input(function):
    x = integers(11, (3, 4, 6, 19), np.float32)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
        part = x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))]
        flat = np.broadcast_to(part, x.shape)
        assert_close(function(fastpool, flat), function(oracle, flat))


@every_dtype
@every_function
def test_batches(function, dtype):
    """Any number of images and channels, no images, and no batch axis at all."""
    x = integers(12, (5, 3, 6, 9), dtype)
    for part in (x, x[:1], x[:0], x[2], x[:, :1], x[3, :1], x[::-2], x[1:1]):
        assert_close(function(fastpool, part), function(oracle, part))


@every_dtype
@every_function
@pytest.mark.parametrize(
    "shape",
    [(3, 100, 6, 7), (1, 700, 3, 5), (2, 2, 300, 260), (70, 1, 61, 67)],
    ids=["many planes", "very many small planes", "few large planes", "planes beyond a task"],
)
def test_work_is_cut_into_tasks(function, dtype, shape):
    """Small integers, which are the same everywhere except near a few marks: a row or plane done by none would show."""
    x = integers(13, shape, dtype)
    assert_close(
        function(fastpool, x[..., : max(3, shape[2] // 20), :]), function(oracle, x[..., : max(3, shape[2] // 20), :])
    )
    whole = function(fastpool, x)
    parts = [function(fastpool, x[n : n + 1, c : c + 1]) for n in range(shape[0]) for c in range(shape[1])]
    for index, values in enumerate(whole if isinstance(whole, tuple) else (whole,)):
        pieces = [part[index] if isinstance(part, tuple) else part for part in parts]
        assert_close(values, np.concatenate(pieces).reshape(values.shape))


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_dtype
@every_function
def test_results_are_bit_identical_for_any_number_of_threads(function, dtype):
    for shape in [(2, 3, 40, 41), (1, 1, 200, 350), (1, 90, 7, 5)]:
        x = noise(14, shape, dtype)
        results = set()
        for threads in (1, 2, 2, 1):
            with fastpool.threads(threads):
                assert runtime.threads_for(1.0) == threads
                result = function(fastpool, x)
                results.add(b"".join(part.tobytes() for part in (result if isinstance(result, tuple) else (result,))))
        assert len(results) == 1


@every_function
def test_input_is_left_alone(function):
    x = noise(15, (2, 3, 7, 9), np.float64)
    copy = x.copy()
    x.flags.writeable = False
    result = function(fastpool, x)
    assert not np.shares_memory(result[0] if isinstance(result, tuple) else result, x)
    np.testing.assert_array_equal(x, copy)


def test_out_is_returned_and_filled():
    """Contiguous, strided, reversed and misaligned arrays, slices of a batch, and none of an empty batch."""
    x = integers(16, (2, 3, 8, 21), np.float32)
    for reduction in REDUCTIONS:
        expected = reduce(fastpool, reduction, x, kernel_size=(2, 3), stride=2)
        values = expected[0] if isinstance(expected, tuple) else expected
        for layout, change in LAYOUTS.items():
            if "byte" in layout or layout == "read-only":
                continue  # out has to be native and writeable
            out = change(np.zeros_like(values))
            result = reduce(fastpool, reduction, x, kernel_size=(2, 3), stride=2, out=out)
            assert (result[0] if isinstance(result, tuple) else result) is out
            np.testing.assert_array_equal(out, values)
        empty = np.empty((0, *values.shape[1:]), np.float32)
        result = reduce(fastpool, reduction, x[:0], kernel_size=(2, 3), stride=2, out=empty)
        assert (result[0] if isinstance(result, tuple) else result) is empty


# ----------------------------------------------------------------------------------------------- accuracy and range


@every_dtype
def test_sums_of_large_windows_are_accurate(dtype):
    """Numbers around 5, so that nothing cancels, in windows of thousands."""
    x = noise(17, (1, 2, 130, 200), dtype) + dtype(5)
    for reduction in ("mean", "sum", "L1", "L2", "L3", "L1.5"):
        check(reduction, x, kernel_size=64, stride=33, padding=(3, 40))
    large = noise(18, (1, 1, 700, 1000), dtype) + dtype(5)
    assert_close(fastpool.global_avg_pool2d(large), oracle.global_avg_pool2d(large))


@every_dtype
def test_numbers_at_the_ends_of_the_range(dtype):
    limits = np.finfo(dtype)
    x = np.array([limits.max, -limits.max, limits.tiny, limits.smallest_subnormal, -0.0, 0.0] * 4, dtype).reshape(
        1, 3, 8
    )
    for reduction in ("max", "max and where", "min", "min and where", "Linf"):
        check(reduction, x, kernel_size=(2, 3), stride=1)
        check(reduction, x, kernel_size=(1, 1), stride=3)


def check_huge_arguments():
    """What does not depend on the size of a stride, kernel or dilation may not need memory in proportion to it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    x = integers(19, (1, 2, 5, 6), np.float32)
    for reduction in REDUCTIONS:
        every = reduce(oracle, reduction, x, kernel_size=(2, 3), stride=1)
        for huge in (10**6, 10**8, 2**31 - 1):
            for stride, seen in [
                (huge, np.s_[..., :1, :1]),
                ((1, huge), np.s_[..., :1]),
                ((huge, 1), np.s_[..., :1, :]),
            ]:
                expected = tuple(part[seen] for part in every) if isinstance(every, tuple) else every[seen]
                assert_close(reduce(fastpool, reduction, x, kernel_size=(2, 3), stride=stride), expected)
            single = reduce(oracle, reduction, x, kernel_size=1, stride=1)
            assert_close(reduce(fastpool, reduction, x, kernel_size=1, stride=1, dilation=huge), single)
    for huge, stride in itertools.product([10**5, 10**7], [1, 2, 3, None]):  # nearly all of the window is padding
        windows = {"kernel_size": huge, "stride": stride, "padding": ((1, huge - 6), (1, huge - 7))}
        assert_close(fastpool.max_pool2d(x, **windows), oracle.global_max_pool2d(x))
        mean = fastpool.avg_pool2d(x, **windows, count_include_pad=False)
        assert_close(mean, oracle.global_avg_pool2d(x))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_huge_windows_need_no_memory():
    run_apart("test_pooling", "check_huge_arguments")
