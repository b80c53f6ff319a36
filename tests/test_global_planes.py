"""Global extrema of narrow integers: planes that are merged two by two, and those that are left."""

import itertools

import numpy as np
import pytest
from conftest import between, draw, filler

import fastpool
from fastpool import oracle
from fastpool.dtypes import POOLED
from fastpool.machine.processor import TARGET
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


@pytest.mark.skipif(TARGET.name != "avx512", reason="elsewhere masked loads of bytes go one by one")
def test_planes_are_taken_together():
    assert [planes_together(lanes) for lanes in (8, 16, 32, 64)] == [8, 16, MOST_PLANES, MOST_PLANES]
