"""How kernels become machine code: the only file with Numba's flags, the cache and its guard.

A *routine* is a module-level function ``body(call, ...)``. Numba compiles it once for each `Spec` (element type and
tile) into a C function. Its address goes into a *call block*, a row of 8-byte words with the numbers, addresses and
tables of one call; the type of `call` carries the block's `Layout`, so that a body writes ``call.channels``. A
*kernel* is a routine ``body(call, task, thread)`` that `launch` runs for every task.

Why addresses, and not functions that Numba inlines: the parallel region is compiled once for the whole package, a
driver once for an element type, and a further tile costs 0.3 s instead of 2 s. The serial twin of a kernel is the very
same machine code. An indirect call costs nanoseconds, for a row of tiles.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, field
from typing import Any

import numba
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.errors import NumbaError

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
_lock = threading.Lock()


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


def _compile(routine: Routine, spec: Spec, disk_cache: bool = True) -> Compiled:
    """Compile a routine for `spec`, or load it from the disk cache."""
    arguments = (Call(routine.layout, spec), *(type_of(kind, spec) for kind in routine.arguments))
    reason: Exception | None = None
    if disk_cache:
        try:
            function = _function(routine, arguments)
            function.enable_caching()
            function.compile()
            return Compiled(function.address, function.cache_hits > 0, function)
        except NumbaError:
            raise
        except Exception as error:  # no writable folder, full disk, damaged entry
            reason = error
    function = _function(routine, arguments)
    function.compile()
    if reason is not None:  # the code is fine, so it was the cache
        _warn_uncached(reason)
    return Compiled(function.address, False, function)


def _function(routine: Routine, arguments: tuple[Any, ...]) -> Any:
    return CFunc(routine.body, (arguments, types.void), locals={}, options=dict(_OPTIONS))


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
    """A function that routines call; compiled and inlined with them."""
    return numba.njit(function, error_model="numpy", boundscheck=False)


def launcher(function: Any, parallel: bool) -> Any:
    """Compile a function of `_launch`; it lets go of the GIL while it runs."""
    options = {"nogil": True, "parallel": parallel, "error_model": "numpy"}
    # The name names the cache entry: with the fingerprint in it, code made from older files is never found.
    function.__qualname__ = f"{function.__name__}_{fingerprint()}"
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as reason:  # no folder for the cache
        _warn_uncached(reason)
        return numba.njit(function, **options)


def cache_folder() -> str | None:
    """Folder where compiled kernels are kept, None where none can be written."""
    try:
        return str(FunctionCache(fingerprint.__wrapped__).cache_path)
    except RuntimeError:
        return None
