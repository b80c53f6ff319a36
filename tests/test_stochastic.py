"""Stochastic pooling against the oracle: weighted means, draws, their frequencies, and every argument."""

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

import fastpool
from fastpool import oracle_extras
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.routines.routine import lanes as lanes_for

INF, NAN = np.inf, np.nan
MODES = {"mean": {}, "draw": {"training": True, "seed": 5}}
every_mode = pytest.mark.parametrize("mode", MODES)


def check(mode, x, *arguments, **options):
    """Require the result, returned or written into an array, to equal the oracle's, draws exactly; give it."""
    options = options | MODES[mode]
    expected = oracle_extras.stochastic_pool2d(native(x), *arguments, **options)
    result = fastpool.stochastic_pool2d(x, *arguments, **options)
    assert_close(result, expected)
    if mode == "draw":
        np.testing.assert_array_equal(result, expected)
    frame = Frame(expected.shape, expected.dtype.type, contiguous=x.shape[-1] % 2 == 0)
    assert fastpool.stochastic_pool2d(x, *arguments, **options, out=frame.array) is frame.array
    np.testing.assert_array_equal(frame.array, result)
    frame.assert_kept()
    return result


def at_every_width(dtype):
    """Give x of every width up to two vectors and two elements, and windows of every column stride to 4."""
    widths = range(3, 2 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]) + 3)
    for width, stride in itertools.product(widths, range(1, 5)):
        windows = [((2, 3), ((1, 0), (2, 3)), 1), (2, 0, 1), ((3, 2), "same", (1, 2)), ((1, 5), (3, 5), (3, 1))]
        kernel, padding, dilation = windows[(width + stride) % 4]
        yield integers(width, (2, 2, 5, width), dtype), (kernel, (2, stride), padding, dilation)


@every_dtype
@every_mode
def test_every_width_and_stride(mode, dtype):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    places = [lambda a: between(a, NAN), LAYOUTS["every second column"], LAYOUTS["within a larger one"]]
    for index, (x, windows) in enumerate(at_every_width(dtype)):
        check(mode, places[(0, 1, 0, 2)[index % 4]](x), *windows)


def check_guarded_memory(dtype_name):
    """Forbidden pages lie right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for index, (x, windows) in enumerate(at_every_width(dtype)):
        memory, at_end = GuardedMemory(), index % 2 == 0
        expected = oracle_extras.stochastic_pool2d(x, *windows)
        out = memory.array(np.zeros(expected.shape, dtype), at_end)
        assert_close(fastpool.stochastic_pool2d(memory.array(x, at_end), *windows, out=out), expected)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_stochastic", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
@every_mode
def test_every_argument(mode, dtype):
    strides = [None, (), 1, 3, (1, 2)]
    paddings = [0, 4, [0, 3], ((1, 0), (2, 5)), "valid", "same", "same_upper", "same_lower"]
    for index, (kernel, stride, padding, ceil_mode) in enumerate(
        itertools.product([2, (3, 2), (1, 5)], strides, paddings, [False, True])
    ):
        x = (with_ties_and_nan if index % 2 else noise)(index, (1, 2, 7, 19), dtype)
        result = fastpool.stochastic_pool2d(x, kernel, stride, padding, 1, ceil_mode, **MODES[mode])
        steps = kernel if stride in (None, ()) else stride
        assert_close(result, oracle_extras.stochastic_pool2d(x, kernel, steps, padding, 1, ceil_mode, **MODES[mode]))


def test_by_hand():
    x = np.array([[[1.0, 3.0, -2.0, 0.0], [0.0, 0.0, -1.0, -3.0]]])
    np.testing.assert_array_equal(fastpool.stochastic_pool2d(x, 2), [[[2.5, 0.0]]])
    for seed in range(20):
        drawn = fastpool.stochastic_pool2d(x, 2, training=True, seed=seed)
        u = np.random.default_rng(seed).random((1, 1, 2))[0, 0, 0]
        np.testing.assert_array_equal(drawn, [[[1.0 if u < 0.25 else 3.0, 0.0]]])


def test_frequencies_are_the_probabilities():
    """Of 40,000 draws; four standard deviations are at most 0.01."""
    x = np.tile(np.array([[1.0, 2.0], [3.0, 4.0]]), (1, 1, 200, 200))
    drawn = fastpool.stochastic_pool2d(x, 2, training=True, seed=1)
    for value in (1, 2, 3, 4):
        assert np.mean(drawn == value) == pytest.approx(value / 10, abs=0.01)
    assert fastpool.stochastic_pool2d(x, 2)[0, 0, 0, 0] == pytest.approx(3.0)
    assert drawn.mean() == pytest.approx(3.0, abs=0.02)


def test_seeds_and_generators():
    x = noise(2, (2, 3, 20, 22), np.float32)
    same = [fastpool.stochastic_pool2d(x, 2, training=True, seed=s) for s in (7, np.int64(7), np.random.default_rng(7))]
    assert same[0].tobytes() == same[1].tobytes() == same[2].tobytes()
    generator = np.random.default_rng(7)
    first, second = (fastpool.stochastic_pool2d(x, 2, training=True, seed=generator) for _ in range(2))
    assert first.tobytes() == same[0].tobytes() != second.tobytes()
    anew = {fastpool.stochastic_pool2d(x, 2, training=True).tobytes() for _ in range(3)}
    assert len(anew) == 3


@every_dtype
@every_mode
def test_nan_and_infinities(mode, dtype):
    for seed in range(6):
        check(mode, with_ties_and_nan(seed, (2, 3, 8, 40), dtype), 2, 1)
    x = np.array([[[NAN, 1, INF, 1, -INF, 1, -INF, -INF, -0.0, 0.0]]], dtype)
    np.testing.assert_array_equal(check(mode, x, (1, 2))[0, 0], np.array([NAN, NAN, 1, 0, 0], dtype))


@every_dtype
@every_mode
def test_numbers_at_the_ends_of_the_range(mode, dtype):
    limits = np.finfo(dtype)
    for value in (limits.max / 8, limits.tiny, limits.smallest_subnormal, np.sqrt(limits.tiny) / 64):
        result = fastpool.stochastic_pool2d(np.full((1, 2, 2), value, dtype), 2, **MODES[mode])
        np.testing.assert_allclose(result, dtype(value), rtol=1e-5, atol=4 * limits.smallest_subnormal)


@every_dtype
@every_mode
def test_windows_that_see_no_input(mode, dtype):
    x = integers(1, (1, 2, 2, 3), dtype) + dtype(20)
    for padding, stride in itertools.product([6, (3, 9), ((8, 0), (0, 9))], [1, 2, 3]):
        assert (check(mode, x, (2, 3), stride, padding) == 0).any()
    check(mode, x, 2, 1, 5, 5)


@every_dtype
@every_mode
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, mode, dtype):
    for shape in [(2, 3, 7, 38), (3, 5, 9)]:
        x = with_ties_and_nan(10, shape, dtype)
        check(mode, LAYOUTS[layout](x), 3, 2, 1)


@every_mode
def test_batches_and_tasks(mode):
    x = noise(12, (5, 3, 6, 9), np.float32)
    for part in (x, x[:1], x[:0], x[2], x[:, :1], x[3, :1], x[::-2], np.broadcast_to(x[:1], x.shape)):
        check(mode, part, 2)
    for shape in [(3, 100, 6, 7), (1, 700, 3, 5), (1, 2, 90, 60)]:
        check(mode, noise(13, shape, np.float32), 3, 1, 1)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_mode
def test_results_are_bit_identical_for_any_number_of_threads(mode):
    for shape in [(2, 3, 40, 41), (1, 1, 100, 150), (1, 90, 7, 5)]:
        x, results = noise(14, shape, np.float32), set()
        for threads in (1, 2, 2, 1):
            with fastpool.threads(threads):
                results.add(fastpool.stochastic_pool2d(x, 3, 1, 1, **MODES[mode]).tobytes())
        assert len(results) == 1


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.sampled_from(sorted(MODES)))
def test_anything_equals_the_oracle(data, seed, dtype, mode):
    shape = (*data.draw(st.sampled_from([(), (0,), (1,), (3,)])), *(data.draw(st.integers(1, n)) for n in (4, 9, 40)))
    kernel = tuple(data.draw(st.integers(1, min(4, n))) for n in shape[-2:])
    end, step = st.integers(0, 9), st.integers(1, 4)
    padding = data.draw(st.one_of(st.tuples(st.tuples(end, end), st.tuples(end, end)), st.just("same"), end))
    make = data.draw(st.sampled_from([noise, integers, with_ties_and_nan]))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    stride = data.draw(st.tuples(step, step))
    check(mode, layout(make(seed, shape, dtype)), kernel, stride, padding, 1, data.draw(st.booleans()))


X = integers(0, (2, 4, 6, 7), np.float32)
BAD = {
    "x": [None, [1.0], X[0, 0], X[None], X[:, :0], X[..., :0], X.astype(complex), X.astype(int), np.ma.array(X)],
    "kernel_size": [0, -1, 1.5, True, "2", None, (2,) * 3, 8, (7, 1), 10**30],
    "stride": [0, -1, 1.5, True, "2", (2,) * 3, 10**30],
    "padding": [-1, 1.5, True, "full", None, (1,) * 3, ((1, -1),) * 2, 10**30],
    "dilation": [0, -1, 1.5, True, None, (1,) * 3, 10**30],
    "ceil_mode": [0, 1, None, "yes"],
    "training": [0, 1, None, "yes"],
    "seed": [-1, 1.5, "1", True, [1], np.random.RandomState(1), 2**128],
    "out": [1, X, np.zeros((2, 4, 3, 3))],
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    for value in BAD[argument]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.stochastic_pool2d(**{"x": X, "kernel_size": 2, "training": True} | {argument: value})


def test_a_seed_is_for_training():
    with pytest.raises(ValueError, match="seed must be None unless training"):
        fastpool.stochastic_pool2d(X, 2, seed=1)


def test_too_many_taps_for_the_scratch():
    with pytest.raises(ValueError, match="kernel_size must not have so many taps"):
        fastpool.stochastic_pool2d(np.ones((1, 1000, 1000), np.float32), 1000)
