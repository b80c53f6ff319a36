"""Rows that fit a vector: every width of them and size of a group, every dtype, and NaN wherever it may be."""

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
    noise,
    with_ties_and_nan,
)
from processes import FILLED_MEMORY, run_apart
from sweeps import sweep

import fastpool
from fastpool import oracle
from fastpool import pooling as calls
from fastpool.dtypes import HALVES, POOLED
from fastpool.machine.processor import TARGET
from fastpool.plans import pooling, shortpool
from fastpool.plans.plan import Plan
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.routine import spec_for
from fastpool.routines.shortpool import short_pool, variant_of_short
from fastpool.routines.smallpool import GROUPS, small_pool
from fastpool.routines.table import POOLING_KERNELS

#: Kernel, stride and padding: rows of one vector, of one or two, and of windows that end beyond the input.
WINDOWS = [(3, 1, 1), (3, 2, 1), (2, 2, 0)]


@pytest.fixture(autouse=True)
def remade(monkeypatch):
    """Let plans be made anew, and no vector have several rows, see `test_flat_rows`."""
    monkeypatch.setattr(pooling, "is_flat", lambda _: False)
    monkeypatch.setattr(pooling, "plan_pooling", pooling.plan_pooling.__wrapped__)
    monkeypatch.setattr(calls, "plan_pooling", pooling.plan_pooling)
    calls._bounds.clear()
    yield
    calls._bounds.clear()


@pytest.fixture
def group(monkeypatch, request):
    """Let groups have so many rows."""
    monkeypatch.setattr(shortpool, "groups_of_short_rows", lambda *_: [request.param])
    return request.param


@pytest.fixture
def plans(monkeypatch):
    """Plans that are made from now on; nothing is computed."""
    made = []
    plan = pooling.plan_pooling
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: made.append(plan(problem)) or made[-1])
    monkeypatch.setattr(Plan, "run", lambda *_: None)
    return made


def values(seed, shape, dtype):
    """Anything of a dtype: its whole range, ties and NaN."""
    if np.dtype(dtype).kind == "b":
        return np.random.default_rng(seed).random(shape) < 0.8
    return (with_ties_and_nan if np.dtype(dtype).kind == "f" else draw)(seed, shape, dtype)


def check(x, *windows, name="max_pool2d", **options):
    """In memory full of what is not to be read, and into memory where nothing else may be written."""
    expected = getattr(oracle, name)(x, *windows, **options)
    out = between(np.zeros_like(expected), 1)
    getattr(fastpool, name)(between(x, filler(x.dtype)), *windows, **options, out=out)
    assert_close(out, expected)
    out[...] = 1
    np.testing.assert_array_equal(out.base, np.ones_like(out.base))


def widths_of(windows, dtype):
    """Widths of maps whose rows are short, the last of each number of lanes and vectors among them."""
    kernel, stride, padding = windows
    return range(max(1, kernel - 2 * padding), stride * lanes_for(POOLED[np.dtype(dtype)]) - 2 * padding + 1)


@pytest.mark.parametrize("windows", WINDOWS, ids=str)
def test_every_width(windows):
    for width in widths_of(windows, np.uint8):
        check(values(width, (2, 2, 7, width), np.uint8), *windows)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@sweep
def test_groups(dtype, windows, group):
    """Heights around the group, in the narrowest and the widest maps."""
    for outs, width in itertools.product((group, group + 1, 2 * group + 1), (7, max(widths_of(windows, dtype)))):
        check(values(outs, (2, 3, (outs - 1) * windows[1] + windows[0] - 2 * windows[2], width), dtype), *windows)


@pytest.mark.parametrize("dtype", [dtype for dtype in POOLED if dtype not in HALVES], ids=str)
def test_every_dtype(dtype):
    x = values(1, (2, 3, 9, 6), dtype)
    check(x, 3, 1, 1)
    check(x, 3, 1, 1, name="min_pool2d")


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("kernel", [4, 8, 13, (5, 1), (2, 3)], ids=str)
def test_sizes_of_windows(kernel):
    """With padding of every kind, at each stride."""
    rows = kernel if isinstance(kernel, int) else kernel[0]
    for stride, ceil, index in itertools.product((1, 2, (1, 2), (2, 1)), (False, True), range(2)):
        padding = [(kernel if isinstance(kernel, int) else kernel[1]) // 2, ((0, rows // 2), (rows - 1, 3))][index]
        check(values(index, (1, 3, 15, 17), np.uint8), kernel, stride, padding, 1, ceil)


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("padding", [3, ((3, 0), (1, 1)), ((0, 4), (0, 0)), (1, 9), "same_lower"], ids=str)
def test_windows_that_see_padding_only(padding):
    """No row is near to those above and below; columns beside are masked."""
    check(np.full((1, 1, 4, 5), -3, np.int8), 3, 1, padding)
    check(np.full((1, 1, 4, 5), -3, np.int8), 2, 2, padding)


@pytest.mark.parametrize("shape", [(1, 1, 9000, 20), (3, 1, 5000, 33), (300, 2, 3, 5)], ids=str)
def test_tasks_of_rows_and_of_planes(shape):
    x = values(3, shape, np.int16)
    fill = np.iinfo(x.dtype).min
    seen = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill), (3, 3), (2, 3)
    )
    for stride in (1, 2):
        expected = seen[:, :, ::stride, ::stride].max(axis=(4, 5))
        np.testing.assert_array_equal(fastpool.max_pool2d(x, 3, stride, 1), expected)


@pytest.mark.parametrize(("name", "group"), [("max_pool2d", 7), ("min_pool2d", 1)], indirect=["group"])
@pytest.mark.parametrize("windows", WINDOWS, ids=str)
def test_nan_at_every_place(name, windows, group):
    """One NaN of an image, or none but infinities, of either sign."""
    pool, expected = getattr(fastpool, name), getattr(oracle, name)
    x = noise(1, (1, 2, 14, 13), np.float32)
    clean = expected(x, *windows)
    reach = oracle.max_pool2d  # of ones, where there is a NaN
    for row, column in itertools.product(range(x.shape[2]), range(x.shape[3])):
        changed, marks = x.copy(), np.zeros_like(x)
        changed[0, 1, row, column] = np.nan if (row + column) % 2 else -np.nan
        marks[0, 1, row, column] = 1
        seen = reach(marks, *windows) == 1
        np.testing.assert_array_equal(pool(changed, *windows), np.where(seen, np.float32(np.nan), clean))
    for fill in (np.inf, -np.inf, np.nan):
        changed = np.full_like(x, fill)
        np.testing.assert_array_equal(pool(changed, *windows), expected(changed, *windows))


@pytest.mark.usefixtures("rows_alone")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = values(5, (2, 3, 9, 15), np.int8)
    assert_close(fastpool.max_pool2d(LAYOUTS[layout](x), 3, 2, 1), oracle.max_pool2d(x, 3, 2, 1))


def check_guarded_memory():
    """Require results of arrays that begin or end at a forbidden page."""
    pooling.is_flat = lambda _: False
    for windows, dtype in itertools.product(WINDOWS, (np.uint8, np.float32)):
        for width, at_end in itertools.product((5, 11, max(widths_of(windows, dtype))), (False, True)):
            memory, x = GuardedMemory(), values(width, (2, 2, 7, width), dtype)
            expected = oracle.max_pool2d(x, *windows)
            out = memory.array(np.zeros_like(expected), at_end)
            assert_close(fastpool.max_pool2d(memory.array(x, at_end), *windows, out=out), expected)


@needs_mprotect
def test_not_a_byte_beyond_any_array_is_touched():
    run_apart("test_short_rows", "check_guarded_memory", environment=FILLED_MEMORY)


#: Maps of networks: shape, windows, dtype, vectors of a row, and whether they are half a register.
MAPS = [
    ((256, 56, 56), (3, 1, 1), np.uint8, 1, False),
    ((64, 112, 112), (3, 2, 1), np.uint8, 2, False),
    ((256, 56, 56), (2, 2, 0), np.int8, 2, True),
    ((256, 20, 20), (5, 1, 2), np.bool_, 1, True),
    ((192, 28, 28), (3, 2, 1), np.uint8, 1, True),
    ((192, 28, 28), (3, 2, 1), np.int16, 2, True),
    ((480, 14, 14), (3, 1, 1), np.float32, 1, False),
    ((832, 7, 7), (3, 1, 1), np.float64, None, None),
    ((64, 112, 112), (3, 1, 1), np.uint8, None, None),
    ((64, 9, 9), (3, 3, 0), np.uint8, None, None),
    ((64, 9, 9), (1, 2, 0), np.uint8, None, None),
    ((64, 9, 9), (3, 1, 1, 2), np.uint8, None, None),
    ((64, 9, 9), (3, 1, 3), np.uint8, None, None),
    ((64, 9, 9), (3, 1, 1), np.float16, None, None),
]


@pytest.mark.skipif(TARGET.name != "avx512", reason="widths are those of AVX-512")
@pytest.mark.parametrize(("shape", "windows", "dtype", "parts", "narrow"), MAPS, ids=str)
def test_choice(plans, shape, windows, dtype, parts, narrow):
    """Rows of no more lanes than a vector has; wider ones, and windows that jump or see padding only, go elsewhere."""
    fastpool.max_pool2d(np.zeros(shape, dtype), *windows)
    code = plans[0].steps[0].kernel
    assert (code.routine is short_pool) == (parts is not None)
    if parts is not None:
        assert f"parts {parts} " in code.shape[0]
        assert code.shape[0].startswith("narrow ") == narrow


@pytest.mark.parametrize(
    ("shape", "windows", "dtype"),
    [((1, 256, 28, 28), (5, 1, 2), np.uint8), ((16, 512, 28, 28), (3, 2, 1), np.float32)],
    ids=str,
)
def test_groups_are_large(plans, shape, windows, dtype):
    """But from memory, where no row is read twice."""
    fastpool.max_pool2d(np.zeros(shape, dtype), *windows)
    fastpool.max_pool2d(np.zeros(shape, dtype), 2)
    kernels = [plan.steps[0].kernel for plan in plans]
    if TARGET.name == "avx512":
        large = np.zeros(shape, dtype).nbytes > 2**24
        assert [" rows 7 " in code.shape[0] for code in kernels] == [True, not large]
    else:
        assert all(code.routine is small_pool for code in kernels)


@pytest.mark.skipif(not ON_X86 or TARGET.name != "avx512", reason="reads the instructions of AVX-512")
@pytest.mark.parametrize(("dtype", "step"), [(np.uint8, "vpmaxub"), (np.int16, "vpmaxsw")])
def test_a_group_is_straight_code_in_registers(dtype, step):
    """Seven rows of 3x3: 9 rows combined down with 11 steps, along with 14; a load or store a row, no others."""
    shape = (variant_of_short("max", 7, 1, 1, 1, False), 3, 3)
    element = POOLED[np.dtype(dtype)]
    assert shape in POOLING_KERNELS["short_pool"][element.numba_name]
    found = [lines for _, lines in blocks(short_pool.assembly(spec_for(element, *shape)))]
    steps = lambda lines: len([line for line in lines if re.match(rf"{step}\s.*%zmm", line)])  # noqa: E731
    lines = max(found, key=steps)
    assert steps(lines) == 25
    moves = [line for line in lines if re.match(r"v(mov|pblendm)\w+\s.*%zmm", line) and "(" in line]
    assert len(moves) == 16
    assert not [line for line in moves if "%rsp" in line]
