"""asv: max and average pooling of well-known networks, and large ones, ours against NumPy."""

from __future__ import annotations

from bench.cases import pool_cases
from bench.suite import MemorySuite, PeakSuite, RateSuite, RatioSuite, Suite, parameters

_PARAMETERS = parameters(case for case in pool_cases() if case.family == "pooling")
_ALL_THREADS = parameters((case for case in pool_cases() if case.family == "pooling"), ["all"])


class Pooling(Suite):
    """`max_pool2d` and `avg_pool2d`, into the same output."""

    params, skip_params = _PARAMETERS

    def time_ours(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class PoolingNumPy(Suite):
    """The fastest NumPy way: reductions of reshaped or windowed views, or of strided slices."""

    params, skip_params = _ALL_THREADS
    engine = "numpy"

    def time_numpy(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class PoolingRatio(RatioSuite):
    """How many times faster than NumPy."""

    params, skip_params = _ALL_THREADS

    def track_ratio(self, case: str, dtype: str, threads: str) -> float:
        """Measure both in turns."""
        return self.ratio()


class PoolingRate(RateSuite):
    """How much is computed and moved in a second."""

    params, skip_params = _ALL_THREADS


class PoolingPeak(PeakSuite):
    """How much of what the machine can do that is."""

    params, skip_params = _ALL_THREADS


class PoolingMemory(MemorySuite):
    """The most memory that a process needs."""

    params, skip_params = _ALL_THREADS
