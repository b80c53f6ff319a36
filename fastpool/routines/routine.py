"""Routines: functions that are compiled once for each element type and tile, and called by address.

The address goes into a call block. A *kernel* is a routine ``body(call, task, thread)`` that the launchers run for
every task.

Why addresses, and not functions that Numba inlines: the launchers are compiled once for the whole package, a driver
once for an element type, and a further tile costs 0.3 s instead of 2 s. The serial twin of a kernel is the very same
machine code. An indirect call costs nanoseconds, for a row of tiles. And what is only an address can come from disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from fastpool.dtypes import ElementType
from fastpool.machine import code
from fastpool.machine.builtins import builtin
from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout


@dataclass(frozen=True)
class Spec:
    """Element type and shape of the vectors and tiles of one compiled routine, with the variant of the routine."""

    element: str  #: name of a NumPy dtype
    lanes: int
    vectors: int = 1
    width: int = 1
    variant: str = ""


def lanes(element: ElementType) -> int:
    """Elements of one vector register."""
    return TARGET.vector_bytes // element.size


@cache
def spec_for(element: ElementType, variant: str, vectors: int, width: int) -> Spec:
    """Spec of a routine on this processor; a variant that begins with "narrow" has vectors of half a register."""
    count = lanes(element) // 2 if variant.startswith("narrow") else lanes(element)
    return Spec(element.numba_name, count, vectors, width, variant)


@dataclass(frozen=True)
class Routine:
    """A body, the layout of its call block, the kinds of its further arguments; machine code for each spec in use."""

    place: str | Callable[..., None]  #: ``module.function`` in `fastpool.kernels`, or the function
    layout: Layout
    arguments: tuple[Any, ...]
    compiled: dict[Spec, code.Compiled] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.place.rpartition(".")[2] if isinstance(self.place, str) else self.place.__name__

    @property
    def body(self) -> Any:
        """What computes: its module, and Numba, are loaded here."""
        return _body_of(self.place) if isinstance(self.place, str) else self.place

    def address(self, spec: Spec) -> int:
        """Address of the machine code for `spec`."""
        found = self.compiled.get(spec)
        if found is None:
            found = self._keep(spec, lambda: _compiler().compile_routine(self, spec))
        return found.address

    def assembly(self, spec: Spec) -> str:
        """Assembly of the machine code for `spec`, compiled anew (code from disk has no text); the code is kept."""
        made, text = _compiler().assembly(self, spec)
        self._keep(spec, lambda: made)
        return str(text)

    def _keep(self, spec: Spec, compile: Callable[[], code.Made]) -> code.Compiled:
        # Only what is in the package is kept on disk: of other functions nothing tells whether they have changed.
        key = f"{self.place} {spec}" if isinstance(self.place, str) else None
        return code.get(self.compiled, spec, key, compile)


def _body_of(place: str) -> Any:
    """Function ``module.function`` in `fastpool.kernels`."""
    module, _, name = place.rpartition(".")
    return getattr(import_module(f"fastpool.kernels.{module}"), name)


def _compiler() -> Any:
    return import_module("fastpool.kernels._jit")


def kernel(place: str | Callable[..., None], layout: Layout) -> Routine:
    """Give the routine ``body(call, task, thread)`` with this call block."""
    return routine(place, layout, "integer", "integer")


def routine(place: str | Callable[..., None], layout: Layout, *arguments: Any) -> Routine:
    """Give the routine ``body(call, *arguments)``, with arguments of these kinds."""
    return Routine(place, layout, arguments)


@dataclass(frozen=True)
class Entry:
    """A compiled function that Python calls: one of the launchers.

    Kinds of its arguments: ``integer``; ``words`` (the address of int64s, as a number); ``array`` (a NumPy array, of
    which it gets the address as a number). Another number of arguments, or another type in place of a number, is a
    `TypeError`. It returns an integer; where that is negative, `MemoryError` is raised.
    """

    place: str
    arguments: tuple[str, ...]
    keeps_gil: bool = False

    @property
    def body(self) -> Any:
        """What computes: its module, and Numba, are loaded here."""
        return _body_of(self.place)

    def function(self) -> Any:
        """Python's function."""
        found = code.get(entries, self.place, str(self), lambda: _compiler().compile_entry(self))
        return builtin(self.place.rpartition(".")[2], found.address)


#: Machine code of those in use, by place.
entries: dict[str, code.Compiled] = {}
