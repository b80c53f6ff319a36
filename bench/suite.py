"""What the asv benchmarks share: a case prepared in `setup`, once in each process, and nothing but the call timed.

asv calls `setup` before every sample, so `prepared` remembers the last case. It also runs the case for a moment:
compiling, caching and the start of threads happen there and never in a timing, not even in the single sample that
``asv run --quick`` takes. fastpool is imported in `setup` only, so that a process that asv forks its benchmarks from
has none of its threads.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from bench.cases import Case, all_cases, make_arrays, representatives
from bench.engines import ENGINES, Run
from bench.limits import Limits, Meter
from bench.machine import cpu_count
from bench.timing import measure_call, measure_in_turns, median_ratio

DTYPES = ["float32", "float64"]
THREADS = ["all", "1"]
CHEAP_FLOPS, CHEAP_BYTES = 150e6, 8e6  # cases above either are measured in float32 and on all threads only
CHEAP_ONLY = "FASTPOOL_BENCH_CHEAP_ONLY"  # environment variable: leave out the costly cases altogether
ALL = "FASTPOOL_BENCH_ALL"  # environment variable: every layer, not only the first of each kind
WARM_UP = 0.03  # seconds
ROUNDS = 3


def thread_count(threads: str) -> int:
    """Return how many threads a value of the parameter stands for."""
    return cpu_count() if threads == "all" else int(threads)


@lru_cache(maxsize=2)
def prepared(engine: str, case_id: str, dtype: str, threads: str = "all") -> Run:
    """Prepare a case for an engine and warm it up."""
    case = all_cases()[case_id]
    _, run = ENGINES[engine].make(case, make_arrays(case, dtype), thread_count(threads))
    run()
    measure_call(run, WARM_UP, 0.0)
    return run


@cache
def limits(dtype: str, threads: str) -> Limits:
    """Measure what the machine can do, once in each process."""
    try:
        return Meter(dtype, thread_count(threads)).limits()
    except (ImportError, KeyError) as error:  # the commit that is measured has no kernels for that
        raise NotImplementedError(str(error)) from error


def cheap(case: Case) -> bool:
    """Tell whether a case is measured in both dtypes."""
    return case.flops <= CHEAP_FLOPS and case.bytes("float64") <= CHEAP_BYTES


def figure(value: float) -> float:
    """Round to four digits: asv prints all that a tracked value has, and no measurement has more."""
    return float(f"{value:.4g}")


class Suite(ABC):
    """Parameters of a family of cases; subclasses name the engine, and time `self.run`.

    It is abstract, and so are those below, as asv runs whatever class it finds in a module otherwise.
    """

    @property
    @abstractmethod
    def params(self) -> list[list[str]]:
        """Cases, dtypes and threads."""

    param_names = ("case", "dtype", "threads")
    timeout = 300.0
    engine = "fastpool"

    def setup(self, case: str, dtype: str, threads: str) -> None:
        """Prepare the case. NumPy's `matmul` takes its threads from the environment, before NumPy is imported."""
        if threads != "all" and not self.engine.startswith("fastpool"):
            raise NotImplementedError("NumPy's threads cannot be set here")
        self.run = prepared(self.engine, case, dtype, threads)


class _Rated(Suite):
    """Rates, which are better when they are higher; asv cannot know that."""

    def rate(self, work: float) -> float:
        """Return work per second."""
        return work / measure_call(self.run)


class RateSuite(_Rated):
    """How much is computed and moved in a second."""

    def track_gflops(self, case: str, dtype: str, threads: str) -> float:
        """Operations by definition."""
        return figure(1e-9 * self.rate(all_cases()[case].flops))

    def track_gbytes(self, case: str, dtype: str, threads: str) -> float:
        """Bytes of input, weights and output, each once."""
        return figure(1e-9 * self.rate(all_cases()[case].bytes(dtype)))

    track_gflops.unit = "GFLOP/s"  # type: ignore[attr-defined]
    track_gbytes.unit = "GB/s"  # type: ignore[attr-defined]


class PeakSuite(_Rated):
    """How much of what the machine can do that is, measured in the same process."""

    def setup(self, case: str, dtype: str, threads: str) -> None:
        """Prepare the case, and measure the machine."""
        self.limits = limits(dtype, threads)
        super().setup(case, dtype, threads)

    def track_percent_of_peak(self, case: str, dtype: str, threads: str) -> float:
        """Share of the machine's fused multiply-adds; above 100 where Winograd carries out fewer."""
        return figure(100 * self.rate(all_cases()[case].flops) / self.limits.flops)

    def track_percent_of_copy(self, case: str, dtype: str, threads: str) -> float:
        """Share of what the machine copies from memory to memory; above 100 where data stay in a cache."""
        return figure(100 * self.rate(all_cases()[case].bytes(dtype)) / self.limits.copy)

    track_percent_of_peak.unit = track_percent_of_copy.unit = "%"  # type: ignore[attr-defined]


class RatioSuite(Suite):
    """NumPy's time divided by ours, in turns in one process; higher is better, which asv cannot know."""

    unit = "NumPy / fastpool"

    def setup(self, case: str, dtype: str, threads: str) -> None:
        """Prepare both sides."""
        if threads != "all":
            raise NotImplementedError("NumPy's threads cannot be set here")
        self.runs = {engine: prepared(engine, case, dtype) for engine in ("fastpool", "numpy")}

    def ratio(self) -> float:
        """Measure in turns and return the median of the rounds' ratios."""
        blocks = {name: lambda run=run: measure_call(run) for name, run in self.runs.items()}
        times = measure_in_turns(blocks, ROUNDS)
        return figure(median_ratio(times["numpy"], times["fastpool"]))


class MemorySuite(Suite):
    """The most memory that a process with one case needs, arrays, packed weights, scratch and machine code included."""

    def setup(self, case: str, dtype: str, threads: str) -> None:
        """Make the arrays."""
        self.case, self.arrays = all_cases()[case], make_arrays(all_cases()[case], dtype)

    def peakmem_ours(self, case: str, dtype: str, threads: str) -> None:
        """Prepare and call."""
        _, run = ENGINES[self.engine].make(self.case, self.arrays, thread_count(threads))
        run()


def parameters(
    cases: Iterable[Case], threads: Sequence[str] = THREADS
) -> tuple[list[list[str]], list[tuple[str, ...]]]:
    """Return asv's `params` and `skip_params`, of the first layer of each kind unless all are asked for.

    Costly cases are measured in float32 on all threads only, or not at all.
    """
    chosen = all_cases() if os.environ.get(ALL) else {case.id for case in representatives()}
    cases = [case for case in cases if case.id in chosen and (cheap(case) or not os.environ.get(CHEAP_ONLY))]
    skipped = [
        (case.id, dtype, count)
        for case in cases
        if not cheap(case)
        for dtype in DTYPES
        for count in threads
        if (dtype, count) != ("float32", "all")
    ]
    return [[case.id for case in cases], DTYPES, list(threads)], skipped
