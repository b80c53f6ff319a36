"""Calls that are worth sharing among threads, and fresh interpreters and forked children to make them in.

Some of these processes begin with less of the package loaded than `conftest` needs, which this file does not import.
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import numpy as np

import fastpool

THREADS = 4  # on any machine
CALLERS = 8


def run_apart(module, function, *arguments, environment=None):
    """Call a function of a test module in a process of its own; it has to end without error."""
    code = f"import {module}; {module}.{function}(*{arguments!r})"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


#: Makes the C library fill memory that it hands out, so that no result can rest on zeros found there by chance.
FILLED_MEMORY = {"MALLOC_PERTURB_": "1"}


def apart(function, *arguments, **environment):
    """Run a function of a test module in a fresh interpreter."""
    settings = {"NUMBA_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": "1"}
    run_apart(function.__module__, function.__name__, *arguments, environment=settings | environment)


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


def ours():
    """Workers that live in this process."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastpool-")]


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
