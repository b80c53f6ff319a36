"""The launch of plans, and how many threads they get; what `info` tells.

Work is shared with the package's own workers where that saves more than it costs. They serve one caller at a time:
whoever comes meanwhile does all on the calling thread rather than wait. A forked child, which has none of its parent's
threads, gets workers of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from fastpool import forks, validation

#: Cycles from which the workers are called. The call takes 1,100 (0.4 us), and two threads save half of the work at
#: most; the rest is for estimates that are too high.
_PAYS = 6_000.0

_thread_count: int | None = None
_local = threading.local()
_engine: Any = None


class _Engine:
    """The compiled launchers, and the workers once they are needed."""

    def __init__(self) -> None:
        from fastpool.machine.processor import THREADS
        from fastpool.routines import launchers

        self.serial = launchers.serial.function()
        self.parallel = launchers.parallel.function()
        self.address = _address(launchers.address.function())
        self.maximum = THREADS
        self.control: int | None = None  #: address of what callers and workers share
        self._work, self._stop = launchers.work.function(), launchers.stop.function()
        self.workers: Any = None

    @cached_property
    def serial_chain(self) -> Any:
        """Launcher of chains on one thread; compiled when there is a chain."""
        from fastpool.routines import launchers

        return launchers.serial_chain.function()

    @cached_property
    def parallel_chain(self) -> Any:
        """Launcher of chains on several threads."""
        from fastpool.routines import launchers

        return launchers.parallel_chain.function()

    def start(self) -> int:
        """Start the workers."""
        with forks.loading:
            from fastpool.workers import Workers

            if self.control is None:
                self.workers = Workers(self.maximum - 1, self._work, self._stop)
                self.control = self.workers.address
            return self.control

    def forget_workers(self) -> None:
        """Begin anew in a forked child, which has none of its parent's threads."""
        if self.workers is not None:
            self.workers.forget()
        self.workers = self.control = None


def _address(compiled: Callable[[np.ndarray], int]) -> Callable[[np.ndarray], int]:
    """Give the compiled way to an array's address, unless arrays lie otherwise than it takes for granted."""
    arrays = np.zeros(3), np.zeros((4, 4), np.int8)[1:, 1:]
    right = all(compiled(array) == array.ctypes.data for array in arrays)
    return compiled if right else lambda array: int(array.ctypes.data)


def engine() -> Any:
    """Launchers, made once."""
    global _engine
    if _engine is None:
        with forks.loading:
            if _engine is None:
                _engine = _Engine()
    return _engine


def _after_fork_in_child() -> None:
    if _engine is not None:
        _engine.forget_workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def threads_for(cycles: float) -> int:
    """Threads for work of so many cycles of one core: 1, or all that are allowed."""
    if cycles < _PAYS:
        return 1
    return int(getattr(_local, "count", None) or _thread_count or (_engine or engine()).maximum)


def launch(cycles: float, steps: tuple[int, int, int], shared: int, private: int, *addresses: int) -> None:
    """Run steps of `cycles` in all, with `shared` bytes of scratch and `private` for each thread.

    `steps` is where their call blocks are: address, number, words of each.
    """
    threads = threads_for(cycles)
    current = _engine or engine()
    if threads == 1:
        current.serial(*steps, shared + private, *addresses)
    else:
        control = current.control
        if control is None:
            control = current.start()
        current.parallel(*steps, shared + threads * private, *addresses, threads, control)


def launch_chain(cycles: float, steps: tuple[int, int, int], scratch: Callable[[int], int]) -> None:
    """Run steps that have their addresses, of `cycles` in all, with ``scratch(threads)`` bytes of scratch."""
    threads = threads_for(cycles)
    current = _engine or engine()
    if threads == 1:
        current.serial_chain(*steps, scratch(1))
    else:
        control = current.control
        if control is None:
            control = current.start()
        current.parallel_chain(*steps, scratch(threads), threads, control)


def get_num_threads() -> int:
    """Return the number of threads that a call may use.

    Returns
    -------
    int
        What `threads` or `set_num_threads` set, else the environment variable ``NUMBA_NUM_THREADS``, else the number of
        processors that the process may use.

    Examples
    --------
    >>> import fastpool
    >>> with fastpool.threads(1):
    ...     fastpool.get_num_threads()
    1
    """
    return threads_for(_PAYS)


def set_num_threads(n: int) -> None:
    """Set the number of threads that a call may use, for all Python threads.

    Parameters
    ----------
    n : int
        From 1 to ``info()["max_threads"]``. Results do not depend on it.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or out of range.

    Examples
    --------
    >>> import fastpool
    >>> fastpool.set_num_threads(fastpool.get_num_threads())
    """
    global _thread_count
    _thread_count = validation.integer(n, "n", 1, engine().maximum)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Limit the calls of this Python thread inside a ``with`` block to `n` threads.

    Parameters
    ----------
    n : int
        From 1 to ``info()["max_threads"]``.

    Examples
    --------
    >>> import fastpool
    >>> with fastpool.threads(1):
    ...     fastpool.get_num_threads()
    1
    """
    count = validation.integer(n, "n", 1, engine().maximum)
    before = getattr(_local, "count", None)
    _local.count = count
    try:
        yield
    finally:
        _local.count = before


def _cache_folder() -> str | None:
    """Folder of the compiled kernels."""
    from fastpool.machine import store

    if store.can_load():
        found = store.folder()
        return str(found) if found else None
    from fastpool.kernels import _jit

    return _jit.cache_folder()


def info() -> dict[str, Any]:
    """Describe the machine and the package as they are used here.

    Returns
    -------
    dict
        ``version``, ``python``, ``numpy``, ``numba``, ``llvmlite``: versions; ``cpu``: LLVM's name of the processor;
        ``instructions``, ``vector_bits``, ``registers``, ``fma``: the vectors that kernels use; ``threads``: how many a
        call may use; ``max_threads``; ``cache``: folder of the compiled kernels, None where there is none that can be
        written.

    Examples
    --------
    >>> import fastpool
    >>> fastpool.info()["vector_bits"] in (128, 256, 512)
    True
    """
    import platform

    import llvmlite
    import numba

    import fastpool
    from fastpool.machine.processor import NAME, TARGET

    return {
        "version": fastpool.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "cpu": NAME,
        "instructions": TARGET.name,
        "vector_bits": 8 * TARGET.vector_bytes,
        "registers": TARGET.registers,
        "fma": TARGET.has_fma,
        "threads": get_num_threads(),
        "max_threads": engine().maximum,
        "cache": _cache_folder(),
    }
