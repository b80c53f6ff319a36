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
from typing import Any

import numpy as np

from fastpool import validation

#: Cycles from which the workers are called. The call takes 1,100 (0.4 us), and two threads save half of the work at
#: most; the rest is for estimates that are too high.
_PAYS = 6_000.0

_thread_count: int | None = None
_local = threading.local()
_engine: Any = None
_engine_lock = threading.Lock()


class _Engine:
    """The compiled launchers, and the workers once they are needed."""

    def __init__(self) -> None:
        from numba import config

        from fastpool.kernels import _jit, _launch

        self.serial = _jit.launcher(_launch.serial)
        self.parallel = _jit.launcher(_launch.parallel)
        self.serial_chain = _jit.launcher(_launch.serial_chain)
        self.parallel_chain = _jit.launcher(_launch.parallel_chain)
        self.address = _jit.launcher(_launch.address)
        self.maximum = int(config.NUMBA_NUM_THREADS)
        self.control: np.ndarray | None = None  #: what callers and workers share
        self._work, self._stop = _jit.launcher(_launch.work), _jit.launcher(_launch.stop)
        self._workers: Any = None

    def start(self) -> np.ndarray:
        """Start the workers."""
        from fastpool.workers import Workers

        with _engine_lock:
            if self.control is None:
                self._workers = Workers(self.maximum - 1, self._work, self._stop)
                self.control = self._workers.control
            return self.control

    def forget_workers(self) -> None:
        """Begin anew in a forked child, which has none of its parent's threads."""
        if self._workers is not None:
            self._workers.forget()
        self._workers = self.control = None


def engine() -> Any:
    """Launchers, made once."""
    global _engine
    if _engine is None:
        with _engine_lock:
            if _engine is None:
                _engine = _Engine()
    return _engine


def _after_fork_in_child() -> None:
    global _engine_lock
    # Another thread of the parent may have held the lock at the moment of the fork: the child gets a new one.
    _engine_lock = threading.Lock()
    if _engine is not None:
        _engine.forget_workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def threads_for(cycles: float) -> int:
    """Threads for work of so many cycles of one core: 1, or all that are allowed."""
    if cycles < _PAYS:
        return 1
    return int(getattr(_local, "count", None) or _thread_count or (_engine or engine()).maximum)


def launch(cycles: float, blocks: np.ndarray, shared: int, private: int, *addresses: int) -> None:
    """Run the steps in `blocks`, of `cycles` in all, with `shared` bytes of scratch and `private` for each thread."""
    threads = threads_for(cycles)
    current = _engine or engine()
    if threads == 1:
        current.serial(blocks, shared + private, *addresses)
    else:
        control = current.control
        if control is None:
            control = current.start()
        current.parallel(blocks, shared + threads * private, *addresses, threads, control)


def launch_chain(cycles: float, blocks: np.ndarray, scratch: Callable[[int], int]) -> None:
    """Run steps that have their addresses, of `cycles` in all, with ``scratch(threads)`` bytes of scratch."""
    threads = threads_for(cycles)
    current = _engine or engine()
    if threads == 1:
        current.serial_chain(blocks, scratch(1))
    else:
        control = current.control
        if control is None:
            control = current.start()
        current.parallel_chain(blocks, scratch(threads), threads, control)


def get_num_threads() -> int:
    """Return the number of threads that a call may use.

    Returns
    -------
    int
        What `threads` or `set_num_threads` set, else all that Numba has (``NUMBA_NUM_THREADS``, by default the
        processors that the process may use).

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
        From 1 to the number of threads that Numba has (``NUMBA_NUM_THREADS``). Results do not depend on it.

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
        From 1 to the number of threads that Numba has.

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
    import llvmlite.binding as llvm
    import numba

    import fastpool
    from fastpool.kernels import _jit
    from fastpool.kernels.tiles import TARGET

    return {
        "version": fastpool.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "cpu": numba.config.CPU_NAME or llvm.get_host_cpu_name(),
        "instructions": TARGET.name,
        "vector_bits": 8 * TARGET.vector_bytes,
        "registers": TARGET.registers,
        "fma": TARGET.has_fma,
        "threads": get_num_threads(),
        "max_threads": engine().maximum,
        "cache": _jit.cache_folder(),
    }
