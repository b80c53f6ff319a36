"""asv: convolutions of well-known networks, ours against im2col and a matrix product."""

from __future__ import annotations

from bench.cases import conv_cases
from bench.suite import MemorySuite, PeakSuite, RateSuite, RatioSuite, Suite, parameters

_PARAMETERS = parameters(conv_cases())
_ALL_THREADS = parameters(conv_cases(), ["all"])


class Convolution(Suite):
    """A prepared `Conv2d`, weights packed, into the same output."""

    params, skip_params = _PARAMETERS

    def time_ours(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class ConvolutionFunctional(Suite):
    """`conv2d`, which packs the weights in every call."""

    params, skip_params = _PARAMETERS
    engine = "fastpool-functional"

    def time_functional(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class ConvolutionNumPy(Suite):
    """The fastest NumPy way: im2col and `matmul`, or a plain `matmul`, or taps."""

    params, skip_params = _ALL_THREADS
    engine = "numpy"

    def time_im2col(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class ConvolutionIm2colView(Suite):
    """im2col by a strided view of the whole batch and one copy, then `matmul`."""

    params, skip_params = _ALL_THREADS
    engine = "im2col-view"

    def time_im2col_view(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class ConvolutionIm2colGather(Suite):
    """im2col through a table of indices, then `matmul`."""

    params, skip_params = _ALL_THREADS
    engine = "im2col-gather"

    def time_im2col_gather(self, case: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class ConvolutionRatio(RatioSuite):
    """How many times faster than NumPy."""

    params, skip_params = _ALL_THREADS

    def track_ratio(self, case: str, dtype: str, threads: str) -> float:
        """Measure both in turns."""
        return self.ratio()


class ConvolutionRate(RateSuite):
    """How much is computed and moved in a second."""

    params, skip_params = _ALL_THREADS


class ConvolutionPeak(PeakSuite):
    """How much of what the machine can do that is."""

    params, skip_params = _ALL_THREADS


class ConvolutionMemory(MemorySuite):
    """The most memory that a process needs."""

    params, skip_params = _ALL_THREADS
