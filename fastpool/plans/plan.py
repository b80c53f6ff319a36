"""What a plan is, and how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastpool import runtime
from fastpool.arrays import ALIGNMENT
from fastpool.dtypes import ElementType
from fastpool.routines.layout import ANY, EACH, OUT_AT, SCRATCH_AT, WHO, Layout
from fastpool.routines.routine import Routine, spec_for


@dataclass(frozen=True)
class Code:
    """A routine for one element type and tile: a field that holds the address of its machine code."""

    routine: Routine
    element: ElementType
    shape: tuple[str, int, int] = ("", 1, 1)  #: variant, vectors and width of the spec
    is_rare: bool = False  #: whether it is only compiled once a kernel has missed it

    @property
    def spec(self) -> Any:
        """Spec of the machine code."""
        return spec_for(self.element, *self.shape)

    def address(self) -> int:
        """Address of the machine code (compiled or loaded here)."""
        return self.routine.address(self.spec)


def _words(layout: Layout, fields: dict[str, Any], complete: bool = True) -> np.ndarray:
    """Call block of these fields, whose code is compiled or loaded here: all of it, or what is not rare."""
    resolved = {}
    for name, value in fields.items():
        is_left_out = isinstance(value, Code) and value.is_rare and not complete
        resolved[name] = 0 if is_left_out else value.address() if isinstance(value, Code | Block) else value
    return layout.block(**resolved)


@dataclass(frozen=True)
class Block:
    """A call block to which a field of another one points."""

    layout: Layout
    fields: dict[str, Any]

    @cached_property
    def _made(self) -> np.ndarray:
        return _words(self.layout, self.fields)

    def address(self) -> int:
        """Address of its words (its code is compiled or loaded here)."""
        return self._made.ctypes.data


@dataclass(frozen=True)
class Step:
    """One kernel over a number of independent tasks."""

    kernel: Code
    fields: dict[str, Any]
    by_each: bool = False  #: whether every thread does all tasks for itself
    begins: dict[str, int] = field(default_factory=dict)  #: array -> bytes from its begin to what the step sees of it
    scratch_at: int = 0  #: words of the plan's scratch that are not for this step
    out_at: int | None = None  #: words to where it writes within the plan's scratch; None: to the result

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return int(self.fields["tasks"])

    def block(self, complete: bool = True) -> np.ndarray:
        """Call block, complete or without addresses of rare routines."""
        layout = self.kernel.routine.layout
        words = _words(layout, self.fields, complete)
        words[0] = self.kernel.address()
        words[WHO] = EACH if self.by_each else ANY
        words[SCRATCH_AT], words[OUT_AT] = self.scratch_at, -1 if self.out_at is None else self.out_at
        for name, begin in self.begins.items():
            words[list(layout.words).index(name)] = begin
        return words


class _Blocks(NamedTuple):
    """Call blocks of a plan's steps, a row each."""

    place: tuple[int, int, int]  #: address, rows, words of a row
    words: np.ndarray
    is_complete: bool  #: whether they have the addresses of rare routines


@dataclass(frozen=True)
class Plan:
    """Steps that run one after the other, each spread over the threads."""

    steps: tuple[Step, ...]
    shared_elements: int  #: scratch that all threads share
    thread_elements: int  #: scratch of each thread, after the shared one
    element: ElementType
    cycles: float  #: rough cycles of one core; decides whether calling the workers pays
    tables: tuple[Any, ...] = field(default=(), repr=False)  #: keeps alive the arrays whose addresses are in the fields
    omitted: float = 0.0  #: share of the multiplications that are left out, as they meet padding
    #: A word that is not zero once a kernel has missed a rare routine, and left something wrong.
    missed: np.ndarray | None = field(default=None, compare=False, repr=False)
    _blocks: list[_Blocks] = field(default_factory=list, compare=False, repr=False)  #: none before the first run

    @cached_property
    def scratch(self) -> tuple[int, int]:
        """Bytes of scratch that all threads share, and of each thread."""
        size = self.element.size
        shared, private = self.shared_elements * size, self.thread_elements * size
        return shared + (ALIGNMENT if shared or private else 0), private

    def workspace(self, threads: int) -> int:
        """Bytes of scratch that a call allocates."""
        shared, private = self.scratch
        return shared + threads * private

    def blocks(self) -> np.ndarray:
        """Call blocks of the steps, a row each; all of their code is compiled or loaded here."""
        return self._compile(True).words

    def _compile(self, complete: bool) -> _Blocks:
        if self._blocks and (self._blocks[-1].is_complete or not complete):
            return self._blocks[-1]
        blocks = [step.block(complete) for step in self.steps]
        together = np.zeros((len(blocks), max(map(len, blocks))), np.int64)
        for row, block in zip(together, blocks, strict=True):
            row[: len(block)] = block
        # Blocks that others are running are kept.
        place = together.ctypes.data, *together.shape
        self._blocks.append(_Blocks(place, together, complete or self.missed is None))
        return self._blocks[-1]

    def run(
        self,
        x: int,
        weights: int = 0,
        bias: int = 0,
        residual: int = 0,
        out: int = 0,
        indices: int = 0,
        filters: int = 0,
    ) -> None:
        """Carry out the steps on arrays given by address; all sizes were checked when the plan was made."""
        shared, private = self.scratch
        blocks = self._blocks[-1] if self._blocks else self._compile(False)
        runtime.launch(self.cycles, blocks[0], shared, private, x, weights, bias, residual, out, indices, filters)
        if self.missed is not None and not blocks.is_complete and self.missed[0]:
            # `out` overlaps nothing that is read, and is written anew.
            blocks = self._compile(True)
            runtime.launch(self.cycles, blocks[0], shared, private, x, weights, bias, residual, out, indices, filters)


#: Bytes that nobody uses between the scratch memory of two threads. The hardware fetches some lines ahead of those that
#: a thread goes through: without the gap they are the next thread's, which has to wait for them. Packing 64 channels of
#: 3x3 at stride 2 on 14x14 takes 12 us instead of 20.
_BETWEEN_THREADS = 2048


def thread_scratch(elements: int, element: ElementType) -> int:
    """Elements from the scratch memory of a thread that needs so many to that of the next."""
    line = ALIGNMENT // element.size
    return -(-(elements + _BETWEEN_THREADS // element.size) // line) * line if elements else 0


def table(values: Any) -> np.ndarray:
    """Integers that a kernel reads through an address; the plan keeps the array alive."""
    return np.ascontiguousarray(np.asarray(values, np.int64).reshape(-1))
