"""Small windows in groups of rows: every size of a group, whole and half vectors, and NaN wherever it may be."""

import itertools

import numpy as np
import pytest
from conftest import HALVES, LAYOUTS, assert_close, between, filler, noise
from sweeps import sweep

import fastpool
from fastpool import oracle
from fastpool import pooling as calls
from fastpool.dtypes import POOLED
from fastpool.machine.processor import TARGET
from fastpool.plans import ahead, pooling, smallpool
from fastpool.plans.plan import Plan
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.smallpool import GROUPS, small_pool

FUNCTIONS = {
    "max": lambda module, x, *windows: module.max_pool2d(x, *windows),
    "mean": lambda module, x, *windows: module.avg_pool2d(x, *windows, count_include_pad=False),
}
#: Kernel, stride and padding: overlapping and not, to be looked for in the next vector and not.
WINDOWS = [(3, 1, 1), (3, 2, 1), (2, 2, 0), (4, 1, 2), ((2, 3), (3, 1), (1, 0)), (9, 1, 4)]


@pytest.fixture
def group(monkeypatch, request):
    """Let groups have so many rows, and plans be made anew."""
    monkeypatch.setattr(smallpool, "groups_in_registers", lambda *_: [request.param])
    monkeypatch.setattr(pooling, "is_short", lambda _: False)
    monkeypatch.setattr(pooling, "is_flat", lambda _: False)
    monkeypatch.setattr(pooling, "plan_pooling", pooling.plan_pooling.__wrapped__)
    monkeypatch.setattr(calls, "plan_pooling", pooling.plan_pooling)
    calls._bounds.clear()
    yield request.param
    calls._bounds.clear()


@pytest.mark.parametrize("group", GROUPS[1:], indirect=True)
@pytest.mark.parametrize("windows", [(3, 1, 1), (3, 2, 1), (2, 2, 0), (9, 1, 4)], ids=str)
@pytest.mark.parametrize(("name", "dtype"), [("max", np.float32), ("max", np.uint8), ("mean", np.float64)])
@sweep
def test_groups(name, dtype, windows, group):
    """Heights around the group, widths around half and whole vectors, in memory full of what is not to be read."""
    lanes = lanes_for(POOLED[np.dtype(dtype)])
    stride = windows[1][1] if isinstance(windows[1], tuple) else windows[1]
    rows = windows[1][0] if isinstance(windows[1], tuple) else windows[1]
    widths = {9, stride * (lanes // 2), stride * lanes - 1, stride * lanes + 3, 2 * stride * lanes + 1}
    for index, (outs, width) in enumerate(itertools.product((group, group + 1, 2 * group + 1), sorted(widths))):
        x = noise(index, (2, 3, max(9, (outs - 1) * rows + 4), max(9, width)), np.float64).astype(dtype)
        assert_close(
            FUNCTIONS[name](fastpool, between(x, filler(x.dtype)), *windows), FUNCTIONS[name](oracle, x, *windows)
        )


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("windows", [(3, 1, 1), (2, 2, 0)], ids=str)
@pytest.mark.parametrize("name", ["max_pool2d", "min_pool2d"])
@sweep
def test_nan_at_every_place(name, windows, group):
    """One NaN of an image, or none but infinities, of either sign and in the middle of everything else."""
    pool, expected = getattr(fastpool, name), getattr(oracle, name)
    x = noise(1, (1, 1, 2 * group + 3, 19), np.float32)
    for row, column in itertools.product(range(x.shape[2]), range(x.shape[3])):
        changed = x.copy()
        changed[0, 0, row, column] = np.nan if (row + column) % 2 else -np.nan
        np.testing.assert_array_equal(pool(changed, *windows), expected(changed, *windows))
    for fill in (np.inf, -np.inf, np.nan):
        changed = np.full_like(x, fill)
        np.testing.assert_array_equal(pool(changed, *windows), expected(changed, *windows))


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("dtype", list(HALVES), ids=str)
@sweep
def test_16_bits(dtype, group):
    x = noise(3, (2, 3, 2 * group + 3, 40), np.float32).astype(dtype)
    x[0, 0, 3, 4], x[0, 1, 0, :3], x[1, 0, -1] = np.nan, -np.inf, np.inf
    for windows in [(3, 1, 1), (2, 2, 0)]:
        assert_close(fastpool.max_pool2d(x, *windows), oracle.max_pool2d(x, *windows))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = noise(5, (2, 3, 17, 23), np.float32)
    for windows in WINDOWS:
        assert_close(fastpool.max_pool2d(LAYOUTS[layout](x), *windows), oracle.max_pool2d(x, *windows))


@pytest.mark.parametrize("layout", ["contiguous", "first axis reversed", "every third row", "within a larger one"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_rows_that_are_fetched_ahead(monkeypatch, layout, dtype):
    """They may be of the next plane, or of none; nothing that is computed differs."""
    made, plan = [], pooling.plan_pooling.__wrapped__
    monkeypatch.setattr(ahead, "LEVEL_2_BYTES", 0)
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: made.append(plan(problem)) or made[-1])
    calls._bounds.clear()
    x = (noise(6, (2, 3, 17, 70), np.float32) * 50 + 100).astype(dtype)
    for windows in WINDOWS:
        assert_close(fastpool.max_pool2d(LAYOUTS[layout](x), *windows), oracle.max_pool2d(x, *windows))
    calls._bounds.clear()
    fields = [made_plan.steps[0].fields for made_plan in made if made_plan.steps[0].kernel.routine is small_pool]
    assert fields
    assert all(abs(found["ahead"]) * x.itemsize >= ahead.AHEAD_BYTES for found in fields)


@pytest.mark.parametrize(
    ("shape", "windows", "rows", "narrow"),
    [
        ((1, 192, 28, 28), (3, 1, 1), 7, False),
        ((1, 512, 14, 14), (2, 2, 0), 7, True),
        ((64, 16, 10, 10), (2, 2, 0), 5, True),
        ((32, 64, 112, 112), (2, 2, 0), 1, False),
    ],
)
def test_choice(monkeypatch, shape, windows, rows, narrow):
    """Maps of networks in large groups, narrow ones in half vectors, what comes from memory row by row."""
    made = []
    plan = pooling.plan_pooling.__wrapped__
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: made.append(plan(problem)) or made[-1])
    monkeypatch.setattr(Plan, "run", lambda *_: None)
    calls._bounds.clear()
    fastpool.avg_pool2d(np.broadcast_to(np.float32(0), shape)[..., :1].repeat(shape[3], 3), *windows)
    calls._bounds.clear()
    code = made[0].steps[0].kernel
    assert code.routine is small_pool
    variant = code.shape[0]
    if TARGET.registers == 32:
        assert f"rows {rows} " in variant
    if TARGET.vector_bytes == 64:
        assert variant.startswith("narrow") == narrow
