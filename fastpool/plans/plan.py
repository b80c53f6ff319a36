"""What a plan is, and how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fastpool import runtime
from fastpool.arrays import ALIGNMENT
from fastpool.dtypes import ElementType
from fastpool.routines.layout import ANY, EACH, WHO
from fastpool.routines.routine import Routine, spec_for


@dataclass(frozen=True)
class Code:
    """A routine for one element type and tile: a field that holds the address of its machine code."""

    routine: Routine
    element: ElementType
    shape: tuple[str, int, int] = ("", 1, 1)  #: variant, vectors and width of the spec

    @property
    def spec(self) -> Any:
        """Spec of the machine code."""
        return spec_for(self.element, *self.shape)

    def address(self) -> int:
        """Address of the machine code (compiled or loaded here)."""
        return self.routine.address(self.spec)


@dataclass(frozen=True)
class Step:
    """One kernel over a number of independent tasks."""

    kernel: Code
    fields: dict[str, Any]
    by_each: bool = False  #: whether every thread does all tasks for itself

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return int(self.fields["tasks"])

    def block(self) -> np.ndarray:
        """Call block."""
        fields = {name: value.address() if isinstance(value, Code) else value for name, value in self.fields.items()}
        words = self.kernel.routine.layout.block(**fields)
        words[0] = self.kernel.address()
        words[WHO] = EACH if self.by_each else ANY
        return words


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
    #: Call blocks, and where they are: address, rows, words of a row.
    _blocks: list[tuple[np.ndarray, tuple[int, int, int]]] = field(default_factory=list, compare=False, repr=False)

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
        """Call blocks of the steps, a row each; their code is compiled or loaded here."""
        return (self._blocks or self._compile())[0][0]

    def _compile(self) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
        blocks = [step.block() for step in self.steps]
        together = np.zeros((len(blocks), max(map(len, blocks))), np.int64)
        for row, block in zip(together, blocks, strict=True):
            row[: len(block)] = block
        self._blocks.append((together, (together.ctypes.data, *together.shape)))
        return self._blocks

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
        steps = (self._blocks or self._compile())[0][1]
        runtime.launch(self.cycles, steps, shared, private, x, weights, bias, residual, out, indices, filters)


def table(values: Any) -> np.ndarray:
    """Integers that a kernel reads through an address; the plan keeps the array alive."""
    return np.ascontiguousarray(np.asarray(values, np.int64).reshape(-1))
