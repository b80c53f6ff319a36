"""Chains of plans: the same results as one by one, in one launch, on any number of threads."""

import threading

import numpy as np
import pytest
from conftest import OF_PANELS

import fastpool
from fastpool import runtime
from fastpool.machine.processor import TARGET
from fastpool.onnx.ops.prepared import Prepared
from fastpool.plans.chain import Chain
from fastpool.routines.layout import ALONE, EACH, HEAD, WHO


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def layers(shape, count):
    """Give runs of convolutions that feed one another, of all sizes and algorithms, and the arrays between them."""
    arrays, runs = [noise(0, *shape)], []
    for seed in range(1, count + 1):
        taps = (1, 3, 5)[seed % 3]
        channels, into = arrays[-1].shape[1], (40, 8, 24)[seed % 3]
        weight = noise(seed, into, channels, taps, taps) / channels
        made = Prepared(weight, noise(-seed % 100, into), 1, taps // 2, 1, 1, "zeros", (0.0, None), "auto")
        arrays.append(np.zeros((shape[0], into, *shape[2:]), np.float32))
        runs.append(made.task(arrays[-2], None, arrays[-1]))
    return runs, arrays


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 16, 31, 29), (1, 8, 80, 64)])
def test_a_chain_is_its_runs_one_by_one(shape):
    runs, arrays = layers(shape, 7)
    for run in runs:
        run()
    wanted = [array.copy() for array in arrays[1:]]
    chain = Chain(runs)
    for threads in range(1, runtime.engine().maximum + 1):
        for array in arrays[1:]:
            array[...] = np.nan
        with fastpool.threads(threads):
            chain()
        for found, array in zip(arrays[1:], wanted, strict=True):
            np.testing.assert_array_equal(found, array)


def test_small_steps_are_not_shared_and_large_ones_are():
    small, large = Chain(layers((1, 3, 2, 2), 1)[0]), Chain(layers((1, 8, 80, 64), 2)[0])
    assert (small._steps[:, WHO] == ALONE).all()
    assert not (large._steps[:, WHO] == ALONE).any()


@pytest.mark.parametrize("place", range(7))
def test_addresses_stand_where_kernels_read_them(place):
    names = "x", "weights", "bias", "residual", "out", "indices", "filters"
    chain = Chain(layers((1, 8, 9, 9), 2)[0])
    before = chain._steps.copy()
    chain.place(1, place, 4711)
    (changed,) = np.unique(np.nonzero(before != chain._steps)[1])
    assert changed == list(HEAD).index(names[place])


def test_chains_of_several_callers():
    chains = [layers((1, 16, 40, 40), 5) for _ in range(4)]
    for runs, _ in chains:
        for run in runs:
            run()
    wanted, met, wrong = chains[0][1][-1].copy(), threading.Barrier(4), []

    def call(runs, arrays):
        chain = Chain(runs)
        met.wait(60)
        for _ in range(50):
            arrays[-1][...] = np.nan
            chain()
            if not np.array_equal(arrays[-1], wanted):
                wrong.append(1)

    callers = [threading.Thread(target=call, args=made) for made in chains]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("sources", [("own", "shared"), ("panels, own", "panels, shared")])
def test_scratch_of_late_threads(planner, sources):
    """A thread that is late to pack for itself must not do so when others use the scratch memory for what follows."""
    if sources[0] in OF_PANELS and TARGET.registers > 16:
        pytest.skip("reads x in place")
    arrays, runs = [noise(0, 1, 20, 9, 11)], []
    for seed in range(1, 13):
        planner.force(source=sources[seed % 2])
        weight = noise(seed, 20 + 4 * (seed % 5), arrays[-1].shape[1], 1, 1) / 20
        made = Prepared(weight, noise(-seed % 100, len(weight)), 1, seed % 3, 1, 1, "zeros", (0.0, None), "auto")
        sizes = [size + 2 * (seed % 3) for size in arrays[-1].shape[2:]]
        arrays.append(np.zeros((1, len(weight), *sizes), np.float32))
        runs.append(made.task(arrays[-2], None, arrays[-1]))
    for run in runs:
        run()
    wanted = arrays[-1].copy()
    chain = Chain(runs)
    chain._steps[:, WHO] *= chain._steps[:, WHO] != ALONE  # all are shared, however small
    assert {0, EACH} == set(chain._steps[:, WHO])
    for _ in range(2_000):
        chain()
        np.testing.assert_array_equal(arrays[-1], wanted)
