"""Forked children: they have threads of their own, whatever their parent was at when they began."""

import importlib
import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
from processes import (
    THREADS,
    apart,
    bits,
    check,
    images,
    in_child,
    ours,
    record_launches,
    serial_results,
    some_works,
    works,
)

import fastpool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def fork_while_workers_sleep():
    calls = some_works()
    wanted = serial_results(calls)
    check(calls, wanted)
    time.sleep(0.1)
    assert in_child(lambda: check(calls, wanted)) == 0
    check(calls, wanted)


def fork_after_use():
    calls = works()
    wanted = serial_results(calls)
    check(calls, wanted)
    assert in_child(lambda: check(calls, wanted)) == 0
    check(calls, wanted)
    assert in_child(lambda: in_grandchild(calls, wanted)) == 0
    check(calls, wanted)


def in_grandchild(calls, wanted):
    check(calls, wanted)
    assert in_child(lambda: check(calls, wanted)) == 0
    check(calls, wanted)


def fork_before_use():
    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)

    def use():
        assert fastpool.conv2d(x, weight, padding=1).shape == (4, 32, 64, 64)
        calls = some_works()
        check(calls, serial_results(calls))

    assert "numba" not in sys.modules
    assert in_child(use) == 0
    importlib.import_module("fastpool.runtime")

    assert in_child(use) == 0
    use()
    assert in_child(use) == 0


def fork_after_numba_was_used():
    # Numba's threads run before the package is loaded; a child that loads it only then is a forked child all the same.
    import numba

    @numba.njit(parallel=True)
    def total(a):
        result = 0.0
        for i in numba.prange(a.size):
            result += a[i]
        return result

    assert total(np.ones(1000)) == 1000.0

    def use():
        calls = some_works()
        check(calls, serial_results(calls))

    assert "fastpool.runtime" not in sys.modules
    assert in_child(use) == 0
    use()


def fork_has_workers_of_its_own():
    calls = works()
    wanted = serial_results(calls)
    counts = record_launches()
    check(calls, wanted)
    assert len(ours()) == THREADS - 1

    def shared_as_well():
        assert not ours()
        counts.clear()
        check(calls, wanted)
        assert max(counts) == THREADS
        assert len(ours()) == THREADS - 1

    assert in_child(shared_as_well) == 0
    check(calls, wanted)


def fork_while_another_thread_calls():
    calls = some_works()
    wanted = serial_results(calls)
    check(calls, wanted)
    stop, errors, turns = threading.Event(), [], []

    def work():
        try:
            while not stop.is_set():
                check(calls, wanted)
                turns.append(1)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        codes = [in_child(lambda: check(calls, wanted)) for _ in range(8)]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert codes == [0] * 8
    assert not errors
    check(calls, wanted)


def fork_while_another_thread_compiles():
    from numba.core.compiler_lock import global_compiler_lock

    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)
    worker = threading.Thread(target=lambda: fastpool.conv2d(x, weight, padding=1))
    fastpool.global_max_pool2d(x)  # Numba is loaded, nothing of conv2d is compiled: the cache's folder was empty
    worker.start()
    while global_compiler_lock._lock.acquire(blocking=False):  # until the worker has it
        global_compiler_lock._lock.release()
        assert worker.is_alive(), "the first call compiled nothing"
        time.sleep(0.001)

    def use():
        np.testing.assert_array_equal(fastpool.max_pool2d(x, 1), x)

    code = in_child(use, seconds=30)
    worker.join()
    assert code == 0, f"the child ended with {code}"


def fork_while_another_thread_imports():
    begun = threading.Event()

    class Slow:
        """Finds no module, but takes its time for one that the first use of every name imports."""

        def find_spec(self, name, path=None, target=None):
            if name == "fastpool.validation":
                begun.set()
                time.sleep(0.5)

    sys.meta_path.insert(0, Slow())
    x = images(0, 4, 16, 64, 64)
    worker = threading.Thread(target=lambda: fastpool.max_pool2d(x, 1))
    worker.start()
    assert begun.wait(30)
    assert "fastpool.validation" not in sys.modules

    def use():
        np.testing.assert_array_equal(fastpool.max_pool2d(x, 1), x)

    code = in_child(use, seconds=30)
    worker.join()
    assert code == 0, f"the child ended with {code}"


def double(x):
    """Work of a pool of processes."""
    return bits(fastpool.conv2d(x, 2 * np.eye(16, dtype=np.float32)[:, :, None, None]))


def pool_of_processes():
    inputs = [images(i, 2, 16, 64, 64) for i in range(6)]
    wanted = [bits(2 * x) for x in inputs]
    assert [double(x) for x in inputs] == wanted
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(double, inputs).get(timeout=60) == wanted
    assert [double(x) for x in inputs] == wanted


# ---------------------------------------------------------------------------------------------------------------- tests

RUNS = [
    fork_after_use,
    fork_before_use,
    fork_after_numba_was_used,
    fork_while_workers_sleep,
    fork_has_workers_of_its_own,
    fork_while_another_thread_calls,
    fork_while_another_thread_imports,
    pool_of_processes,
]


@pytest.mark.parametrize("function", RUNS, ids=lambda function: function.__name__)
def test_in_a_fresh_interpreter(function):
    apart(function)


def test_fork_while_another_thread_compiles(tmp_path):
    apart(fork_while_another_thread_compiles, NUMBA_CACHE_DIR=str(tmp_path))
