"""Plans that follow one another: bound to their arrays once, run in one launch.

What lies between two launches from Python, 2 to 4 us, is more than many a layer of a small network takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastpool import runtime
from fastpool.plans.plan import Plan
from fastpool.routines.layout import ADDRESSES, ALONE, FIRST_ADDRESS, SCRATCH, WHO

#: Cycles up to which a step is not shared: handing its halves over and waiting for them takes 800.
_ALONE = 2_000.0


@dataclass(frozen=True, eq=False)
class Run:
    """A plan with its arrays, which lie as the plan expects and are kept alive."""

    plan: Plan
    x: np.ndarray
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None
    residual: np.ndarray | None = None
    out: np.ndarray | None = None
    indices: np.ndarray | None = None
    filters: np.ndarray | None = None

    @property
    def arrays(self) -> tuple[np.ndarray | None, ...]:
        """Arrays in the order of `Plan.run`."""
        return self.x, self.weights, self.bias, self.residual, self.out, self.indices, self.filters

    @property
    def addresses(self) -> list[int]:
        """Addresses of their first elements, 0 for what is missing."""
        return [0 if array is None else array.ctypes.data for array in self.arrays]

    def __call__(self) -> None:
        """Carry it out."""
        self.plan.run(*self.addresses)


class Chain:
    """Runs that are carried out one after the other in one launch, by one caller at a time."""

    def __init__(self, runs: Sequence[Run]):
        self._runs = tuple(runs)  # keeps their arrays alive
        tables = [run.plan.blocks() for run in runs]
        self._steps = np.zeros((sum(map(len, tables)), max(table.shape[1] for table in tables)), np.int64)
        self._rows: list[slice] = []
        self._begins: list[np.ndarray] = []  # of each run's steps in its arrays, in bytes
        first = 0
        for run, table in zip(runs, tables, strict=True):
            rows = slice(first, first + len(table))
            self._steps[rows, : table.shape[1]] = table
            if run.plan.cycles <= _ALONE:
                self._steps[rows, WHO] = ALONE
            self._rows.append(rows)
            self._begins.append(table[:, FIRST_ADDRESS : FIRST_ADDRESS + ADDRESSES].copy())
            for place, address in enumerate(run.addresses):
                self.place(len(self._rows) - 1, place, address)
            first = rows.stop
        self._place = self._steps.ctypes.data, *self._steps.shape
        self._cycles = sum(run.plan.cycles for run in runs)
        self._scratch: dict[int, int] = {}

    def place(self, run: int, place: int, address: int) -> None:
        """Replace an address of a run, counted as in `Plan.run`."""
        place += place >= SCRATCH
        self._steps[self._rows[run], FIRST_ADDRESS + place] = self._begins[run][:, place] + address

    def __call__(self) -> None:
        """Carry them out."""
        runtime.launch_chain(self._cycles, self._place, self._workspace)

    def _workspace(self, threads: int) -> int:
        found = self._scratch.get(threads)
        if found is None:
            found = self._scratch[threads] = max(run.plan.workspace(threads) for run in self._runs)
        return found
