"""asv: Torch7 subsampling, ours against NumPy."""

from __future__ import annotations

from bench.cases import pool_cases
from bench.suite import MemorySuite, PeakSuite, RateSuite, RatioSuite, Suite, parameters

_PARAMETERS = parameters(case for case in pool_cases() if case.family == "subsampling")
_ALL_THREADS = parameters((case for case in pool_cases() if case.family == "subsampling"), ["all"])


class Subsampling(Suite):
    """`subsample2d`, into the same output."""

    params, skip_params = _PARAMETERS

    def time_ours(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class SubsamplingNumPy(Suite):
    """The fastest NumPy way: reductions of reshaped or windowed views, or of strided slices."""

    params, skip_params = _ALL_THREADS
    engine = "numpy"

    def time_numpy(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class SubsamplingRatio(RatioSuite):
    """How many times faster than NumPy."""

    params, skip_params = _ALL_THREADS

    def track_ratio(self, case: str, dtype: str, threads: str) -> float:
        """Measure both in turns."""
        return self.ratio()


class SubsamplingRate(RateSuite):
    """How much is computed and moved in a second."""

    params, skip_params = _ALL_THREADS


class SubsamplingPeak(PeakSuite):
    """How much of what the machine can do that is."""

    params, skip_params = _ALL_THREADS


class SubsamplingMemory(MemorySuite):
    """The most memory that a process needs."""

    params, skip_params = _ALL_THREADS
