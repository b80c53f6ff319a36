"""How a time is taken: in blocks that warm up uncounted, in turns, as medians.

Thread pools spin for tens of milliseconds after their last task and then slow down whoever runs next, and clock rates
and caches need a moment as well. A block therefore runs its engine uncounted for `warm` seconds before it counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

Runner = TypeVar("Runner", bound=Callable[[], Any])

WARM = 0.08  # seconds uncounted: outlasts the spinning of OpenBLAS (about 25 ms) and of OpenMP pools
SPAN = 0.04  # seconds counted
SAMPLE = 50e-6  # shortest sample: below it the clock itself (50 to 100 ns a reading) would show


def measure_call(run: Callable[[], Any], warm: float = WARM, span: float = SPAN) -> float:
    """Return the median time of one call, in seconds, after warming up."""
    start = perf_counter()
    calls = 0
    while calls == 0 or perf_counter() < start + warm:
        run()
        calls += 1
    estimate = (perf_counter() - start) / calls
    batch = max(1, math.ceil(SAMPLE / estimate))
    samples: list[float] = []
    end = perf_counter() + span
    while not samples or perf_counter() < end:
        begin = perf_counter()
        for _ in range(batch):
            run()
        samples.append((perf_counter() - begin) / batch)
    return statistics.median(samples)


def measure_in_turns(
    blocks: Mapping[str, Callable[[], float]], rounds: int, disturbed: Callable[[], bool] = lambda: False
) -> dict[str, list[float]]:
    """Run every block once in each round (A B A B ...), and return each block's times, one for a round.

    `disturbed` is asked after each round; one for which it says yes is not counted and repeated.
    """
    times: dict[str, list[float]] = {name: [] for name in blocks}
    counted = 0
    while counted < rounds:
        seconds = {name: block() for name, block in blocks.items()}
        if not disturbed():
            counted += 1
            for name, value in seconds.items():
                times[name].append(value)
    return times


def fastest(ways: Mapping[str, Callable[[], Runner]], budget: float = 0.05) -> tuple[str, Runner]:
    """Prepare each way, call it for about `budget` seconds, and return the name of the fastest and that way itself."""
    best_time, best_name = math.inf, ""
    for name, prepare in ways.items():
        run = prepare()
        run()
        quickest = math.inf
        end = perf_counter() + budget
        while quickest == math.inf or (perf_counter() < end and quickest < 4 * best_time):
            start = perf_counter()
            run()
            quickest = min(quickest, perf_counter() - start)
        if quickest < best_time:
            best_time, best_name = quickest, name
    return best_name, ways[best_name]()


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios of each round: drifts that last longer than a round cancel."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))
