"""What this machine can do at best, measured with the vectors and the launch of the other kernels."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

#: Bytes of each of two arrays that are larger than any cache, together.
MEMORY_BYTES = 96 << 20
#: Bytes of each of two arrays of every thread that stay in its second-level cache.
CACHE_BYTES = 128 << 10
_APART = 2112
#: Seconds of one sample; of several the best is the limit. Four kinds in turns take a second: all of 8 samples once
#: fell into a moment in which one of two processors was away, and half of the arithmetic was taken for the limit.
SAMPLE = 4e-3
SAMPLES = 64


@dataclass(frozen=True)
class Limits:
    """Rates per second of so many threads."""

    threads: int
    flops: float  #: two for each fused multiply-add, or one multiplication and one addition where there is none
    read: float  #: bytes read from memory
    copy: float  #: bytes read and written, from memory to memory
    cached_copy: float  #: the same in the second-level caches

    @property
    def ridge(self) -> float:
        """Operations per byte from which on the multiply-adds are the limit and not the memory."""
        return self.flops / self.copy

    def attainable(self, flops: float, byte_count: float) -> float:
        """Seconds that work of so many operations and bytes takes at least, if all comes from memory."""
        return max(flops / self.flops, byte_count / self.copy)


class Meter:
    """Measures the limits; holds arrays and plans, so that it can be asked again between other measurements."""

    def __init__(self, dtype: str, threads: int) -> None:
        from fastpool.dtypes import ELEMENT_TYPES
        from fastpool.plans.plan import Code, Plan, Step
        from fastpool.routines.table import KERNELS

        self.threads = threads
        element = ELEMENT_TYPES[np.dtype(dtype)]
        # The second one lies apart by other than pages: a load from behind a store would wait for it.
        space = [np.full((MEMORY_BYTES + _APART) // element.size, 0.5, dtype) for _ in range(2)]
        self._arrays = space[0], space[1][_APART // element.size :]

        def plan(name: str, count: int, elements: int) -> Any:
            """Plan of one task for each thread."""
            routine, shapes = KERNELS[name]
            fields = {"count": count, "elements": elements, "tasks": threads}
            return Plan((Step(Code(routine, element, shapes[0]), fields),), 0, 0, element, float("inf"))

        (_, _, self._accumulators) = KERNELS["peak"][1][0]
        self._lanes = _lanes(element)
        unit = self._accumulators * self._lanes
        in_memory = MEMORY_BYTES // element.size // threads // unit * unit
        in_cache = CACHE_BYTES // element.size // unit * unit
        self._size = element.size
        self._work: dict[str, tuple[Callable[[int], Any], int]] = {
            "flops": (lambda count: plan("peak", count, 0), 2 * unit * threads),
            "read": (lambda count: plan("stream_read", count, in_memory), in_memory * threads * self._size),
            "copy": (lambda count: plan("stream_copy", count, in_memory), 2 * in_memory * threads * self._size),
            "cached_copy": (lambda count: plan("stream_copy", count, in_cache), 2 * in_cache * threads * self._size),
        }
        self._plans: dict[str, tuple[Any, float]] = {}

    def rate(self, kind: str) -> float:
        """Measure once, for about `SAMPLE` seconds: operations or bytes per second."""
        if kind not in self._plans:
            self._plans[kind] = self._sized(kind)
        plan, work = self._plans[kind]
        return work / self._seconds(plan)

    def limits(self) -> Limits:
        """Measure every limit: the best of samples in turns, as what takes a core for a while meets one of each."""
        samples = [{kind: self.rate(kind) for kind in self._work} for _ in range(SAMPLES)]
        return Limits(self.threads, **{kind: max(sample[kind] for sample in samples) for kind in self._work})

    def _sized(self, kind: str) -> tuple[Any, float]:
        """Plan that takes about `SAMPLE` seconds, and its work."""
        make, unit = self._work[kind]
        count = 1
        while True:
            plan = make(count)
            # The first run compiles, and any one may be interrupted for longer than it takes.
            seconds = min(self._seconds(plan) for _ in range(5))
            if seconds >= SAMPLE / 2 or count > 1 << 30:
                return plan, unit * float(count)
            count = max(2 * count, int(count * min(SAMPLE / seconds, 1000.0)))

    def _seconds(self, plan: Any) -> float:
        """Time of one run."""
        import fastpool

        x, out = (array.ctypes.data for array in self._arrays)
        with fastpool.threads(self.threads):
            start = perf_counter()
            plan.run(x, weights=x, bias=x, out=out)
            return perf_counter() - start


def _lanes(element: Any) -> int:
    from fastpool.routines.routine import lanes

    return lanes(element)


def median_rate(meter: Meter, kind: str, samples: int = 3) -> float:
    """Return the median of a few samples: what the machine gives at this moment."""
    return statistics.median(meter.rate(kind) for _ in range(samples))
