"""What the asv benchmarks share: a case prepared in `setup`, once in each process, and nothing but the call timed.

asv calls `setup` before every sample, so `prepared` remembers the last case. It also runs the case for a moment:
compiling, caching and the start of threads happen there and never in a timing, not even in the single sample that
``asv run --quick`` takes. fastpool is imported in `setup` only, so that a process that asv forks its benchmarks from
has none of its threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from bench.cases import Case, all_cases, make_arrays
from bench.engines import ENGINES, Run
from bench.machine import cpu_count
from bench.timing import measure_call, measure_in_turns, median_ratio

DTYPES = ["float32", "float64"]
CHEAP_FLOPS, CHEAP_BYTES = 150e6, 8e6  # cases above either are measured in float32 only
WARM_UP = 0.03  # seconds
ROUNDS = 3


@lru_cache(maxsize=2)
def prepared(engine: str, case_id: str, dtype: str) -> Run:
    """Prepare a case for an engine and warm it up."""
    case = all_cases()[case_id]
    _, run = ENGINES[engine].make(case, make_arrays(case, dtype), cpu_count())
    run()
    measure_call(run, WARM_UP, 0.0)
    return run


def cheap(case: Case) -> bool:
    """Tell whether a case is measured in both dtypes."""
    return case.flops <= CHEAP_FLOPS and case.bytes("float64") <= CHEAP_BYTES


class Suite:
    """Parameters of a family of cases; subclasses name the engine, and time `self.run`."""

    param_names = ("case", "dtype")
    timeout = 300.0
    engine = "fastpool"

    def setup(self, case: str, dtype: str) -> None:
        """Prepare the case."""
        self.run = prepared(self.engine, case, dtype)


class RatioSuite(Suite):
    """NumPy's time divided by ours, in turns in one process; higher is better, which asv cannot know."""

    unit = "NumPy / fastpool"

    def setup(self, case: str, dtype: str) -> None:
        """Prepare both sides."""
        self.runs = {engine: prepared(engine, case, dtype) for engine in ("fastpool", "numpy")}

    def ratio(self) -> float:
        """Measure in turns and return the median of the rounds' ratios."""
        blocks = {name: lambda run=run: measure_call(run) for name, run in self.runs.items()}
        times = measure_in_turns(blocks, ROUNDS)
        return median_ratio(times["numpy"], times["fastpool"])


def parameters(cases: Iterable[Case]) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Return asv's `params` and `skip_params` for cases in both dtypes, the costly ones in float32 only."""
    cases = list(cases)
    skipped = [(case.id, "float64") for case in cases if not cheap(case)]
    return [[case.id for case in cases], DTYPES], skipped
