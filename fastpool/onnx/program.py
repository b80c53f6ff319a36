"""What a run of a plan does, in order: chains of kernels that go in one launch, and other calls between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpool import runtime
from fastpool.onnx.ops.operator import Task
from fastpool.plans.chain import Chain, Run

#: A part of a program: what it does with the arrays of a run, by name.
Part = Callable[[Mapping[str, np.ndarray]], object]


@dataclass(frozen=True)
class _Linked:
    """A chain; the addresses of arrays that each run has of its own are put in before it."""

    chain: Chain
    own: tuple[tuple[int, int, str], ...]  #: run, place among its arrays, name of the value

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> None:
        find = runtime.engine().address
        for run, place, name in self.own:
            self.chain.place(run, place, find(arrays[name]))
        self.chain()


class Program:
    """Parts as they are added; `own` has a stand-in for each array that differs from run to run."""

    def __init__(self, own: Mapping[str, np.ndarray]):
        # A stand-in may come in another shape: its address is what says whose it is.
        self._names = {array.ctypes.data: name for name, array in own.items()}
        self._own = own  # keeps the addresses taken
        self._parts: list[Part] = []
        self._runs: list[Run] = []
        self._places: list[tuple[int, int, str]] = []

    def add(self, task: Task, bind: Callable[[Mapping[str, Any]], Task] | None, own: int = 0) -> None:
        """Add a task; if it has arrays of the run, `own` of them, also what binds it to others."""
        if isinstance(task, Run):
            names = [self._names.get(address) for address in task.addresses]
            if len(names) - names.count(None) == own:
                self._places += [(len(self._runs), place, name) for place, name in enumerate(names) if name]
                self._runs.append(task)
                return
        self._link()
        if bind is not None:
            self._parts.append(_late(bind))
        elif task is not None:
            self._parts.append(_fixed(task))

    def parts(self) -> tuple[Part, ...]:
        """Give all that was added."""
        self._link()
        return tuple(self._parts)

    def _link(self) -> None:
        if self._runs:
            self._parts.append(_Linked(Chain(self._runs), tuple(self._places)))
            self._runs, self._places = [], []


def _fixed(task: Callable[[], object]) -> Part:
    return lambda arrays: task()


def _late(bind: Callable[[Mapping[str, Any]], Task]) -> Part:
    def part(arrays: Mapping[str, np.ndarray]) -> None:
        task = bind(arrays)
        if task is not None:
            task()

    return part
