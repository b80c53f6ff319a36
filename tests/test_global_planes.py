"""Global pooling: planes that are taken together, or merged two by two, and those that are left; NaN in each."""

import itertools

import numpy as np
import pytest
from conftest import DTYPES, assert_close, between, draw, filler, noise

import fastpool
from fastpool import oracle, pooling
from fastpool.dtypes import ELEMENT_TYPES, POOLED
from fastpool.kernels.reduce import _CHUNK
from fastpool.machine.processor import TARGET
from fastpool.plans import ahead
from fastpool.plans import pooling as plans
from fastpool.routines.reduce import MOST_PLANES, planes_together
from fastpool.routines.routine import lanes as lanes_for

NARROW = [dtype for dtype in POOLED if dtype.kind in "biu" and dtype.itemsize <= 2]


def values(seed, shape, dtype):
    return np.random.default_rng(seed).random(shape) < 0.9 if dtype.kind == "b" else draw(seed, shape, dtype)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_any_number_of_planes_of_any_size(dtype):
    lanes = lanes_for(POOLED[dtype])
    sizes = [(1, 1), (7, 7), (1, lanes - 1), (lanes, 1), (3, lanes // 2 + 1), (2, lanes)]
    for planes, size in itertools.product((MOST_PLANES - 1, MOST_PLANES, 2 * MOST_PLANES + 3), sizes):
        x = between(values(planes, (1, planes, *size), dtype), filler(dtype))
        np.testing.assert_array_equal(fastpool.global_max_pool2d(x), oracle.global_max_pool2d(x))
        np.testing.assert_array_equal(fastpool.min_pool2d(x, size), oracle.min_pool2d(x, size))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_element_counts_for_its_plane_only(dtype):
    """The largest of all planes at another place in each; the place goes round."""
    count = 7 * 7
    for shift in range(count):
        x = np.zeros((1, 2 * MOST_PLANES, count), dtype)
        places = (np.arange(x.shape[1]) * 5 + shift) % count
        x[0, np.arange(x.shape[1]), places] = 1 if dtype.kind == "b" else np.arange(x.shape[1]) + 1
        found = fastpool.global_max_pool2d(x.reshape(1, -1, 7, 7)).ravel()
        np.testing.assert_array_equal(found, x.max(axis=2).ravel())
        np.testing.assert_array_equal(found, x[0, np.arange(x.shape[1]), places])


def test_many_tasks():
    x = draw(1, (3, 1501, 5, 9), np.int8)
    np.testing.assert_array_equal(fastpool.global_max_pool2d(x)[..., 0, 0], x.max(axis=(2, 3)))
    spread = np.zeros((3, 1501, 5, 10), np.int8)[..., :9]
    spread[...] = x
    np.testing.assert_array_equal(fastpool.global_max_pool2d(spread)[..., 0, 0], x.max(axis=(2, 3)))


@pytest.fixture
def far(monkeypatch):
    """Let all x come from memory, and plans be made anew."""
    monkeypatch.setattr(plans, "FAR_BYTES", -1)
    monkeypatch.setattr(ahead, "LEVEL_2_BYTES", 0)
    made, plan = [], plans.plan_global.__wrapped__
    monkeypatch.setattr(pooling, "plan_global", lambda problem: made.append(plan(problem)) or made[-1])
    pooling._bounds.clear()
    yield made
    pooling._bounds.clear()


def check_floats(dtype, plane_sizes):
    """Require the greatest, least and mean of planes, of which each second has a NaN, at another place in each."""
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    for planes, size in itertools.product((lanes - 1, 2 * lanes + 3), plane_sizes(lanes)):
        x = noise(size, (1, planes, 1, size), dtype)
        x[0, ::3, 0, size // 2] = -np.inf
        spoilt = x.copy()
        spoilt[0, range(0, planes, 2), 0, [(5 * plane + planes) % size for plane in range(0, planes, 2)]] = np.nan
        for values in (x, spoilt):
            values = between(values, np.nan)
            np.testing.assert_array_equal(fastpool.global_max_pool2d(values), oracle.global_max_pool2d(values))
            np.testing.assert_array_equal(fastpool.min_pool2d(values, (1, size)), oracle.min_pool2d(values, (1, size)))
            assert_close(fastpool.global_avg_pool2d(values), oracle.global_avg_pool2d(values))


@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_of_floats(dtype):
    check_floats(dtype, lambda lanes: [*range(1, lanes + 2), *range(4 * lanes - 1, 5 * lanes + 2), 2 * _CHUNK + 5])


@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_that_come_from_memory(far, dtype):
    large = 1 + ahead.AHEAD_BYTES // (4 * lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))  # taken one by one
    check_floats(dtype, lambda lanes: [1, lanes + 1, *range(8 * lanes - 1, 9 * lanes + 2), large])
    ways = {(fields["evenly"] > 0, fields["plane_ahead"] > 0) for fields in (plan.steps[0].fields for plan in far)}
    assert all(plan.steps[0].fields["ahead"] > 0 for plan in far)
    assert ways == {(True, True), (False, False)}


@pytest.mark.skipif(TARGET.name != "avx512", reason="elsewhere masked loads of bytes go one by one")
def test_planes_are_taken_together():
    assert [planes_together(lanes) for lanes in (8, 16, 32, 64)] == [8, 16, MOST_PLANES, MOST_PLANES]
