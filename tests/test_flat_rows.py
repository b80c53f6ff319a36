"""Several rows to a vector: every width of them and size of a group, every dtype, every order of lanes."""

import ctypes
import itertools
import re

import numpy as np
import pytest
from assembly import ON_X86, blocks
from conftest import (
    LAYOUTS,
    GuardedMemory,
    assert_close,
    between,
    draw,
    filler,
    needs_mprotect,
)
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle
from fastpool import pooling as calls
from fastpool.dtypes import POOLED
from fastpool.geometry import Axis
from fastpool.geometry import output_size as outputs
from fastpool.machine.processor import TARGET
from fastpool.plans import flatpool, pooling
from fastpool.plans.plan import Plan
from fastpool.routines.flatpool import GROUPS, doublings, flat_pool
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.routine import spec_for
from fastpool.routines.table import POOLING_KERNELS

#: Kernel, stride and padding: outputs that lie as inputs do, fewer columns, and every other row and column.
WINDOWS = [(3, 1, 1), (3, 1, 0), (2, 2, 0)]
NARROW = [dtype for dtype in POOLED if dtype.kind in "biu" and dtype.itemsize in TARGET.reordered]
with_orders = pytest.mark.skipif(1 not in TARGET.reordered, reason="no instruction puts bytes in any order")


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Plans that are made from now on."""
    found = []
    plan = pooling.plan_pooling.__wrapped__
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: found.append(plan(problem)) or found[-1])
    calls._bounds.clear()
    yield found
    calls._bounds.clear()


@pytest.fixture
def group(monkeypatch, request):
    """Let groups have so many vectors."""
    monkeypatch.setattr(flatpool, "groups_of_vectors", lambda *_: [request.param])
    return request.param


def values(seed, shape, dtype):
    """Anything of a dtype."""
    return np.random.default_rng(seed).random(shape) < 0.8 if dtype == np.bool_ else draw(seed, shape, dtype)


def check(x, *windows, name="max_pool2d", **options):
    """In memory full of what is not to be read, and into memory where nothing else may be written."""
    expected = getattr(oracle, name)(x, *windows, **options)
    out = between(np.zeros_like(expected), 1)
    getattr(fastpool, name)(between(x, filler(x.dtype)), *windows, **options, out=out)
    assert_close(out, expected)
    out[...] = 1
    np.testing.assert_array_equal(out.base, np.ones_like(out.base))


def are_flat(plans):
    """Whether each plan is that of `flat_pool`."""
    return [plan.steps[0].kernel.routine is flat_pool for plan in plans]


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("windows", WINDOWS, ids=str)
def test_every_width(windows, made):
    """And heights from a single output row to more than a vector has."""
    kernel, stride, padding = windows
    lanes = lanes_for(POOLED[np.dtype(np.uint8)])
    widths = range(max(1, kernel - 2 * padding), lanes // 2 + 2)
    for width, height in itertools.product(widths, (kernel, 9)):
        check(values(width, (2, 3, height, width), np.uint8), *windows)
    if 1 in TARGET.reordered:
        least = 3 if stride == 1 else 5  # rows of a vector: else half a vector for each is as fast
        assert sum(are_flat(made)) >= lanes // least - kernel


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize(("width", "rows", "dtype"), [(32, 2, np.uint8), (20, 3, np.int8)])
def test_groups(width, rows, dtype, group, made):
    """Heights around the group: two rows and three to a vector, of which a window of three sees the next one or not."""
    for vectors, less in itertools.product((group, group + 1, 2 * group + 1), (0, 1)):
        height = max(rows, rows * vectors - less)
        check(values(vectors, (2, 3, height, width), dtype), 3, 1, 1)
    if 1 in TARGET.reordered:
        whole = [plan for plan in made if f" rows {group} " in plan.steps[0].kernel.shape[0]]
        assert len(whole) == len(made)
        assert all(are_flat(made))


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_dtype(dtype, made):
    x = values(1, (2, 3, 9, 7), dtype)
    check(x, 3, 1, 1)
    check(x, 3, 1, 1, name="min_pool2d")
    assert are_flat(made) == [True, True]


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("kernel", [4, 13, (5, 1), (2, 5)], ids=str)
def test_sizes_of_windows(kernel):
    """With padding of every kind, at each stride."""
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    for stride, ceil, index in itertools.product((1, (3, 1), (1, 2)), (False, True), range(3)):
        padding = [columns // 2, ((0, rows // 2), (columns - 1, 3)), ((rows + 1, rows), (0, columns // 2))][index]
        check(values(index, (1, 3, 15, 11), np.uint8), kernel, stride, padding, 1, ceil)


def combined(orders, vectors, kernel):
    """What the orders make of vectors, step by step as the kernel does."""
    steps = doublings(kernel)
    for order in orders.rows[:steps]:
        vectors = np.maximum(vectors, vectors[:, order])
    found = [vectors[:, order] for order in orders.rows[steps:]]
    return np.max([*found, vectors] if orders.in_place else found, axis=0)


@pytest.mark.parametrize("kernel", range(1, 14))
def test_every_order(kernel):
    """Windows of every stride and padding that are taken: an output is of all columns within its window, and no other.

    There are two rows, in each of which another column is the largest.
    """
    height, taken, lanes = Axis(3, 1, 1, 1, 0, 0, 3), 0, 64
    for size, stride in itertools.product((1, 2, 3, 5, 8, 14, 15), range(1, 4)):
        upper = np.arange(size)
        lower, vectors = (upper + 3) % size, np.zeros((size, lanes), int)
        vectors[upper, upper], vectors[upper, size + lower] = 1, 2
        for begin, end in itertools.product(range(kernel + 1), repeat=2):
            out = outputs(size, kernel, stride, 1, (begin, end), False)
            width = Axis(size, kernel, stride, 1, begin, end, out)
            if out < 1 or 2 * max(out, size) > lanes or flatpool._columns_before(width) is None:
                continue
            taken += 1
            orders = flatpool._orders_of(height, width, 2, lanes)
            assert len(orders.rows) == doublings(kernel) + min(kernel, 2) - orders.in_place
            first = np.arange(out) * stride - begin
            seen = [(first <= at[:, None]) & (at[:, None] < first + kernel) for at in (upper, lower)]
            expected = np.concatenate([seen[0], 2 * seen[1]], axis=1)
            np.testing.assert_array_equal(combined(orders, vectors, kernel)[:, : 2 * out], expected)
    assert taken > 15


@pytest.mark.parametrize("shape", [(1, 1, 9000, 20), (3, 1, 5000, 32), (300, 2, 5, 5)], ids=str)
def test_tasks_of_rows_and_of_planes(shape):
    x = values(3, shape, np.uint8)
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    np.testing.assert_array_equal(fastpool.max_pool2d(x, 3, 1, 1), seen.max(axis=(4, 5)))


@with_orders
@pytest.mark.parametrize("shape", [(1, 3, 4000, 20), (20, 40, 9, 6), (500, 2, 3, 3)], ids=str)
def test_no_task_writes_what_another_does(shape, made):
    """Whole vectors are stored, but none beyond what the task writes again: the order of tasks is of no effect."""
    x = values(4, shape, np.uint8)
    expected = fastpool.max_pool2d(x, 3, 1, 1)
    (step,) = made[0].steps
    assert are_flat(made) == [True]
    assert step.tasks > 1
    block, words = step.block(), list(step.kernel.routine.layout.words)
    found = between(np.zeros_like(expected), 7)
    block[words.index("x")], block[words.index("out")] = x.ctypes.data, found.ctypes.data
    code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(step.kernel.address())
    for task in reversed(range(step.tasks)):
        code(block.ctypes.data, task, 0)
    np.testing.assert_array_equal(found, expected)
    found[...] = 7
    assert np.all(found.base == 7)


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = values(5, (2, 3, 9, 15), np.uint8)
    assert_close(fastpool.max_pool2d(LAYOUTS[layout](x), 3, 1, 1), oracle.max_pool2d(x, 3, 1, 1))


def check_guarded_memory():
    """Require results of arrays that begin or end at a forbidden page."""
    for windows, shape, at_end in itertools.product(
        WINDOWS, ((2, 2, 7, 5), (1, 1, 3, 20), (1, 2, 9, 9)), (False, True)
    ):
        memory, x = GuardedMemory(), values(1, shape, np.uint8)
        expected = oracle.max_pool2d(x, *windows)
        out = memory.array(np.zeros_like(expected), at_end)
        assert_close(fastpool.max_pool2d(memory.array(x, at_end), *windows, out=out), expected)


@needs_mprotect
def test_not_a_byte_beyond_any_array_is_touched():
    run_apart("test_flat_rows", "check_guarded_memory", environment=FILLED_MEMORY)


#: Shape, windows, dtype, and rows of outputs in a vector; None where it is not taken.
MAPS = [
    ((256, 20, 20), (5, 1, 2), np.uint8, 3),
    ((480, 14, 14), (3, 1, 1), np.bool_, 4),
    ((832, 7, 7), (3, 1, 1), np.int8, 7),
    ((256, 32, 32), (3, 1, 1), np.uint8, 2),
    ((256, 16, 16), (3, 1, 1), np.uint16, 2),
    ((256, 8, 8), (2, 2, 0), np.uint8, 4),
    ((192, 28, 28), (3, 1, 1), np.uint8, None),
    ((512, 14, 14), (2, 2, 0), np.uint8, None),
    ((480, 14, 14), (3, 1, 1), np.int16, None),
    ((480, 7, 7), (3, 1, 1), np.int32, None),
    ((480, 7, 7), (3, 1, 1), np.float32, None),
    ((64, 9, 9), (3, 1, 2, 2), np.uint8, None),
    ((64, 9, 9), (3, 1, (0, 3)), np.uint8, None),
]


@with_orders
@pytest.mark.parametrize(("shape", "windows", "dtype", "rows"), MAPS, ids=str)
def test_choice(monkeypatch, made, shape, windows, dtype, rows):
    """Two rows to a vector only where one alone would fill more than half of it."""
    monkeypatch.setattr(Plan, "run", lambda *_: None)
    out = fastpool.max_pool2d(np.zeros(shape, dtype), *windows)
    assert are_flat(made) == [rows is not None]
    if rows is not None:
        (step,) = made[0].steps
        assert step.fields["out_vector"] == rows * out.shape[-1]
        assert step.kernel.shape in POOLING_KERNELS["flat_pool"][step.kernel.element.numba_name]


def test_it_is_not_chosen_where_lanes_cannot_be_ordered(monkeypatch, made):
    """Of AVX-512 the first processors have no permutation of bytes."""
    monkeypatch.setattr(flatpool, "TARGET", TARGET.__class__(64, 32, True, 2, "avx512", (2,)))
    check(values(1, (2, 3, 9, 7), np.uint8), 3, 1, 1)
    assert are_flat(made) == [False]


@pytest.mark.skipif(not ON_X86, reason="reads the instructions of x86")
@with_orders
def test_a_group_is_straight_code_in_registers():
    """Seven vectors of 5x5, three rows each: 23 loads, three steps along each, and nothing on the stack."""
    shape = ("max rows 7 step 3 in place", 5, 5)
    element = POOLED[np.dtype(np.uint8)]
    assert shape in POOLING_KERNELS["flat_pool"][element.numba_name]
    lines = max((lines for _, lines in blocks(flat_pool.assembly(spec_for(element, *shape)))), key=len)
    count = lambda pattern: len([line for line in lines if re.match(pattern, line)])  # noqa: E731
    assert count(r"vpermb\s.*%zmm") == 21
    assert count(r"vmovdqu8\s.*\{%k\d\} \{z\}") == 23
    assert count(r"vpmaxub\s.*%zmm") == 46
    assert not [line for line in lines if "zmm" in line and "%rsp" in line]
