"""asv: convolutions of well-known networks, ours against im2col and a matrix product."""

from __future__ import annotations

from bench.cases import conv_cases
from bench.suite import RatioSuite, Suite, parameters

_PARAMETERS = parameters(conv_cases())


class Convolution(Suite):
    """A prepared `Conv2d`, weights packed, into the same output."""

    params, skip_params = _PARAMETERS

    def time_ours(self, case: str, dtype: str) -> None:
        """Call it."""
        self.run()


class ConvolutionFunctional(Suite):
    """`conv2d`, which packs the weights in every call."""

    params, skip_params = _PARAMETERS
    engine = "fastpool-functional"

    def time_functional(self, case: str, dtype: str) -> None:
        """Call it."""
        self.run()


class ConvolutionNumPy(Suite):
    """The fastest NumPy way: im2col and `matmul`, or a plain `matmul`, or taps."""

    params, skip_params = _PARAMETERS
    engine = "numpy"

    def time_im2col(self, case: str, dtype: str) -> None:
        """Call it."""
        self.run()


class ConvolutionRatio(RatioSuite):
    """How many times faster than NumPy."""

    params, skip_params = _PARAMETERS

    def track_ratio(self, case: str, dtype: str) -> float:
        """Measure both in turns."""
        return self.ratio()
