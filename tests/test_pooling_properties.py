"""Pooling of anything that hypothesis draws: against the oracle, and against other poolings."""

import numpy as np
from conftest import DTYPES, LAYOUTS, assert_close, integers, native, with_ties_and_nan
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sweeps import examples
from test_pooling import INF, REDUCTIONS, check, fits, reduce

import fastpool
from fastpool import oracle

QUIET = settings(deadline=None, max_examples=examples(60))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def pooled(draw):
    """Give x and windows, both drawn freely."""
    pair = st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 5)))
    one = st.integers(0, 9)
    forms = [one, st.tuples(one, one), st.tuples(st.tuples(one, one), st.tuples(one, one))]
    names = st.sampled_from(["valid", "same", "same_upper", "same_lower"])
    shape = (*draw(st.sampled_from([(), (0,), (1,), (3,)])), *(draw(st.integers(1, n)) for n in (4, 9, 40)))
    make = draw(st.sampled_from([integers, with_ties_and_nan]))
    x = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](make(draw(SEEDS), shape, draw(st.sampled_from(DTYPES))))
    return x, {
        "kernel_size": draw(st.sampled_from([(2, 3), (1, 10), 4, 5])),
        "stride": draw(st.none() | pair),
        "padding": draw(st.one_of(*forms, names)),
        "dilation": draw(pair),
        "ceil_mode": draw(st.booleans()),
    }


@settings(deadline=None, max_examples=200)
@given(pooled(), st.sampled_from(sorted(REDUCTIONS)))
def test_anything_equals_the_oracle(problem, reduction):
    x, windows = problem
    assume(fits(x, **windows))
    check(reduction, x, **windows)


@QUIET
@given(
    pooled(),
    st.one_of(*[st.tuples(st.none() | st.integers(1, 30), st.none() | st.integers(1, 60))] * 2, st.integers(1, 9)),
)
def test_any_adaptive_pooling_equals_the_oracle(problem, output_size):
    x = problem[0]
    plain = native(x)
    assert_close(fastpool.adaptive_avg_pool2d(x, output_size), oracle.adaptive_avg_pool2d(plain, output_size))
    expected = oracle.adaptive_max_pool2d(plain, output_size, True)
    assert_close(fastpool.adaptive_max_pool2d(x, output_size, True), expected)
    assert_close(fastpool.adaptive_max_pool2d(x, output_size), expected[0])


@QUIET
@given(pooled())
def test_reductions_agree_with_one_another(problem):
    x, windows = problem
    assume(fits(x, **windows))
    x = native(np.array(x))
    largest, where = fastpool.max_pool2d(x, **windows, return_indices=True)
    np.testing.assert_array_equal(fastpool.max_pool2d(x, **windows), largest)
    smallest, there = fastpool.min_pool2d(-x, **windows, return_indices=True)
    np.testing.assert_array_equal(-smallest, largest)
    np.testing.assert_array_equal(there, where)
    total = fastpool.sum_pool2d(x, **windows)
    np.testing.assert_array_equal(fastpool.avg_pool2d(x, **windows, divisor_override=1), total)
    ones = np.ones(x.shape, x.dtype)
    taps = fastpool.sum_pool2d(ones, **windows)
    assert_close(fastpool.avg_pool2d(x, **windows, count_include_pad=False), total / np.maximum(taps, 1))
    np.testing.assert_array_equal(fastpool.lp_pool2d(x, 1, **windows), fastpool.sum_pool2d(np.abs(x), **windows))
    np.testing.assert_array_equal(fastpool.lp_pool2d(ones, INF, **windows), np.minimum(taps, 1))


@QUIET
@given(SEEDS, st.sampled_from([2, 4, 5]), st.integers(2, 3), st.integers(1, 4), st.integers(1, 20))
def test_windows_of_windows_are_windows(seed, kernel, times, rows, columns):
    """Pooling twice by adjoining windows is pooling once by their product; adaptive pooling agrees where it divides."""
    x = integers(seed, (1, 2, rows * kernel * times, columns * kernel * times), np.float64)
    for pool in (fastpool.max_pool2d, fastpool.min_pool2d, fastpool.sum_pool2d):
        np.testing.assert_array_equal(pool(pool(x, kernel), times), pool(x, kernel * times))
    assert_close(fastpool.adaptive_avg_pool2d(x, (rows, columns)), fastpool.avg_pool2d(x, kernel * times))
    np.testing.assert_array_equal(
        fastpool.adaptive_max_pool2d(x, (rows, columns)), fastpool.max_pool2d(x, kernel * times)
    )


@QUIET
@given(
    SEEDS,
    st.sampled_from([(2, 3), 4]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from(sorted(REDUCTIONS)),
)
def test_shifting_the_input_by_strides_shifts_the_output(seed, kernel, stride, shift, reduction):
    x = integers(seed, (1, 2, 17, 29), np.float32)
    x = np.ascontiguousarray(x)
    windows = {"kernel_size": kernel, "stride": stride}
    whole, part = (
        reduce(fastpool, reduction.removesuffix(" and where"), a, **windows)
        for a in (x, x[..., shift * stride :, shift * stride :])
    )
    np.testing.assert_array_equal(whole[..., shift:, shift:], part)


@QUIET
@given(SEEDS, st.sampled_from([(2, 3), (4, 3)]), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_a_sum_is_a_depthwise_convolution_with_ones(seed, kernel, stride, dilation, padding):
    x = integers(seed, (2, 3, 13, 21), np.float32)
    ones = np.ones((3, 1, *kernel), np.float32)
    summed = fastpool.sum_pool2d(x, kernel, stride, padding, dilation=dilation)
    assert_close(fastpool.conv2d(x, ones, None, stride, padding, dilation, 3), summed)
