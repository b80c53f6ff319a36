"""Large windows: strips, groups of rows, windows of every width put together in every way, and NaN wherever it is."""

import itertools

import numpy as np
import pytest
from conftest import HALVES, LAYOUTS, assert_close, between, filler, integers, noise, with_ties_and_nan
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sweeps import examples

import fastpool
from fastpool import oracle
from fastpool import pooling as calls
from fastpool.machine.processor import TARGET
from fastpool.plans import pooling
from fastpool.plans.plan import Plan
from fastpool.routines.largepool import large_pool
from fastpool.routines.pool import pool
from fastpool.routines.routine import Routine
from fastpool.routines.smallpool import small_pool
from fastpool.routines.tiles import SCRATCH_LIMIT

FUNCTIONS = {
    "max": lambda module, x, *windows: module.max_pool2d(x, *windows),
    "min": lambda module, x, *windows: module.min_pool2d(x, *windows),
    "mean": lambda module, x, *windows: module.avg_pool2d(x, *windows, count_include_pad=False),
}
#: Operation, dtype, strides, and the widths of windows that one spec serves: those of float64 are of several vectors.
KINDS = [
    ("max", np.float32, st.just((1, 1)), st.integers(17, 31)),
    ("max", np.float32, st.tuples(st.integers(2, 30), st.just(2)), st.integers(17, 31)),
    ("min", np.uint8, st.just((1, 1)), st.integers(17, 31)),
    ("mean", np.float64, st.just((1, 2)), st.integers(32, 80)),
    ("mean", np.float64, st.tuples(st.integers(2, 30), st.just(1)), st.integers(32, 80)),
]


@st.composite
def pooled(draw):
    """Give an operation, x, and windows with any padding, which may exceed the window."""
    name, dtype, strides, columns = draw(st.sampled_from(KINDS))
    kernel = draw(st.integers(2, 40)), draw(columns)
    pads = [(draw(st.integers(0, size // 2)), draw(st.integers(0, size + 5))) for size in kernel]
    pads = [pad[:: draw(st.sampled_from((1, -1)))] for pad in pads]
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 50)), draw(st.integers(1, 110))
    assume(all(sum(pad) + size >= taps for pad, size, taps in zip(pads, shape[1:], kernel, strict=True)))
    make = with_ties_and_nan if dtype == np.float32 else integers
    x = make(draw(st.integers(0, 2**32 - 1)), shape, np.float64 if dtype == np.uint8 else dtype).astype(dtype)
    return name, x, (kernel, draw(strides), tuple(pads), 1, draw(st.booleans()))


@settings(deadline=None, max_examples=examples(40))
@given(pooled())
def test_anything_equals_the_oracle(problem):
    name, x, (kernel, stride, pads, dilation, ceil) = problem
    if name == "mean":
        options = {"kernel_size": kernel, "stride": stride, "padding": pads, "ceil_mode": ceil}
        assert_close(fastpool.avg_pool2d(x, **options), oracle.avg_pool2d(x, **options))
    else:
        windows = (kernel, stride, pads, dilation, ceil)
        np.testing.assert_array_equal(FUNCTIONS[name](fastpool, x, *windows), FUNCTIONS[name](oracle, x, *windows))


@pytest.mark.parametrize("shape", [(1, 1, 300, 70), (1, 2, 40, 3000), (70, 3, 33, 20), (1, 1, 20, 9)], ids=str)
@pytest.mark.parametrize(("name", "dtype"), [("max", np.float32), ("min", np.uint8)])
def test_tasks_of_groups_of_strips_and_of_planes(name, dtype, shape):
    """In memory full of what is not to be read; rows after columns, by NumPy."""
    x = noise(7, shape, np.float64).astype(dtype)
    found = FUNCTIONS[name](fastpool, between(x, filler(x.dtype)), 31, 1, 15)
    fill = -np.inf if name == "max" else 255
    expected = np.pad(x, ((0, 0), (0, 0), (15, 15), (15, 15)), constant_values=fill)
    for axis in (2, 3):
        expected = getattr(np.lib.stride_tricks.sliding_window_view(expected, 31, axis), name)(axis=-1)
    np.testing.assert_array_equal(found, expected)


def test_nan_at_every_place():
    """One NaN of a plane, of either sign, or none but infinities; planes without are beside it."""
    windows = (17, 1, 8)
    x = noise(1, (2, 24, 37), np.float32)
    clean = oracle.max_pool2d(x, *windows)
    for row, column in itertools.product(range(24), range(37)):
        changed, expected = x.copy(), clean.copy()
        changed[0, row, column] = np.nan if (row + column) % 2 else -np.nan
        expected[0, max(0, row - 8) : row + 9, max(0, column - 8) : column + 9] = np.nan
        np.testing.assert_array_equal(fastpool.max_pool2d(changed, *windows), expected)
    for fill in (np.inf, -np.inf, np.nan):
        changed = np.full_like(x, fill)
        np.testing.assert_array_equal(fastpool.max_pool2d(changed, *windows), changed)


def test_infinity_does_not_leave_its_window():
    x = noise(2, (2, 60, 90), np.float64)
    x[0, 30, 40], x[1, 3, 3], x[1, 3, 60] = np.inf, -np.inf, np.nan
    windows = ((33, 35), (1, 2), 17)
    assert_close(fastpool.avg_pool2d(x, *windows), oracle.avg_pool2d(x, *windows))


def test_sums_do_not_drift():
    """A large number before small ones changes none of the sums that it is not in, not in the last bit."""
    x = np.ones((1, 80, 200))
    x[0, 0, 0] = 1e17
    assert (fastpool.sum_pool2d(x, (33, 35), (1, 2))[0, 1:, 1:] == 33 * 35).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_16_bits(dtype):
    x = noise(3, (3, 40, 50), np.float32).astype(dtype)
    x[0, 3, 4], x[1, 0, :3], x[2, -1] = np.nan, -np.inf, np.inf
    assert_close(fastpool.max_pool2d(x, 17, 1, 8), oracle.max_pool2d(x, 17, 1, 8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = noise(5, (2, 3, 37, 43), np.float32)
    assert_close(fastpool.max_pool2d(LAYOUTS[layout](x), 17, 1, 8), oracle.max_pool2d(x, 17, 1, 8))


#: Windows that reach no further than into the next vector.
SMALL = min(13, TARGET.vector_bytes // 4 + 1)


@pytest.mark.parametrize(
    ("shape", "options", "routine"),
    [
        ((64, 112, 112), {"kernel_size": 31, "stride": 1, "padding": 15}, large_pool),
        ((64, 112, 112), {"kernel_size": 14, "stride": (3, 2)}, large_pool),
        ((64, 1, 5000), {"kernel_size": (1, 33), "stride": 1}, large_pool),
        ((64, 112, 112), {"kernel_size": SMALL, "stride": 1, "padding": SMALL // 2}, small_pool),
        ((64, 112, 112), {"kernel_size": 31, "stride": 3}, pool),
        ((64, 112, 112), {"kernel_size": 31, "stride": 1, "dilation": 2}, pool),
        ((1, 5000, 5000), {"kernel_size": 2500, "stride": 1}, pool),
    ],
    ids=lambda value: value.layout.name if isinstance(value, Routine) else str(value),
)
def test_choice(monkeypatch, shape, options, routine):
    """Large windows take the kernel for them, unless it would take much scratch."""
    made = []
    plan = pooling.plan_pooling.__wrapped__
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: made.append(plan(problem)) or made[-1])
    monkeypatch.setattr(Plan, "run", lambda *_: None)
    calls._bounds.clear()
    fastpool.max_pool2d(np.empty(shape, np.float32), **options)
    calls._bounds.clear()
    assert made[0].steps[0].kernel.routine is routine
    if routine is large_pool:
        assert made[0].workspace(1) <= SCRATCH_LIMIT + 4096
