"""Code that is hardly ever needed is compiled when it is: what repairs tiles that met NaN or infinities."""

import threading

import numpy as np
import pytest
from conftest import DTYPES, Planner

import fastpool
from fastpool import oracle
from fastpool.plans.chain import Chain, Run
from fastpool.routines.winograd import repair_rows


@pytest.fixture(autouse=True)
def _plans_anew():
    Planner.forget()
    yield
    Planner.forget()


def case(dtype, seed=0):
    """Image, weights, and a convolution by Winograd."""
    rng = np.random.default_rng(seed)
    x, weight = rng.random((2, 6, 19, 23)).astype(dtype), rng.random((5, 6, 3, 3)).astype(dtype)
    return x, weight, fastpool.Conv2d(weight, padding=1, algorithm="winograd")


def plan_of(conv, x):
    return conv._layer.bind(x, False).plan


def spoiled(x):
    """The same with NaN and infinities."""
    x = x.copy()
    x[0, 2, 4, 5], x[1, 0, 18, 22], x[1, 3, 0, 9] = np.nan, np.inf, -np.inf
    return x


def assert_right(found, x, weight):
    wanted = oracle.conv2d(x, weight, padding=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_is_compiled_when_it_is_missed(dtype, monkeypatch):
    asked = []
    address = type(repair_rows).address
    monkeypatch.setattr(type(repair_rows), "address", lambda self, spec: asked.append(self.name) or address(self, spec))
    x, weight, conv = case(dtype)
    assert_right(conv(x), x, weight)
    plan = plan_of(conv, x)
    assert "repair_rows" not in asked
    assert not plan.missed[0]
    for bad in (spoiled(x), np.full_like(x, np.nan)):
        assert_right(conv(bad), bad, weight)
    assert plan.missed[0]
    assert asked.count("repair_rows") == 1
    assert_right(conv(x), x, weight)


def test_calls_after_that_run_once(monkeypatch):
    x, weight, conv = case(np.float32)
    launches = []
    launch = fastpool.runtime.launch
    monkeypatch.setattr(fastpool.runtime, "launch", lambda *args: launches.append(args[1]) or launch(*args))
    bad = spoiled(x)
    counts = []
    for image in (x, bad, bad, x):
        conv(x)  # weights are packed
        launches.clear()
        assert_right(conv(image), image, weight)
        counts.append(len(launches))
    assert counts == [1, 2, 1, 1]


def test_a_result_is_added_to_once():
    x, weight, conv = case(np.float32)
    residual = np.full((2, 5, 19, 23), 100.0, np.float32)
    bad = spoiled(x)
    wanted = oracle.conv2d(bad, weight, padding=1) + 100
    np.testing.assert_allclose(conv(bad, residual=residual), wanted, rtol=1e-4)


def test_chains_have_it_from_the_start():
    x, weight, conv = case(np.float32)
    bad = spoiled(x)
    bound, out = conv._layer.bind(x, False), np.empty((2, 5, 19, 23), np.float32)
    chain = Chain(
        [Run(bound.plan, bad, conv._weights_in(bound.form), np.zeros(5, np.float32), None, out, None, weight)]
    )
    chain()
    assert_right(out, bad, weight)
    assert not bound.plan.missed[0]


def test_threads_that_meet_it_at_once():
    x, weight, conv = case(np.float32)
    images = [x, spoiled(x), np.full_like(x, np.inf), x] * 2
    found = [None] * len(images)
    barrier = threading.Barrier(len(images))

    def call(index):
        barrier.wait()
        found[index] = conv(images[index])

    workers = [threading.Thread(target=call, args=(index,)) for index in range(len(images))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result, image in zip(found, images, strict=True):
        assert_right(result, image, weight)
