"""Threads: many callers at once, workers that sleep, leave or never come, limits."""

import threading
import time

import numpy as np
import pytest
from processes import (
    CALLERS,
    THREADS,
    all_at_once,
    apart,
    bits,
    check,
    images,
    ours,
    record_launches,
    serial_results,
    some_works,
    works,
)

import fastpool


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


def noting_kernel():
    """Give a kernel that takes its time, and writes down the thread that ran each task: ``call.out[task]``."""
    from fastpool.routines.layout import Layout
    from fastpool.routines.routine import kernel

    return kernel(_note, Layout("note", {"turns": "integer"}))


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
    from fastpool.routines import launchers
    from fastpool.runtime import engine

    rng, x, counts = np.random.default_rng(0), np.ones((300, 16, 16), np.float32), record_launches()
    slept = 0
    for turn in range(20_000):
        planes = int(rng.integers(1, 300))
        y = fastpool.sum_pool2d(x[:planes], 2)
        assert y.min() == y.max() == 4.0
        if turn % 1000 == 0:
            time.sleep(0.02)
            slept += engine().workers.control[launchers.SLEEPERS] > 0
    assert slept
    assert counts.count(THREADS) > 10_000


def workers_sleep_and_wake():
    from fastpool import runtime
    from fastpool.routines import launchers

    global _kernel
    _kernel = noting_kernel()
    noted(8, 100)
    control = runtime.engine().workers.control
    deadline = time.monotonic() + 60
    while control[launchers.SLEEPERS] < THREADS - 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert control[launchers.SLEEPERS] == THREADS - 1
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
    runtime.engine().workers.end()
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
    limits,
]


@pytest.mark.parametrize("function", RUNS, ids=lambda function: function.__name__)
def test_in_a_fresh_interpreter(function):
    apart(function)


def on_one_processor():
    calls = some_works()
    wanted = serial_results(calls)
    counts = record_launches()
    check(calls, wanted)
    assert set(counts) == {1}
    assert fastpool.get_num_threads() == fastpool.info()["max_threads"] == 1


def test_one_processor():
    # One thread: there are no workers at all.
    apart(on_one_processor, NUMBA_NUM_THREADS="1")
