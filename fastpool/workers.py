"""The threads of the package, as Python sees them: made at the first call that needs them, and again after a fork.

They are Python's threads, which compiled code keeps, without the GIL, until the interpreter ends. What they do there is
in `kernels._workers`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastpool.arrays import aligned_empty
from fastpool.machine.builtins import immortal

_WORD = np.dtype(np.int64)


class Workers:
    """Threads that wait for jobs, and the control block that they share with those who call."""

    def __init__(self, count: int, work: Callable[[Any, int], Any], stop: Callable[[Any], Any]):
        from fastpool.routines import launchers as words

        self.control = aligned_empty(words.WORDS, _WORD)
        immortal(self.control)  # a thread that is late may look at it when the interpreter has ended
        self.control[:] = 0
        self.control[words.STATE] = words.CLOSED
        self._system = _system_functions()  # keeps the libraries loaded
        functions = self.control[words.FUNCTIONS : words.FUNCTIONS + len(self._system)]
        functions[:] = [ctypes.cast(function, ctypes.c_void_p).value for function in self._system]
        _initialise(self.control, words.MUTEX, words.CONDITION)
        self.address = self.control.ctypes.data
        self._stop, self._process = stop, os.getpid()
        self._threads: list[threading.Thread] = []
        for number in range(1, count + 1):
            thread = threading.Thread(target=work, args=(self.address, number), name=f"fastpool-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more: callers never wait for one who has not come
                break
            self._threads.append(thread)
        atexit.register(self.end)

    def end(self) -> None:
        """Send all home, and wait until they have left the compiled code; calls go on without them."""
        if os.getpid() != self._process:
            return  # they are another process's
        self._stop(self.address)
        last = time.monotonic() + 1
        for thread in self._threads:
            thread.join(max(0.0, last - time.monotonic()))

    def forget(self) -> None:
        """Take them for gone, as they are in a forked child, whatever they were at when it began."""
        atexit.unregister(self.end)


def _system_functions() -> list[Any]:
    """Lock, unlock, sleep (condition, lock), wake all, let another thread run: in the order of `routines.launchers`."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        names = "AcquireSRWLockExclusive ReleaseSRWLockExclusive SleepConditionVariableSRW WakeAllConditionVariable"
        return [*(getattr(kernel, name) for name in names.split()), kernel.SwitchToThread]
    library = ctypes.CDLL(None)
    names = "pthread_mutex_lock pthread_mutex_unlock pthread_cond_wait pthread_cond_broadcast sched_yield"
    return [getattr(library, name) for name in names.split()]


def _initialise(control: np.ndarray, mutex: int, condition: int) -> None:
    """Make the lock and the condition in the control block; those of Windows begin as zeros."""
    if sys.platform != "win32":
        library = ctypes.CDLL(None)
        for name, word in (("pthread_mutex_init", mutex), ("pthread_cond_init", condition)):
            getattr(library, name)(ctypes.c_void_p(control[word:].ctypes.data), None)
