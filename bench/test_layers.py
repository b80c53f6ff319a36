"""A quick look in one process, by pytest-benchmark: ``pytest bench --benchmark-only``.

Every layer is a group: NumPy's fastest way beside ours. ``-k resnet50`` takes a network, ``--dtype float64`` the other
type. The engines share a process here, so that threads of one go on spinning while another begins; each therefore first
runs uncounted. ``python -m bench.speed`` gives each a process of its own, and is the one to quote.
"""

from __future__ import annotations

import warnings
from typing import Any

from bench.cases import all_cases, make_arrays
from bench.engines import ENGINES
from bench.machine import cpu_count
from bench.timing import measure_call

SIDES = ("fastpool", "numpy")
ROUNDS = 15
SPAN = 2e-3  # seconds of a round


def pytest_generate_tests(metafunc: Any) -> None:
    """One test for each layer and side."""
    pairs = [(case, engine) for case in all_cases().values() for engine in SIDES]
    metafunc.parametrize(("case", "engine"), pairs, ids=[f"{case.id}-{engine}" for case, engine in pairs])


def test_layer(case: Any, engine: str, benchmark: Any, dtype: str) -> None:
    """Measure one layer."""
    benchmark.group = f"{case.id} {dtype}"
    _, run = ENGINES[engine].make(case, make_arrays(case, dtype), cpu_count())
    run()
    seconds = measure_call(run, span=0.0)
    calls = max(1, int(SPAN / seconds))
    benchmark.extra_info |= {"gflops": 1e-9 * case.flops / seconds, "gbytes": 1e-9 * case.bytes(dtype) / seconds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a benchmark that is switched off
        benchmark.pedantic(run, rounds=ROUNDS, iterations=calls)
