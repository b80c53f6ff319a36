"""Threads and forks: many callers at once, workers that sleep, leave or never come, forked children, limits."""

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import fastpool  # and not conftest, which loads more of the package than some of the processes here begin with

THREADS = 4  # on any machine
CALLERS = 8

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def apart(function, *arguments, **environment):
    """Run a function of this file in a fresh interpreter."""
    from conftest import run_apart

    settings = {"NUMBA_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": "1"}
    run_apart("test_threads", function.__name__, *arguments, environment=settings | environment)


def images(seed, *shape):
    """Give float32 noise."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def works():
    """Calls, each large enough to be shared with the workers: name -> function of no argument."""
    x, wide = images(0, 12, 16, 64, 64), images(1, 8, 32, 112, 112)
    weight, narrow, bias = images(2, 32, 16, 3, 3), images(3, 64, 32, 1, 1), images(4, 32)
    prepared = fastpool.Conv2d(weight, bias, padding=1, activation="relu")
    return {
        "conv2d": lambda: fastpool.conv2d(x, weight, bias, 2, 1),
        "conv2d in place": lambda: fastpool.conv2d(wide, narrow),
        "conv2d direct": lambda: fastpool.conv2d(x, weight, padding=1, algorithm="direct"),
        "Conv2d": lambda: prepared(x),
        "max_pool2d": lambda: fastpool.max_pool2d(wide, 3, 2, 1),
        "max_pool2d with indices": lambda: fastpool.max_pool2d(wide, 2, return_indices=True),
        "avg_pool2d": lambda: fastpool.avg_pool2d(wide, 3, 1, 1),
        "lp_pool2d": lambda: fastpool.lp_pool2d(wide, 3, 2),
        "adaptive_avg_pool2d": lambda: fastpool.adaptive_avg_pool2d(wide, 5),
        "global_avg_pool2d": lambda: fastpool.global_avg_pool2d(wide),
        "subsample2d": lambda: fastpool.subsample2d(wide, bias, bias, 5, 1),
    }


def some_works():
    """Give a few of the calls, for processes that have to load all that they need."""
    calls = works()
    return {name: calls[name] for name in ("conv2d", "max_pool2d")}


def bits(result):
    """Bytes of a result, or of a pair."""
    return b"".join(part.tobytes() for part in (result if isinstance(result, tuple) else (result,)))


def serial_results(calls):
    """Results of one thread."""
    with fastpool.threads(1):
        return {name: bits(call()) for name, call in calls.items()}


def record_launches():
    """Let the engine note the number of threads of each launch: a list of numbers, 1 for a serial one."""
    from fastpool import runtime

    engine = runtime.engine()
    engine.start()
    counts, serial, parallel = [], engine.serial, engine.parallel

    def noted_serial(*arguments):
        counts.append(1)
        serial(*arguments)

    def noted_parallel(*arguments):
        counts.append(arguments[-2])
        parallel(*arguments)

    engine.serial, engine.parallel = noted_serial, noted_parallel
    return counts


def all_at_once(function, callers=CALLERS):
    """Call ``function(i)`` in that many threads that start together; raise what any of them raised."""
    barrier, errors = threading.Barrier(callers), []

    def run(i):
        barrier.wait()
        try:
            function(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def in_child(function, seconds=60):
    """Call a function in a forked child; the exit code, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    code = 1
    try:
        signal.alarm(seconds)  # a child that hangs is killed by a signal, and seen as such
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
    raise AssertionError("not reached")


def check(calls, wanted):
    """Require the wanted results, bit for bit."""
    for name, call in calls.items():
        assert bits(call()) == wanted[name], name


# -------------------------------------------------------------------------------------------------------- what is run


def many_callers():
    calls = works()
    wanted = serial_results(calls)
    counts = record_launches()
    names = list(calls)
    fastpool.set_num_threads(2)  # eight times: more would only wait for one another

    def call_all(i):
        for turn in range(len(names)):
            name = names[(i + turn) % len(names)]
            assert bits(calls[name]()) == wanted[name], name

    for name in names:
        before = len(counts)
        calls[name]()
        assert max(counts[before:]) == 2, f"{name} is too small to be shared"
    counts.clear()
    all_at_once(call_all)
    assert 2 in counts


def many_first_callers():
    # Nothing is loaded yet: the engine, the threads and the machine code are made under the eyes of all callers.
    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)
    results = [None] * CALLERS

    def call_both(i):
        results[i] = bits(fastpool.conv2d(x, weight, padding=1)) + bits(fastpool.max_pool2d(x, 3, 2, 1))

    all_at_once(call_both)
    with fastpool.threads(1):
        call_both(0)
    assert results == [results[0]] * CALLERS


def call_while_threads_start():
    from fastpool import runtime, workers

    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)
    engine, make, errors, begun = runtime.engine(), workers.Workers, [], threading.Event()

    def make_slowly(*arguments):
        begun.set()
        time.sleep(0.3)
        return make(*arguments)

    def call():
        try:
            fastpool.conv2d(x, weight)
        except BaseException as error:
            errors.append(error)

    workers.Workers = make_slowly
    first = threading.Thread(target=call)
    first.start()
    assert begun.wait(60)
    assert engine.control is None
    call()  # a second caller comes
    first.join()
    assert not errors, errors
    assert len(ours()) == THREADS - 1


def ours():
    """Workers that live in this process."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastpool-")]


def noting_kernel():
    """Give a kernel that takes its time, and writes down the thread that ran each task: ``call.out[task]``."""
    from fastpool.kernels._jit import kernel
    from fastpool.kernels.calls import Layout

    return kernel(Layout("note", {"turns": "integer"}))(_note)


def _note(call, task, thread):
    total = 0.0
    for turn in range(call.turns):
        total += 1.0 / (turn + 1.0 + total)
    call.out[task] = thread + 1 + (0 if total > 0 else 100)


def noted(tasks, turns, steps=1):
    """Let plans of such tasks run, the last step writing them down: list of threads, counted from 1."""
    from fastpool.dtypes import ELEMENT_TYPES
    from fastpool.plans.plan import Code, Plan, Step

    element = ELEMENT_TYPES[np.dtype(np.float64)]
    code = Code(_kernel, element)
    plan = Plan(tuple(Step(code, {"tasks": tasks, "turns": turns}) for _ in range(steps)), 0, 0, element, 1e12)
    out = np.zeros(tasks)
    plan.run(0, out=out.ctypes.data)
    return out.tolist()


def workers_take_part():
    global _kernel
    _kernel = noting_kernel()
    seen, turns = set(), 0
    deadline = time.monotonic() + 120
    while seen != set(range(1, THREADS + 1)) and time.monotonic() < deadline:
        found = noted(64, 100_000, 3)
        assert min(found) >= 1  # every task was run
        seen |= set(found)
        turns += 1
    assert seen == set(range(1, THREADS + 1)), f"only threads {seen} took part in {turns} jobs"
    with fastpool.threads(2):
        for _ in range(20):
            assert set(noted(64, 10_000)) <= {1, 2}
    with fastpool.threads(1):
        assert set(noted(64, 100)) == {1}


def every_task_is_run_once():
    # Jobs of all sizes in quick succession, with pauses in which some workers fall asleep: none is lost or done twice.
    from fastpool.kernels import _workers
    from fastpool.runtime import engine

    rng, x, counts = np.random.default_rng(0), np.ones((300, 16, 16), np.float32), record_launches()
    slept = 0
    for turn in range(20_000):
        planes = int(rng.integers(1, 300))
        y = fastpool.sum_pool2d(x[:planes], 2)
        assert y.min() == y.max() == 4.0
        if turn % 1000 == 0:
            time.sleep(0.02)
            slept += engine().control[_workers.SLEEPERS] > 0
    assert slept
    assert counts.count(THREADS) > 10_000


def workers_sleep_and_wake():
    from fastpool import runtime
    from fastpool.kernels import _workers

    global _kernel
    _kernel = noting_kernel()
    noted(8, 100)
    control = runtime.engine().control
    deadline = time.monotonic() + 60
    while control[_workers.SLEEPERS] < THREADS - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert control[_workers.SLEEPERS] == THREADS - 1
    began = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began < 0.1  # who sleeps takes no time of a processor
    while max(noted(64, 100_000)) == 1 and time.monotonic() < deadline:
        pass
    assert max(noted(64, 1_000_000)) > 1


def no_thread_to_be_had():
    calls = some_works()
    wanted = serial_results(calls)
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = refuse
    counts = record_launches()
    threading.Thread.start = start
    check(calls, wanted)
    assert max(counts) == THREADS
    assert not ours()


def calls_go_on_when_workers_have_left():
    from fastpool import runtime

    calls = some_works()
    wanted = serial_results(calls)
    check(calls, wanted)
    assert len(ours()) == THREADS - 1
    runtime.engine()._workers.end()
    assert not ours()
    check(calls, wanted)


def end_while_a_thread_calls():
    calls = some_works()
    wanted = serial_results(calls)
    begun = threading.Event()

    def go_on():
        while True:
            check(calls, wanted)
            begun.set()

    threading.Thread(target=go_on, daemon=True).start()
    assert begun.wait(60)


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


def limits():
    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)
    counts = record_launches()

    def launched():
        counts.clear()
        fastpool.conv2d(x, weight)
        return max(counts)

    assert fastpool.get_num_threads() == launched() == THREADS
    assert fastpool.info()["max_threads"] == THREADS
    with fastpool.threads(3):
        assert fastpool.get_num_threads() == launched() == 3
        with fastpool.threads(1):
            assert fastpool.get_num_threads() == launched() == 1
            assert fastpool.info()["threads"] == 1
            with fastpool.threads(4):
                assert fastpool.get_num_threads() == launched() == 4
        assert fastpool.get_num_threads() == launched() == 3
        fastpool.set_num_threads(2)  # for everyone; inside the block its own limit still counts
        assert fastpool.get_num_threads() == launched() == 3
    assert fastpool.get_num_threads() == launched() == 2
    try:
        with fastpool.threads(4):
            raise KeyError("left by an exception")
    except KeyError:
        assert fastpool.get_num_threads() == launched() == 2
    for bad in (0, -1, THREADS + 1, 10**30, True, 1.0, None, "2"):
        for setting in (fastpool.set_num_threads, lambda n: fastpool.threads(n).__enter__()):
            with pytest.raises((TypeError, ValueError), match=r"^n must be"):
                setting(bad)
        assert fastpool.get_num_threads() == launched() == 2
    fastpool.set_num_threads(THREADS)
    assert fastpool.get_num_threads() == launched() == THREADS
    small = images(2, 1, 3, 8, 8)
    counts.clear()
    fastpool.conv2d(small, images(3, 4, 3, 3, 3))
    fastpool.max_pool2d(small, 2)
    fastpool.global_avg_pool2d(small)
    assert set(counts) == {1}  # small work is done at once, by the thread that calls
    limits_of_each_thread()


def limits_of_each_thread():
    x, weight = images(0, 4, 16, 64, 64), images(2, 32, 16, 3, 3)
    fastpool.set_num_threads(2)
    met = threading.Barrier(THREADS)

    def call(i):
        assert fastpool.get_num_threads() == 2  # not what other threads have
        with fastpool.threads(i + 1):
            met.wait(60)
            assert fastpool.get_num_threads() == i + 1
            fastpool.conv2d(x, weight)
            met.wait(60)
            assert fastpool.get_num_threads() == i + 1
        assert fastpool.get_num_threads() == 2

    with fastpool.threads(3):
        all_at_once(call, THREADS)
        assert fastpool.get_num_threads() == 3


def same_bits():
    calls = works()
    wanted = serial_results(calls)
    counts = record_launches()
    for n in range(1, THREADS + 1):
        with fastpool.threads(n):
            for name, call in calls.items():
                counts.clear()
                assert bits(call()) == wanted[name], f"{name} with {n} threads"
                assert max(counts) == n, f"{name} is too small to be shared"
        fastpool.set_num_threads(n)
        check(calls, wanted)


def convolutions():
    """Give convolutions of every algorithm, source and schedule, large enough to be shared."""
    x, small, large = images(0, 2, 40, 61, 59), images(1, 1, 200, 9, 11), images(2, 2, 24, 160, 150)
    weight, wide, fifth = images(3, 70, 40, 3, 3), images(4, 330, 200, 3, 3), images(5, 34, 24, 5, 5)
    point, cube = images(6, 130, 40, 1, 1), images(7, 30, 8, 2, 3, 3)
    calls = {
        "in place": lambda: fastpool.conv2d(x, point),
        "in place, dilated": lambda: fastpool.conv2d(x, weight, dilation=2, algorithm="direct"),
        "packed": lambda: fastpool.conv2d(x, weight, None, 2, 1, algorithm="direct"),
        "more weight than input": lambda: fastpool.conv2d(small, wide, padding=1, algorithm="direct"),
        "packed by each task": lambda: fastpool.conv2d(large, fifth, padding=2, algorithm="direct"),
        "groups": lambda: fastpool.conv2d(x, weight[:, :8], padding=1, groups=5),
        "depthwise": lambda: fastpool.conv2d(large, images(8, 48, 1, 3, 3), padding=1, groups=24),
        "depthwise, few planes": lambda: fastpool.conv2d(large[:1, :2], images(9, 2, 1, 5, 5), None, 2, groups=2),
        "three dimensions": lambda: fastpool.conv3d(x.reshape(2, 8, 5, 61, 59), cube, padding=1),
        "transposed": lambda: fastpool.conv_transpose2d(x, images(10, 40, 30, 4, 4), None, 2, 1),
    }
    for stride, taps in [(1, 3), (1, 5), (2, 3), (2, 5)]:
        for name, a, channels in [("small", small, 200), ("large", large, 24)]:
            filters = images(11, 70, channels, taps, taps)
            calls[f"winograd {taps}s{stride}, {name}"] = partial(
                fastpool.conv2d, a, filters, stride=stride, padding=1, algorithm="winograd"
            )
    return calls


def sums():
    """Give poolings whose results depend on the order of their sums."""
    x = images(0, 6, 8, 120, 112)
    return {
        f"{name} {window}": partial(pooling, x, window, 1, window // 2)
        for name, pooling in (("mean", fastpool.avg_pool2d), ("sum", fastpool.sum_pool2d))
        for window in (3, 11, 31)
    } | {
        "adaptive mean": lambda: fastpool.adaptive_avg_pool2d(x, 7),
        "global mean": lambda: fastpool.global_avg_pool2d(x),
        "few planes": lambda: fastpool.avg_pool2d(x[:1, :1], 31, 1, 15),
        "norm": lambda: fastpool.lp_pool2d(x, 3, 2),
    }


def write_bits(path):
    """Compute every convolution and sum for each number of threads, always the same, and write down what it was."""
    calls = convolutions() | sums()
    wanted = serial_results(calls)
    counts = record_launches()
    for n in range(1, fastpool.get_num_threads() + 1):
        with fastpool.threads(n):
            for name, call in calls.items():
                counts.clear()
                check({name: call}, wanted)
                assert max(counts) == n, f"{name} is too small to be shared"
    Path(path).write_text("".join(f"{name}: {sha256(result).hexdigest()}\n" for name, result in wanted.items()))


# ---------------------------------------------------------------------------------------------------------------- tests

RUNS = [
    many_callers,
    many_first_callers,
    call_while_threads_start,
    workers_take_part,
    every_task_is_run_once,
    workers_sleep_and_wake,
    no_thread_to_be_had,
    calls_go_on_when_workers_have_left,
    end_while_a_thread_calls,
    fork_after_use,
    fork_before_use,
    fork_after_numba_was_used,
    fork_while_workers_sleep,
    fork_has_workers_of_its_own,
    fork_while_another_thread_calls,
    pool_of_processes,
    limits,
    same_bits,
]


@pytest.mark.parametrize("function", RUNS, ids=lambda function: function.__name__)
def test_in_a_fresh_interpreter(function):
    apart(function)


def test_fork_while_another_thread_compiles(tmp_path):
    apart(fork_while_another_thread_compiles, NUMBA_CACHE_DIR=str(tmp_path))


def test_results_are_bit_identical_in_every_process(tmp_path):
    # How work is cut into tasks depends on the number of threads.
    written = set()
    for run, threads in enumerate(("1", "2", "5", "5")):
        path = tmp_path / str(run)
        apart(write_bits, str(path), NUMBA_NUM_THREADS=threads)
        written.add(path.read_text())
    assert len(written) == 1
    assert len(written.pop().splitlines()) == len(convolutions() | sums())


def test_one_processor():
    # One thread: there are no workers at all.
    apart(on_one_processor, NUMBA_NUM_THREADS="1")


def on_one_processor():
    calls = some_works()
    wanted = serial_results(calls)
    counts = record_launches()
    check(calls, wanted)
    assert set(counts) == {1}
    assert fastpool.get_num_threads() == fastpool.info()["max_threads"] == 1
