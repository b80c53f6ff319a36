"""Threads, forks and the launch of plans; what `info` tells.

Three facts decide whether a parallel region may be entered:

- In a forked child the threads of the parent are gone, and GNU OpenMP kills the child at its first region: go serial.
- Numba's workqueue layer aborts the process when a second thread enters while a first is inside: one at a time, the
  others go serial rather than wait.
- A region costs 2 us (omp, tbb) or 80 us (workqueue): less work than that is done at once, on the calling thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastpool import validation

#: Cycles from which a region pays: it must save more than it costs (2 us; workqueue 80 us) even on two threads.
_PAYS = {"workqueue": 750_000.0}
_PAYS_ELSE = 24_000.0

_forked = False
_thread_count: int | None = None
_local = threading.local()
_one_at_a_time = threading.Lock()
_engine: Any = None
_engine_lock = threading.Lock()


class _Engine:
    """The compiled launchers and the threading layer; made at the first launch."""

    def __init__(self) -> None:
        from numba import config
        from numba.np.ufunc import parallel

        from fastpool.kernels import _jit, _launch

        self.serial = _jit.launcher(_launch.serial, parallel=False)
        self.address = _jit.launcher(_launch.address, parallel=False)
        self.parallel: Any = None
        self.maximum = int(config.NUMBA_NUM_THREADS)
        self.layer = ""
        self._numba: Any = parallel
        self._make_parallel: Any = lambda: _jit.launcher(_launch.parallel, parallel=True)

    def start(self) -> None:
        """Start Numba's threads and learn which threading layer they are."""
        with _engine_lock:
            if self.parallel is None:
                if self._numba._is_initialized and _threads_are_gone(self.maximum):
                    _mark_forked()
                self._numba._launch_threads()
                self.parallel = self._make_parallel()
                # Last, as other threads take it for the sign that all is there.
                self.layer = self._numba.threading_layer()


def engine() -> Any:
    """Launchers, made once."""
    global _engine
    if _engine is None:
        with _engine_lock:
            if _engine is None:
                _engine = _Engine()
    return _engine


def _threads_are_gone(count: int) -> bool:
    """Whether Numba's threads were started before a fork that happened before this module was imported."""
    try:
        return count > 1 and len(os.listdir("/proc/self/task")) == 1
    except OSError:  # not Linux, whose GNU OpenMP is the one that kills
        return False


def _mark_forked() -> None:
    global _forked
    _forked = True


def _after_fork_in_child() -> None:
    global _forked, _one_at_a_time, _engine_lock
    # Another thread of the parent may have held the locks at the moment of the fork: the child gets new ones.
    _one_at_a_time, _engine_lock = threading.Lock(), threading.Lock()
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def threads_for(cycles: float) -> int:
    """Threads for work of so many cycles of one core: 1, or all that are allowed."""
    if _forked or cycles < _PAYS_ELSE:
        return 1
    current = _engine or engine()
    count = int(getattr(_local, "count", None) or _thread_count or current.maximum)
    if count > 1:
        if not current.layer:
            current.start()
        if _forked or cycles < _PAYS.get(current.layer, _PAYS_ELSE):
            return 1
    return count


def launch(cycles: float, blocks: np.ndarray, shared: int, private: int, *addresses: int) -> None:
    """Run the steps in `blocks`, of `cycles` in all, with `shared` bytes of scratch and `private` for each thread."""
    threads = threads_for(cycles)
    current = _engine or engine()
    if threads == 1:
        current.serial(blocks, shared + private, *addresses)
    elif current.layer != "workqueue":
        current.parallel(blocks, shared + threads * private, *addresses, threads)
    elif _one_at_a_time.acquire(blocking=False):
        try:
            current.parallel(blocks, shared + threads * private, *addresses, threads)
        finally:
            _one_at_a_time.release()
    else:
        current.serial(blocks, shared + private, *addresses)


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
    return int(getattr(_local, "count", None) or _thread_count or engine().maximum)


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
        call may use; ``max_threads``; ``threading_layer``; ``cache``: folder of the compiled kernels, None where there
        is none that can be written.

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

    current = engine()
    if not current.layer:
        current.start()
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
        "max_threads": current.maximum,
        "threading_layer": current.layer,
        "cache": _jit.cache_folder(),
    }
