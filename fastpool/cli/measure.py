"""What is measured of every way: its result against the baseline, its times, its memory, its shift difference."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from statistics import median

import numpy as np

from fastpool.cli.errors import EXIT_WRONG_RESULT, CommandError
from fastpool.cli.ways import Array, Operation, Problem, Way

PAUSE = 0.06
"""Seconds of rest before each block: the threads of a BLAS or of OpenMP go on spinning for tens of milliseconds after
their work, and would be charged to whoever runs next."""

BLOCK = 0.02
"""Seconds of counted calls in each block, of which there are at least one and at most `MAX_CALLS`."""

MAX_CALLS = 1000

UNSTEADY = 2.0
"""How many times longer than the fastest round the median may take without a remark."""

BUDGET = 6.0
"""Seconds after which a way gets no further round, so that a very large picture still ends."""

PYTHON_OBJECTS = 16_384
"""Bytes below which extra memory is not the operation's, but the interpreter's: a call makes a few kB of them."""

TOLERANCE = 1e-5
"""Largest difference between a result and its baseline, relative to the baseline's largest value."""


@dataclass(frozen=True)
class Times:
    """Medians over the rounds, in seconds per call, the fastest round's too; of the ratios, each round's own."""

    ours: float
    baseline: float
    speedup: float
    ours_fastest: float
    baseline_fastest: float

    @property
    def unsteady(self) -> bool:
        """Whether the usual round took much longer than the fastest: other work is running on the machine."""
        return self.ours > UNSTEADY * self.ours_fastest or self.baseline > UNSTEADY * self.baseline_fastest


@dataclass(frozen=True)
class Measurement:
    """Everything that is known of one way on one picture."""

    way: Way
    problem: Problem
    output: Array
    times: Times
    extra_memory: int
    baseline_extra_memory: int
    shift_difference: float | None
    """None where the output is too small, or flat."""
    deviation: float
    """Largest difference from the baseline, relative to the baseline's largest value."""


def measure(way: Way, x: Array, factor: int, rounds: int) -> Measurement:
    """Run one way and its baseline on `x`, compare the results, and measure both."""
    n, c, h, w = x.shape
    problem = Problem((n, c, h, w), factor)
    ours, baseline = way.prepare(problem), way.prepare_baseline(problem)
    output = ours(x)  # compiles
    deviation = require_equal(way, problem, output, baseline(x))
    return Measurement(
        way=way,
        problem=problem,
        output=output,
        times=time_in_turns(ours, baseline, x, rounds),
        extra_memory=extra_memory(ours, x),
        baseline_extra_memory=extra_memory(baseline, x),
        shift_difference=shift_difference(ours, x, output),
        deviation=deviation,
    )


def require_equal(way: Way, problem: Problem, output: Array, expected: Array) -> float:
    """Return the largest difference relative to the largest expected value; beyond the tolerance, fail.

    Adding n float32 numbers one after the other is off by up to n * eps / 2 of their sum, so two orders of adding
    them may differ by n * eps; from about 80 taps on, that is more than the plain tolerance.
    """
    if output.shape != problem.out_shape or output.shape != expected.shape:
        raise CommandError(
            f"{way.name}: output of shape {output.shape}, {way.baseline} gives {expected.shape}", EXIT_WRONG_RESULT
        )
    allowed = max(TOLERANCE, way.taps(problem) * float(np.finfo(np.float32).eps))
    largest = float(np.abs(expected).max())
    deviation = float(np.abs(output - expected).max()) / (largest or 1.0)
    if not deviation <= allowed:  # so that NaN fails too
        raise CommandError(
            f"{way.name}: the result differs from {way.baseline} by {deviation:.2g} of the largest value, "
            f"allowed are {allowed:.2g}: a defect of fastpool, please report it",
            EXIT_WRONG_RESULT,
        )
    return deviation


def time_in_turns(ours: Operation, baseline: Operation, x: Array, rounds: int) -> Times:
    """Time both sides in turns, a block of calls each, so that a change of the machine's speed meets both."""
    ours_medians, baseline_medians = [], []
    start = time.perf_counter()
    for _ in range(rounds):
        ours_medians.append(_block(ours, x))
        baseline_medians.append(_block(baseline, x))
        if time.perf_counter() - start > BUDGET:
            break
    ratios = [b / a for a, b in zip(ours_medians, baseline_medians, strict=True)]
    return Times(
        ours=median(ours_medians),
        baseline=median(baseline_medians),
        speedup=median(ratios),
        ours_fastest=min(ours_medians),
        baseline_fastest=min(baseline_medians),
    )


def _block(operation: Operation, x: Array) -> float:
    """Median seconds of one call, after a rest and an uncounted call that wakes threads and fills caches."""
    time.sleep(PAUSE)
    operation(x)
    seconds: list[float] = []
    end = time.perf_counter() + BLOCK
    while len(seconds) < MAX_CALLS:
        before = time.perf_counter()
        operation(x)
        after = time.perf_counter()
        seconds.append(after - before)
        if after >= end:
            break
    return median(seconds)


def extra_memory(operation: Operation, x: Array) -> int:
    """Return the most bytes that a call holds at once, beside what was there before and the output.

    NumPy reports its arrays to tracemalloc, and all scratch of fastpool is such arrays. Less than `PYTHON_OBJECTS` is
    views, tuples and frames, which come with any call, and counts as nothing.
    """
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        y = operation(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    extra = peak - before - y.nbytes
    return extra if extra >= PYTHON_OBJECTS else 0


def shift_difference(operation: Operation, x: Array, y: Array) -> float | None:
    """How much the output changes when the picture moves by one pixel: 0 not at all, 1 by as much as its contrast.

    The picture is moved up, and in turn left, by one pixel, its last row or column repeated. The outermost output
    pixels are left out, since their windows see borders. Of what remains: the RMS of the change over both moves,
    divided by the RMS contrast of the unmoved output, its standard deviation about each channel's mean.

    A picture without any aliasing moves by 1/factor of an output pixel, and so changes too; what a way adds to that
    is detail that it renders differently according to where it falls on the grid.
    """
    inner = y[:, :, 1:-1, 1:-1].astype(np.float64)
    if inner.size == 0:
        return None
    contrast = np.sqrt(np.mean((inner - inner.mean(axis=(2, 3), keepdims=True)) ** 2))
    if contrast < 1e-6:  # flat: nothing but rounding
        return None
    up = np.concatenate((x[:, :, 1:], x[:, :, -1:]), axis=2)
    left = np.concatenate((x[:, :, :, 1:], x[:, :, :, -1:]), axis=3)
    changes = [operation(moved)[:, :, 1:-1, 1:-1] - inner for moved in (up, left)]
    return float(np.sqrt(np.mean(np.square(changes))) / contrast)
