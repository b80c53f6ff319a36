"""How kernels become machine code: the only file with Numba's flags, the cache and its guard.

A *routine* is a module-level function ``body(call, ...)``. Numba compiles it once for each `Spec` (element type and
tile) into a C function. Its address goes into a *call block*, a row of 8-byte words with the numbers, addresses and
tables of one call; the type of `call` carries the block's `Layout`, so that a body writes ``call.channels``. A
*kernel* is a routine ``body(call, task, thread)`` that `launch` runs for every task.

Why addresses, and not functions that Numba inlines: the launchers are compiled once for the whole package, a
driver once for an element type, and a further tile costs 0.3 s instead of 2 s. The serial twin of a kernel is the very
same machine code. An indirect call costs nanoseconds, for a row of tiles.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from dataclasses import dataclass, field
from typing import Any

import numba
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock

from fastpool.kernels.calls import Call, Layout, fingerprint, type_of
from fastpool.kernels.simd import Spec


@dataclass(frozen=True)
class Compiled:
    """Machine code of a kernel for one spec."""

    address: int
    cached: bool  #: whether it came from the disk cache
    function: Any = field(repr=False)


_OPTIONS = {"nopython": True, "error_model": "numpy", "boundscheck": False}
_warned = False
_lock = threading.RLock()


def _hold_compilers() -> None:
    _lock.acquire()
    global_compiler_lock.__enter__()


def _release_compilers() -> None:
    global_compiler_lock.__exit__(None, None, None)
    _lock.release()


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation in another thread: the child would inherit its locks, held by nobody.
    os.register_at_fork(before=_hold_compilers, after_in_parent=_release_compilers, after_in_child=_release_compilers)


def _warn_uncached(reason: BaseException) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels cannot be kept on disk ({reason}); they are compiled anew in every process. "
            "Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )


class _GuardedCache(FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, except that nothing which goes wrong with it stops a computation."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code; None where there is none, or where it is damaged."""
        try:
            found = super().load_overload(sig, target_context)
            if found is not None and tuple(found.signature.args) != tuple(getattr(sig, "args", sig)):
                raise ValueError(f"the entry of {sig} holds the code of {found.signature}")
            return found
        except Exception as reason:  # a damaged file may raise anything
            _warn_uncached(reason)
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save machine code, if there is room."""
        try:
            super().save_overload(sig, data)
        except Exception as reason:
            _warn_uncached(reason)


def _keep_on_disk(compiled: Any, function: Any) -> None:
    """Give a Numba dispatcher or C function the guarded cache, where a folder can be written."""
    try:
        compiled._cache = _GuardedCache(function)
    except RuntimeError as reason:  # Numba found no folder
        _warn_uncached(reason)


def _compile(routine: Routine, spec: Spec, disk_cache: bool = True) -> Compiled:
    """Compile a routine for `spec`, or load it from the disk cache."""
    arguments = (Call(routine.layout, spec), *(type_of(kind, spec) for kind in routine.arguments))
    function: Any = CFunc(routine.body, (arguments, types.void), locals={}, options=dict(_OPTIONS))
    if disk_cache:
        _keep_on_disk(function, routine.body)
    function.compile()
    return Compiled(function.address, function.cache_hits > 0, function)


@dataclass(frozen=True)
class Routine:
    """A body, the layout of its call block, the kinds of its further arguments; machine code for each spec in use."""

    body: Any
    layout: Layout
    arguments: tuple[Any, ...]
    compiled: dict[Spec, Compiled] = field(default_factory=dict, compare=False, repr=False)

    def address(self, spec: Spec) -> int:
        """Address of the machine code for `spec`."""
        found = self.compiled.get(spec)
        if found is None:
            with _lock:
                found = self.compiled.get(spec) or _compile(self, spec)
                self.compiled[spec] = found
        return found.address

    def assembly(self, spec: Spec) -> str:
        """Assembly of the machine code for `spec`, compiled anew (code from the disk cache has no text)."""
        return str(_compile(self, spec, disk_cache=False).function._library.get_asm_str())


def kernel(layout: Layout) -> Any:
    """Decorator: ``body(call, task, thread)`` with this call block becomes a kernel."""
    return routine(layout, "integer", "integer")


def routine(layout: Layout, *arguments: Any) -> Any:
    """Decorator: ``body(call, *arguments)``, with arguments of these kinds, becomes a `Routine`."""

    def decorate(body: Any) -> Routine:
        return Routine(body, layout, arguments)

    return decorate


def device(function: Any) -> Any:
    """A function that routines call; compiled and inlined with them, and with no way in from Python or C."""
    return numba.njit(function, error_model="numpy", boundscheck=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def launcher(function: Any) -> Any:
    """Compile a function of `_launch`; it lets go of the GIL while it runs."""
    # The name names the cache entry: with the fingerprint in it, code made from older files is never found.
    function.__qualname__ = f"{function.__name__}_{fingerprint()}"
    dispatcher = numba.njit(function, nogil=True, error_model="numpy")
    _keep_on_disk(dispatcher, function)
    return dispatcher


def cache_folder() -> str | None:
    """Folder where compiled kernels are kept, None where none can be written."""
    try:
        return str(FunctionCache(fingerprint.__wrapped__).cache_path)
    except RuntimeError:
        return None
