"""Where the time of a run goes: each step measured, as a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastpool.onnx.summary import algorithm_of
from fastpool.onnx.tables import table
from fastpool.units import seconds_text

if TYPE_CHECKING:
    from fastpool.onnx.memory import Step
    from fastpool.onnx.plan import Plan

#: Runs before those that count.
_WARM_UP = 2
#: Longest bar of the table, in characters.
_BAR = 20
#: Most bars of a picture.
_MOST_BARS = 60


@dataclass(frozen=True)
class Timing:
    """One step of a run, measured.

    Attributes
    ----------
    node, algorithm : str
        As in a summary.
    op : str
        Its operator.
    seconds : float
        Median over the runs.
    gflops : float
        Arithmetic by definition, 2 for each multiply-add, over the time, in GFLOP/s: an algorithm that needs fewer
        multiplications may exceed what the processor can do.
    gbytes : float
        What has to be read and written at least, over the time, in GB/s.
    """

    node: str
    op: str
    algorithm: str
    seconds: float
    gflops: float
    gbytes: float


@dataclass(frozen=True)
class Profile:
    """Time of each step. Printed, it is a table; `picture` draws it.

    Attributes
    ----------
    timings : tuple of Timing
        Steps in the order of a run.
    seconds : float
        Median of whole runs, in which no step is measured.
    """

    timings: tuple[Timing, ...]
    seconds: float

    def __str__(self) -> str:
        total = sum(timing.seconds for timing in self.timings) or 1.0
        most = max((timing.seconds for timing in self.timings), default=1.0) or 1.0
        rows = [
            [
                timing.node,
                timing.algorithm,
                seconds_text(timing.seconds),
                f"{timing.seconds / total:.1%}",
                f"{timing.gflops:.1f}" if timing.gflops else "",
                f"{timing.gbytes:.1f}" if timing.gbytes else "",
                "#" * round(_BAR * timing.seconds / most),
            ]
            for timing in self.timings
        ]
        header = ["node", "algorithm", "time", "share", "GFLOP/s", "GB/s", ""]
        return (
            f"{table(header, rows, 'llrrrrl')}\na run: {seconds_text(self.seconds)}, its steps: {seconds_text(total)}"
        )

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Draw the steps as bars, coloured by operator, and write a picture; the slowest if they are many.

        Parameters
        ----------
        path : path
            Of the file, whose ending tells its format: .png, .svg, .pdf.

        Raises
        ------
        ImportError
            If matplotlib is missing: ``pip install "fastpool[cli]"``.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        shown = set(sorted(range(len(self.timings)), key=lambda i: -self.timings[i].seconds)[:_MOST_BARS])
        timings = [timing for index, timing in enumerate(self.timings) if index in shown]
        operators = list(dict.fromkeys(timing.op for timing in timings))
        colours = {op: f"C{index % 10}" for index, op in enumerate(operators)}
        figure = Figure(figsize=(10, 1.6 + 0.2 * len(timings)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.barh(
            range(len(timings)),
            [1e3 * timing.seconds for timing in timings],
            color=[colours[timing.op] for timing in timings],
        )
        for place, timing in enumerate(timings):
            note = f" {timing.algorithm}" + (f", {timing.gflops:.0f} GFLOP/s" if timing.gflops else "")
            axes.text(1e3 * timing.seconds, place, note, va="center", fontsize=7)
        axes.set_yticks(range(len(timings)), [timing.node for timing in timings], fontsize=7)
        axes.invert_yaxis()
        axes.margins(x=0.3, y=0.01)
        axes.set_xlabel("milliseconds")
        few = "" if len(timings) == len(self.timings) else f", the slowest {len(timings)} of {len(self.timings)} steps"
        axes.set_title(f"A run: {seconds_text(self.seconds)}{few}")
        axes.legend(handles=[Patch(color=colours[op], label=op) for op in operators], loc="lower right", fontsize=7)
        figure.savefig(path, dpi=120)


def measure(plan: Plan, inputs: Mapping[str, Any], repeat: int) -> Profile:
    """Time whole runs, then each call of as many."""
    for _ in range(_WARM_UP):
        plan.run(inputs)
    whole = []
    for _ in range(repeat):
        start = perf_counter()
        plan.run(inputs)
        whole.append(perf_counter() - start)
    times: list[list[float]] = [[] for _ in plan.bound]

    def watch(position: int, call: Callable[[], object]) -> None:
        start = perf_counter()
        call()
        times[position].append(perf_counter() - start)

    for _ in range(repeat):
        plan.run(inputs, watch)
    timings = tuple(_timing(plan, step, median(found)) for step, found in zip(plan.bound, times, strict=True))
    return Profile(timings, median(whole))


def _timing(plan: Plan, step: Step, seconds: float) -> Timing:
    known = [plan.values.get(name) for name in (*step.inputs, *step.outputs) if name]
    moved = sum(value.nbytes for value in known if value is not None)
    span = seconds or 1e-9
    return Timing(
        step.label,
        step.op,
        algorithm_of(step),
        seconds,
        2 * step.kernel.multiply_adds / span * 1e-9,
        moved / span * 1e-9,
    )
