"""Median pooling against the oracle: every remainder and argument, NaN, ties, integers, windows of every size."""

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
    draw,
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
from sweeps import examples, sweep

import fastpool
from fastpool import oracle_extras
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.plans import median as plans
from fastpool.routines.median import LARGEST_SORTED, comparators
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.table import KERNELS

INF, NAN = np.inf, np.nan
INTEGERS = tuple(np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64))


@pytest.fixture(params=["sorted", "counted", "in place"])
def method(request, monkeypatch):
    """Let plans take a method; those made under it are forgotten."""
    if request.param != "sorted":
        monkeypatch.setattr(plans, "LARGEST_SORTED", 0)
    if request.param == "in place":
        monkeypatch.setattr(plans, "SCRATCH_BYTES", 0)
    plans.plan_median.cache_clear()
    yield request.param
    plans.plan_median.cache_clear()


def check(x, *arguments, axes=2, **options):
    """Require the result, returned or written into an array, to equal the oracle's; give it."""
    expected = getattr(oracle_extras, f"median_pool{axes}d")(native(x), *arguments, **options)
    function = getattr(fastpool, f"median_pool{axes}d")
    result = function(x, *arguments, **options)
    assert_close(result, expected)
    frame = Frame(expected.shape, expected.dtype.type, contiguous=x.shape[-1] % 2 == 0)
    assert function(x, *arguments, **options, out=frame.array) is frame.array
    np.testing.assert_array_equal(frame.array, result)
    frame.assert_kept()
    return result


def at_every_width(dtype):
    """Give x of every width up to two vectors and two elements, and windows of every column stride to 4."""
    widths = range(3, 2 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]) + 3)
    for width, stride in itertools.product(widths, range(1, 5)):
        kernel, padding, dilation = [
            *(((3, 3), ((1, 0), (2, 3)), 1), ((2, 2), 0, 1), ((3, 3), "same", (1, 2)), ((2, 2), (3, 5), (3, 1))),
        ][(width + stride) % 4]
        yield integers(width, (2, 2, 5, width), dtype), (kernel, (2, stride), padding, dilation)


@pytest.mark.usefixtures("method")
@every_dtype
@sweep
def test_every_width_and_stride(dtype):
    """NaN surrounds all inputs and must not leak in; nothing around the output may change."""
    places = [lambda a: between(a, NAN), LAYOUTS["every second column"], LAYOUTS["within a larger one"]]
    for index, (x, windows) in enumerate(at_every_width(dtype)):
        check(places[(0, 1, 0, 2)[index % 4]](x), *windows)


def check_guarded_memory(dtype_name):
    """Forbidden pages lie right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for index, (x, windows) in enumerate(at_every_width(dtype)):
        memory, at_end = GuardedMemory(), index % 2 == 0
        expected = oracle_extras.median_pool2d(x, *windows)
        out = memory.array(np.zeros(expected.shape, dtype), at_end)
        fastpool.median_pool2d(memory.array(x, at_end), *windows, out=out)
        assert_close(out, expected)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_median", "check_guarded_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kernel_size", [2, (3, 2), (1, 5), (9, 8)])
@sweep
def test_every_argument(kernel_size, ceil_mode, dtype):
    strides = [None, (), 1, 2, 3, (1, 2), (3, 1)]
    paddings = [0, 4, (2, 0), [0, 3], ((1, 0), (2, 5)), "valid", "same", "same_upper", "same_lower"]
    for index, (stride, padding) in enumerate(itertools.product(strides, paddings)):
        x = (with_ties_and_nan if index % 2 else integers)(index, (1, 2, 9, 19), dtype)
        result = fastpool.median_pool2d(x, kernel_size, stride, padding, 1, ceil_mode)
        steps = kernel_size if stride in (None, ()) else stride
        assert_close(result, oracle_extras.median_pool2d(x, kernel_size, steps, padding, 1, ceil_mode))


@every_dtype
@pytest.mark.parametrize("taps", [*range(1, 10), 16, 25, 27, 64, 65, 100])
def test_every_number_of_taps(taps, dtype):
    """Odd and even, sorted and counted; ties, NaN and infinities among them."""
    for make in (noise, integers, with_ties_and_nan):
        x = make(taps, (1, 1, 1, taps + 40), dtype)
        check(x, (1, taps), 1)
        check(x, (1, taps), 3, ((0, 0), (taps - 1, 0)))


def test_the_network_sorts():
    """By the 0-1 principle it is enough that it sorts zeros and ones; all of them up to 12, random ones beyond."""
    for n in range(1, LARGEST_SORTED + 1):
        every = range(2**n) if n <= 12 else np.random.default_rng(n).integers(0, 2**62, 300)
        values = np.array([[int(bits) >> i & 1 for i in range(n)] for bits in every])
        if n > 12:
            values = np.concatenate(
                [values, np.random.default_rng(n).permuted(np.tile(np.arange(n), (300, 1)), axis=1)]
            )
        wanted = np.sort(values, axis=1)
        for i, j in comparators(n):
            values[:, i], values[:, j] = np.minimum(values[:, i], values[:, j]), np.maximum(values[:, i], values[:, j])
        np.testing.assert_array_equal(values, wanted)


@pytest.mark.usefixtures("method")
@every_dtype
def test_nan_and_infinities(dtype):
    for seed in range(6):
        check(with_ties_and_nan(seed, (2, 3, 8, 40), dtype), 3, 1, 1)
    x = np.array([[[-INF, INF, -INF, -INF, INF, INF, 0, -INF, 5, INF, 1, NAN]]], dtype)
    result = fastpool.median_pool2d(x, (1, 2))
    np.testing.assert_array_equal(result[0, 0], np.array([NAN, -INF, INF, -INF, INF, NAN], dtype))
    result = fastpool.median_pool2d(x, (1, 3))
    np.testing.assert_array_equal(result[0, 0], np.array([-INF, INF, 0, NAN], dtype))


@pytest.mark.usefixtures("method")
@every_dtype
def test_numbers_at_the_ends_of_the_range(dtype):
    limits = np.finfo(dtype)
    x = np.array([limits.max, limits.max, -limits.max, -limits.max, limits.tiny, -0.0, 0.0], dtype)
    small = limits.smallest_subnormal
    expected = np.array([limits.max, 0, -limits.max, limits.tiny / 2 - limits.max / 2, limits.tiny / 2, 0], dtype)
    np.testing.assert_array_equal(fastpool.median_pool1d(x[None], 2, 1)[0], expected)
    np.testing.assert_array_equal(fastpool.median_pool1d(np.array([[3 * small, 5 * small]], dtype), 2), [[4 * small]])
    np.testing.assert_array_equal(fastpool.median_pool1d(x[None], 3, 1)[0], x[[1, 2, 2, 5, 6]])


@pytest.mark.usefixtures("method")
@every_dtype
def test_windows_that_see_no_input(dtype):
    for size in [(1, 1), (2, 3), (3, 20)]:
        x = integers(1, (1, 2, *size), dtype)
        for padding, stride in itertools.product([6, (3, 9), ((8, 0), (0, 9))], [1, 2, 3]):
            assert np.isnan(check(x, (2, 3), stride, padding)).any()
        check(x, 2, 1, 5, 5)  # taps step over the input


@pytest.mark.parametrize(
    ("method", "dtype"),
    # All methods convert by the same code: one tells of every integer, the others of the least and the widest.
    [("sorted", dtype) for dtype in (*INTEGERS, np.bool_)]
    + [(method, dtype) for method in ("counted", "in place") for dtype in (np.int8, np.uint64)],
    indirect=["method"],
)
@sweep
def test_integers_give_float64(method, dtype):
    shape = (2, 3, 7, 23)
    x = integers(1, shape, np.int8).astype(bool) if dtype is np.bool_ else draw(2, shape, dtype)
    every = [(3, 1, 1), (2, 2), ((2, 3), (1, 2), 2)]  # each sorts by code of its own, after the same conversion
    for windows in every if dtype in (np.int8, np.bool_) else every[1:2]:
        assert check(x, *windows).dtype == np.float64
        check(x[..., ::-1], *windows)
        check(x.swapaxes(2, 3), *windows)


@pytest.mark.parametrize("axes", [1, 3])
@every_dtype
def test_other_ranks(axes, dtype):
    for seed, x in enumerate(
        [noise(1, (2, 3, 7, 6, 19)[: axes + 2], dtype), integers(2, (2, 9, 5, 21)[: axes + 1], dtype)]
    ):
        for arguments in [(3, 1, 1), (2,), ((2, 3, 1)[:axes], (1, 2, 3)[:axes], 1, 1, True), (3, 2, "same", 2)]:
            check(x, *arguments, axes=axes)
        check(with_ties_and_nan(seed, x.shape, dtype), 2, 1, axes=axes)


@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@sweep
def test_strides_alignment_and_byte_order(layout, dtype):
    for shape in [(2, 3, 7, 38), (3, 7, 9)]:
        x = with_ties_and_nan(10, shape, dtype)
        for windows in [(3, 1, 1), (2, 2), (9, 2, 4)]:
            check(LAYOUTS[layout](x), *windows)
    check(LAYOUTS[layout](draw(11, (2, 3, 7, 8), np.int16)), 3, 1, 1)


def test_broadcast_input():
    x = integers(11, (3, 4, 6, 19), np.float32)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
        part = x[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))]
        check(np.broadcast_to(part, x.shape), 3, 1, 1)


@every_dtype
def test_batches_and_tasks(dtype):
    x = integers(12, (5, 3, 6, 9), dtype)
    for part in (x, x[:1], x[:0], x[2], x[:, :1], x[3, :1], x[::-2]):
        check(part, 2)
    empty = np.empty((0, 3, 3, 4), dtype)
    assert fastpool.median_pool2d(x[:0], 2, out=empty) is empty
    for shape in [(3, 100, 6, 7), (1, 700, 3, 5), (1, 2, 90, 60)]:
        check(noise(13, shape, dtype), 3, 1, 1)


@needs_threads
@pytest.mark.usefixtures("always_parallel", "method")
@every_dtype
def test_results_are_bit_identical_for_any_number_of_threads(dtype):
    for shape in [(2, 3, 40, 41), (1, 1, 100, 150), (1, 90, 7, 5)]:
        x, results = noise(14, shape, dtype), set()
        for threads in (1, 2, 2, 1):
            with fastpool.threads(threads):
                results.add(fastpool.median_pool2d(x, 3, 1, 1).tobytes())
        assert len(results) == 1


def test_windows_that_no_scratch_holds():
    """A plane of 300 x 250 and all of it a window: beyond the scratch that a thread may have."""
    x = noise(15, (1, 2, 300, 250), np.float32)
    np.testing.assert_array_equal(fastpool.median_pool2d(x, (300, 250))[..., 0, 0], np.median(x, axis=(2, 3)))
    odd = x[..., 1:, 1:]
    np.testing.assert_array_equal(fastpool.median_pool2d(odd, (299, 249))[..., 0, 0], np.median(odd, axis=(2, 3)))
    odd = odd.copy()
    odd[0, 1, 170, 80] = NAN
    assert np.isnan(fastpool.median_pool2d(odd, (299, 249))).ravel().tolist() == [False, True]


@settings(deadline=None, max_examples=examples(150))
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES), st.booleans())
def test_anything_equals_the_oracle(data, seed, dtype, ceil_mode):
    shape = (*data.draw(st.sampled_from([(), (0,), (1,), (3,)])), *(data.draw(st.integers(1, n)) for n in (4, 9, 40)))
    kernel = data.draw(st.sampled_from([(1, 1), (2, 2), (3, 3), (1, 4), (9, 9)]))
    one = st.integers(0, 9)
    padding = data.draw(st.one_of(one, st.tuples(st.tuples(one, one), st.tuples(one, one)), st.just("same")))
    pair = st.tuples(st.integers(1, 4), st.integers(1, 4))
    stride, dilation = data.draw(pair), data.draw(pair)
    if padding != "same":
        ends = padding if isinstance(padding, tuple) else ((padding,) * 2,) * 2
        for size, k, d, p in zip(shape[-2:], kernel, dilation, ends, strict=True):
            if size + sum(p) < d * (k - 1) + 1:
                return
    make = data.draw(st.sampled_from([noise, integers, with_ties_and_nan]))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    check(layout(make(seed, shape, dtype)), kernel, stride, padding, dilation, ceil_mode)


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(0, 2**32 - 1), st.sampled_from([(3, 3), (2, 2)]), st.integers(1, 3), st.integers(0, 2))
def test_it_commutes_with_what_keeps_order(seed, kernel, stride, padding):
    x = integers(seed, (2, 3, 9, 23), np.float64)
    median = fastpool.median_pool2d(x, kernel, stride, padding)
    np.testing.assert_array_equal(fastpool.median_pool2d(-x, kernel, stride, padding), -median)
    np.testing.assert_array_equal(fastpool.median_pool2d(2 * x + 3, kernel, stride, padding), 2 * median + 3)
    turned = fastpool.median_pool2d(x[..., ::-1], kernel, 1, padding)[..., ::-1]
    np.testing.assert_array_equal(turned, fastpool.median_pool2d(x, kernel, 1, padding))


def test_every_plan_takes_a_routine_of_the_table(monkeypatch):
    """Of few taps, many, and more than a scratch holds; nothing is compiled."""
    names = {id(routine.body): name for name, (routine, _) in KERNELS.items()}
    seen = []

    def recorded(problem):
        seen.append(plans.plan_median(problem))
        raise InterruptedError

    monkeypatch.setattr("fastpool.median.plan_median", recorded)
    for dtype in (*DTYPES, *INTEGERS, np.bool_):
        for kernel in ((1, 1), (3, 3), (8, 8), (9, 9), (300, 300)):
            with pytest.raises(InterruptedError):
                fastpool.median_pool2d(np.ones((1, 300, 300), dtype), kernel, 299)
    codes = [plan.steps[0].kernel for plan in seen]
    assert all(code.shape in KERNELS[names[id(code.routine.body)]][1] for code in codes)
    assert {names[id(code.routine.body)] for code in codes} == {"sorted_median", "counted_median", "median_in_place"}
    assert all(plan.workspace(1) <= 16 * 2**20 for plan in seen)


X = integers(0, (2, 4, 6, 7), np.float32)
BAD = {
    "x": [None, [1.0], X[0, 0], X[None], X[:, :0], X[..., :0], X.astype(complex), X.astype(np.float16), np.ma.array(X)],
    "kernel_size": [0, -1, 1.5, True, "2", None, (2,) * 3, 8, (7, 1), 10**30],
    "stride": [0, -1, 1.5, True, "2", (2,) * 3, 10**30],
    "padding": [-1, 1.5, True, "full", None, (1,) * 3, ((1, -1),) * 2, 10**30],
    "dilation": [0, -1, 1.5, True, None, (1,) * 3, 10**30],
    "ceil_mode": [0, 1, None, "yes"],
    "out": [1, X, np.zeros((2, 4, 3, 3)), np.zeros((2, 4, 3, 3), np.float32)[..., ::-1].astype(np.int32)],
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    for value in BAD[argument]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.median_pool2d(**{"x": X, "kernel_size": 2} | {argument: value})
    overlapping = np.zeros((1, 1, 8, 8))
    with pytest.raises(ValueError, match="out must not overlap x"):
        fastpool.median_pool2d(overlapping, 1, out=overlapping)
