"""Dilated convolutions on narrow maps: each run of columns sums the taps that find pixels there."""

from itertools import pairwise, product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    assert_same_bits,
    between,
    every_dtype,
    needs_mprotect,
    needs_threads,
    noise,
    planner_that,
)
from hypothesis import given
from processes import run_apart
from sweeps import sweep
from test_edges import axes

import fastpool
from fastpool import oracle
from fastpool.plans.column_runs import PAYS, runs
from fastpool.routines.direct import IN_PLACE


def take_runs(patch):
    """Let runs be taken wherever they can be."""
    patch.setattr("fastpool.plans.column_runs.PAYS", True)
    patch.setattr("fastpool.plans.column_runs._LONGER", 0.0)
    patch.setattr("fastpool.plans.column_runs._LONGER_BY_PART", 0.0)
    patch.setattr("fastpool.plans.column_runs._STEP_CYCLES", 0.0)


by_runs = planner_that(take_runs)


def assert_by_runs(planner, least=2):
    """Require that all plans have so many runs of columns, at least, in place."""
    assert planner.plans
    for plan in planner.plans:
        columns = [step.fields["first_column"] for step in plan.steps]
        assert len(set(columns)) == len(columns) >= least
        assert all(step.fields["source"] == IN_PLACE for step in plan.steps)
        assert plan.omitted > 0


@given(axes())
def test_runs_are_the_columns_of_the_same_taps(axis):
    """Whatever the padding: all columns, each with its taps, and neighbours differ."""
    found = runs(axis)
    columns = [(column, run.taps) for run in found for column in range(run.first, run.end)]
    assert columns == [(column, axis.taps(column)) for column in range(axis.out)]
    assert all(left.taps != right.taps for left, right in pairwise(found))


#: Kernel, dilation, padding of rows and columns, columns of x. Runs are from one column wide to whole rows.
CASES = [
    ((3, 3), (18, 18), ((18, 18), (18, 18)), 33),
    ((3, 3), (4, 12), ((4, 4), (12, 12)), 33),
    ((3, 3), (1, 9), ((1, 1), (9, 9)), 40),
    ((2, 3), (3, 20), ((0, 3), (20, 20)), 26),
    ((3, 2), (2, 8), ((2, 2), (8, 0)), 24),
    ((2, 2), (2, 10), ((1, 0), (0, 10)), 21),
    ((3, 5), (2, 12), ((2, 2), (24, 24)), 40),
    ((5, 3), (3, 16), ((6, 5), (12, 11)), 30),
]


@every_dtype
@pytest.mark.parametrize(("kernel", "dilation", "padding", "columns"), CASES)
@sweep
def test_every_run(by_runs, dtype, kernel, dilation, padding, columns):
    """NaN surrounds x and must not leak in, nothing around the output may change; groups, strides of rows, epilogue."""
    for channels, filters, groups, stride in ((5, 40, 1, 1), (6, 10, 2, (2, 1))):
        weight = noise(1, (filters, channels // groups, *kernel), dtype)
        x, bias = noise(2, (2, channels, 19, columns), dtype), noise(3, filters, dtype)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        wanted = oracle.conv2d(x, weight, bias, **options)
        residual, frame = noise(4, wanted.shape, dtype), Frame(wanted.shape, dtype)
        conv = fastpool.Conv2d(weight, bias, **options)
        assert_close(conv(between(x, np.nan), out=frame.array), wanted)
        frame.assert_kept()
        rectified = fastpool.Conv2d(weight, bias, activation="relu", **options)
        assert_close(rectified(between(x, np.nan), residual=residual), np.maximum(wanted + residual, 0))
        rows = np.repeat(x, 2, axis=2)[:, :, ::2]  # between which there are others
        assert_close(conv(rows), wanted)
    assert_by_runs(by_runs)


@every_dtype
def test_channels_in_parts(by_runs, monkeypatch, dtype):
    """Pixels and weights that the level-2 cache does not hold; the sums of each run go on from part to part."""
    monkeypatch.setattr("fastpool.plans.column_runs._LARGE_BYTES", 0)
    monkeypatch.setattr("fastpool.plans.column_runs._PART_BYTES", 40_000)
    options = {"padding": (5, 9), "dilation": (5, 9), "groups": 2}
    x, weight = noise(1, (2, 64, 12, 25), dtype), noise(2, (70, 32, 3, 3), dtype)
    bias, residual = noise(3, 70, dtype), noise(4, (2, 70, 12, 25), dtype)
    wanted = oracle.conv2d(x, weight, bias, **options)
    assert_close(fastpool.Conv2d(weight, bias, **options)(x), wanted)
    rectified = fastpool.Conv2d(weight, bias, activation="relu", **options)
    assert_close(rectified(x, residual=residual), np.maximum(wanted + residual, 0))
    for plan in by_runs.plans:
        parts = {step.fields["first_channel"] for step in plan.steps}
        columns = {step.fields["first_column"] for step in plan.steps}
        assert len(parts) > 1
        assert len(columns) > 1
        assert len(plan.steps) == len(parts) * len(columns)
    explained = rectified.explain(x.shape)
    assert explained.parts == len(parts)
    assert f"{len(columns)} runs" in explained.why.tile


def test_what_is_not_finite(by_runs):
    """In x it reaches those outputs that see it; among the weights, zeros of the padding make NaN of it."""
    options = {"padding": 18, "dilation": 18}
    x, weight = noise(1, (1, 3, 33, 33), np.float32), noise(2, (33, 3, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, **options)
    for place in ((0, 0), (0, 32), (14, 15), (18, 17), (32, 32)):
        spoilt = x.copy()
        spoilt[(0, 1, *place)] = np.nan
        assert_close(conv(spoilt), oracle.conv2d(spoilt, weight, **options))
    assert_by_runs(by_runs, 3)
    by_runs.plans.clear()
    weight[7, 1, 0, 2] = np.inf
    assert_close(fastpool.Conv2d(weight, **options)(x), oracle.conv2d(x, weight, **options))
    assert by_runs.plans.pop().omitted == 0


def test_columns_that_see_padding_alone(by_runs):
    """Are the bias, and no run."""
    x, weight, bias = noise(1, (1, 3, 9, 20), np.float32), noise(2, (40, 3, 3, 3), np.float32), noise(3, 40, np.float32)
    for padding in (20, ((2, 2), (30, 4))):
        options = {"padding": padding, "dilation": 2}
        assert_close(fastpool.Conv2d(weight, bias, **options)(x), oracle.conv2d(x, weight, bias, **options))
    assert all(plan.steps[-1].fields["first_column"] == 0 for plan in by_runs.plans)


@needs_threads
def test_any_number_of_threads(by_runs):
    """The same bits."""
    x, weight = noise(1, (1, 64, 33, 33), np.float32), noise(2, (64, 64, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, padding=12, dilation=12)
    assert_same_bits(conv, x)
    assert_by_runs(by_runs, 3)


@pytest.mark.skipif(not PAYS, reason="tiles are too narrow")
def test_they_are_taken_where_they_pay(planner):
    """Of many columns in the padding; what is carried out is counted without those."""
    taken = fastpool.Conv2d(noise(1, (64, 256, 3, 3), np.float32), padding=18, dilation=18)
    explained = taken.explain((1, 256, 33, 33))
    assert_by_runs(planner, 3)
    # Rows and columns find 15 + 33 + 15 of 3 x 33 taps, and tiles need not divide the runs.
    share = (63 / 99) ** 2
    assert share <= explained.multiply_adds_done / explained.multiply_adds < 1.2 * share
    assert "3 runs of columns" in str(explained)
    planner.plans.clear()
    fastpool.Conv2d(noise(1, (64, 64, 3, 3), np.float32), padding=2, dilation=2).explain((1, 64, 56, 56))
    assert all(step.fields.get("first_column", 0) == 0 for step in planner.plans.pop().steps)


def check_that_nothing_beyond_x_is_read():
    with pytest.MonkeyPatch.context() as patch:
        planner = Planner(patch)
        take_runs(patch)
        planner.forget()
        for dtype, (kernel, dilation, padding, columns) in product(DTYPES, CASES):
            memory, options = GuardedMemory(), {"padding": padding, "dilation": dilation, "groups": 2}
            x, weight = noise(2, (1, 6, 19, columns), dtype), noise(1, (80, 3, *kernel), dtype)
            wanted = oracle.conv2d(x, weight, **options)
            conv = fastpool.Conv2d(weight, **options)
            for at_end in (False, True):
                out = memory.array(np.zeros_like(wanted), at_end)
                assert_close(conv(memory.array(x, at_end), out=out), wanted)
        assert_by_runs(planner)


@needs_mprotect
def test_nothing_beyond_x_is_read():
    run_apart("test_column_runs", "check_that_nothing_beyond_x_is_read")
