"""THE table of the comparison: every way to make a picture `factor` times smaller, and what it costs on paper.

A new way is one row of `WAYS`; the measurement, the table, the JSON, the contact sheet and the tests iterate it.

The kernels are chosen so that each result is a sensible picture. The convolutions mix channels, as a network's do, and
so cost what a full filter costs; but their weights are a smoothing filter on the channel diagonal and zero elsewhere,
and their borders are replicated. Subsampling has weight 1/(factor * factor) and bias 0, which makes it the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

import fastpool as fp
from fastpool.cli import baselines

Array = NDArray[np.float32]
Operation = Callable[[Array], Array]

CACHE_LINE = 16
"""float32 numbers in a cache line of 64 bytes: memory moves in these."""


@dataclass(frozen=True)
class Problem:
    """What every way has to solve: an input of this shape, `factor` times smaller along height and width."""

    shape: tuple[int, int, int, int]
    factor: int

    @property
    def channels(self) -> int:
        """Of the input, and of every output."""
        return self.shape[1]

    @property
    def inputs(self) -> int:
        """Elements of the input."""
        n, c, h, w = self.shape
        return n * c * h * w

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of every output."""
        n, c, h, w = self.shape
        return (n, c, h // self.factor, w // self.factor)

    @property
    def outputs(self) -> int:
        """Elements of every output."""
        n, c, h, w = self.out_shape
        return n * c * h * w


@dataclass(frozen=True)
class Pass:
    """One sweep over memory, in elements that it must read or write at least once, and its multiply-adds."""

    reads: int
    weights: int
    writes: int
    multiply_adds: int


@dataclass(frozen=True)
class Way:
    """One way to downsample. `prepare` and `prepare_baseline` build what is then called, and timed, many times."""

    name: str
    idea: str
    """One line; {f} stands for the factor, {k} for the side of the strided convolution's filter, {b} for the blur's."""
    baseline: str
    """What NumPy does for the same result."""
    prepare: Callable[[Problem], Operation]
    prepare_baseline: Callable[[Problem], Operation]
    parameters: Callable[[Problem], int]
    passes: Callable[[Problem], tuple[Pass, ...]]
    taps: Callable[[Problem], int]
    """How many numbers are summed for one output: what bounds its rounding error."""

    def explain(self, problem: Problem) -> str:
        """Return the idea in one line, with the numbers of this problem."""
        return self.idea.format(
            f=problem.factor, k=strided_filter_size(problem.factor), b=blur_filter_size(problem.factor)
        )

    def multiply_adds(self, problem: Problem) -> int:
        """One for every tap that is summed, over all passes; comparisons do not count."""
        return sum(p.multiply_adds for p in self.passes(problem))

    def bytes_moved(self, problem: Problem) -> int:
        """Compulsory traffic in float32: what every pass must read and write at least once."""
        return 4 * sum(p.reads + p.weights + p.writes for p in self.passes(problem))


def tent(size: int) -> Array:
    """Return the smoothing filter (size, size) that rises and falls linearly: 1-2-1 for 3, 1-2-3-2-1 for 5; sum 1.

    1-2-1 is the binomial filter. At 2 * factor - 1 taps the tent spans two output pixels whatever the factor is, and
    so smooths as much as the factor asks for; the binomial filter of that size would be too narrow.
    """
    middle = (size - 1) // 2
    row = middle + 1 - np.abs(np.arange(size) - middle)
    square = np.outer(row, row)
    normalised: Array = (square / square.sum()).astype(np.float32)
    return normalised


def smoothing_weight(channels: int, size: int) -> Array:
    """Return a full convolution weight (channels, channels, size, size): the tent on the diagonal, zero elsewhere."""
    weight = np.zeros((channels, channels, size, size), dtype=np.float32)
    weight[range(channels), range(channels)] = tent(size)
    return weight


def full_filter_parameters(channels: int, size: int) -> int:
    """Weights and biases of a convolution from `channels` to `channels` that mixes them all."""
    return channels * channels * size * size + channels


def strided_filter_size(factor: int) -> int:
    """Side of the strided convolution's filter: 3 for factor 2, reaching up to, not over, its neighbours' centres."""
    return 2 * factor - 1


def blur_filter_size(factor: int) -> int:
    """Side of the binomial filter: 4 for factor 2, as its inventor has it, up to the largest that there is."""
    return min(2 * factor, 7)


STOCHASTIC_SEED = 0
"""Of the draws, so that each call and the baseline draw the same."""

POOLED_FILTER_SIZE = 3
"""Side of the filter that comes before the max pooling, the usual one, whatever the factor."""


# How each way is run by fastpool.


def _slice(problem: Problem) -> Operation:
    # A window of one element has one maximum: the strided slice is the pooling with kernel 1.
    return lambda x: fp.max_pool2d(x, 1, problem.factor)


def _smoothing_conv(channels: int, size: int, stride: int) -> Operation:
    weight, bias = smoothing_weight(channels, size), np.zeros(channels, dtype=np.float32)
    return fp.Conv2d(weight, bias, stride=stride, padding=size // 2, padding_mode="replicate")


def _strided_conv(problem: Problem) -> Operation:
    return _smoothing_conv(problem.channels, strided_filter_size(problem.factor), problem.factor)


def _conv_then_max(problem: Problem) -> Operation:
    convolve = _smoothing_conv(problem.channels, POOLED_FILTER_SIZE, 1)
    return lambda x: fp.max_pool2d(convolve(x), problem.factor)


def _subsample_parameters(problem: Problem) -> tuple[Array, Array]:
    weight = np.full(problem.channels, 1 / problem.factor**2, dtype=np.float32)
    return weight, np.zeros(problem.channels, dtype=np.float32)


def _subsample(problem: Problem) -> Operation:
    weight, bias = _subsample_parameters(problem)
    return lambda x: fp.subsample2d(x, weight, bias, problem.factor)


def _norm(problem: Problem) -> Operation:
    # The norm of a block of equal pixels is `factor` times as large as they are.
    scale = np.float32(1 / problem.factor)

    def run(x: Array) -> Array:
        y: Array = fp.lp_pool2d(x, 2, problem.factor)
        y *= scale
        return y

    return run


def _blur(problem: Problem) -> Operation:
    size = blur_filter_size(problem.factor)
    return lambda x: fp.blur_pool2d(x, size, problem.factor)


def _stochastic(problem: Problem) -> Operation:
    return lambda x: fp.stochastic_pool2d(x, problem.factor, training=True, seed=STOCHASTIC_SEED)


# How each way is run by NumPy.


def _blur_baseline(problem: Problem) -> Operation:
    size = blur_filter_size(problem.factor)
    weights = np.array([comb(size - 1, k) / 2 ** (size - 1) for k in range(size)], dtype=np.float32)
    return lambda x: baselines.blur_pool(x, weights, problem.factor)


def _smoothing_conv_baseline(channels: int, size: int, stride: int) -> Operation:
    weight, bias = smoothing_weight(channels, size), np.zeros(channels, dtype=np.float32)
    return lambda x: baselines.conv2d_im2col(x, weight, bias, stride, size // 2)


def _strided_conv_baseline(problem: Problem) -> Operation:
    return _smoothing_conv_baseline(problem.channels, strided_filter_size(problem.factor), problem.factor)


def _conv_then_max_baseline(problem: Problem) -> Operation:
    convolve = _smoothing_conv_baseline(problem.channels, POOLED_FILTER_SIZE, 1)
    return lambda x: baselines.max_pool(convolve(x), problem.factor)


def _subsample_baseline(problem: Problem) -> Operation:
    weight, bias = _subsample_parameters(problem)
    return lambda x: baselines.subsample(x, weight, bias, problem.factor)


# What each way costs on paper.


def _slice_pass(problem: Problem) -> tuple[Pass, ...]:
    # Only one pixel in `factor` is used, but its whole cache line is moved; rows that are skipped are not.
    n, c, h, w = problem.out_shape
    lines_read = n * c * h * w * min(problem.factor, CACHE_LINE)
    return (Pass(lines_read, 0, problem.outputs, 0),)


def _strided_conv_pass(problem: Problem) -> tuple[Pass, ...]:
    size = strided_filter_size(problem.factor)
    weights = full_filter_parameters(problem.channels, size)
    return (Pass(problem.inputs, weights, problem.outputs, problem.outputs * problem.channels * size**2),)


def _conv_then_max_passes(problem: Problem) -> tuple[Pass, ...]:
    size, inputs = POOLED_FILTER_SIZE, problem.inputs
    weights = full_filter_parameters(problem.channels, size)
    convolution = Pass(inputs, weights, inputs, inputs * problem.channels * size**2)
    return (convolution, Pass(inputs, 0, problem.outputs, 0))


def _reading_pass(problem: Problem) -> tuple[Pass, ...]:
    return (Pass(problem.inputs, 0, problem.outputs, 0),)


def _blur_pass(problem: Problem) -> tuple[Pass, ...]:
    taps = blur_filter_size(problem.factor) ** 2
    return (Pass(problem.inputs, 0, problem.outputs, problem.outputs * taps),)


def _stochastic_pass(problem: Problem) -> tuple[Pass, ...]:
    return (Pass(problem.inputs + problem.outputs, 0, problem.outputs, 0),)


def _summing_pass(problem: Problem, weights: int) -> tuple[Pass, ...]:
    return (Pass(problem.inputs, weights, problem.outputs, problem.inputs),)


WAYS: tuple[Way, ...] = (
    Way(
        name="strided slice",
        idea="one pixel in {f} along each axis, the rest is dropped",
        baseline="slice and copy",
        prepare=_slice,
        prepare_baseline=lambda p: lambda x: baselines.strided_slice(x, p.factor),
        parameters=lambda p: 0,
        passes=_slice_pass,
        taps=lambda p: 1,
    ),
    Way(
        name="strided convolution",
        idea="learned {k} x {k} filter, computed only where it is kept",
        baseline="im2col + matmul",
        prepare=_strided_conv,
        prepare_baseline=_strided_conv_baseline,
        parameters=lambda p: full_filter_parameters(p.channels, strided_filter_size(p.factor)),
        passes=_strided_conv_pass,
        taps=lambda p: p.channels * strided_filter_size(p.factor) ** 2,
    ),
    Way(
        name="conv + max pooling",
        idea="learned 3 x 3 filter at every pixel, then largest of each {f} x {f}",
        baseline="im2col + matmul, slices",
        prepare=_conv_then_max,
        prepare_baseline=_conv_then_max_baseline,
        parameters=lambda p: full_filter_parameters(p.channels, POOLED_FILTER_SIZE),
        passes=_conv_then_max_passes,
        taps=lambda p: p.channels * POOLED_FILTER_SIZE**2,
    ),
    Way(
        name="Torch7 subsampling",
        idea="sum of each {f} x {f} block, times a learned gain, plus a learned bias",
        baseline="sum of slices",
        prepare=_subsample,
        prepare_baseline=_subsample_baseline,
        parameters=lambda p: 2 * p.channels,
        passes=lambda p: _summing_pass(p, 2 * p.channels),
        taps=lambda p: p.factor**2,
    ),
    Way(
        name="average pooling",
        idea="mean of each {f} x {f} block",
        baseline="mean of slices",
        prepare=lambda p: lambda x: fp.avg_pool2d(x, p.factor),
        prepare_baseline=lambda p: lambda x: baselines.avg_pool(x, p.factor),
        parameters=lambda p: 0,
        passes=lambda p: _summing_pass(p, 0),
        taps=lambda p: p.factor**2,
    ),
    Way(
        name="max pooling",
        idea="largest of each {f} x {f} block",
        baseline="maximum of slices",
        prepare=lambda p: lambda x: fp.max_pool2d(x, p.factor),
        prepare_baseline=lambda p: lambda x: baselines.max_pool(x, p.factor),
        parameters=lambda p: 0,
        passes=_reading_pass,
        taps=lambda p: 1,
    ),
    Way(
        name="min pooling",
        idea="smallest of each {f} x {f} block",
        baseline="minimum of slices",
        prepare=lambda p: lambda x: fp.min_pool2d(x, p.factor),
        prepare_baseline=lambda p: lambda x: baselines.min_pool(x, p.factor),
        parameters=lambda p: 0,
        passes=_reading_pass,
        taps=lambda p: 1,
    ),
    Way(
        name="median pooling",
        idea="middle value of each {f} x {f} block",
        baseline="np.median of blocks",
        prepare=lambda p: lambda x: fp.median_pool2d(x, p.factor),
        prepare_baseline=lambda p: lambda x: baselines.median_pool(x, p.factor),
        parameters=lambda p: 0,
        passes=_reading_pass,
        taps=lambda p: 2,
    ),
    Way(
        name="Lp pooling",
        idea="root of the mean square of each {f} x {f} block: p = 2",
        baseline="sum of squared slices",
        prepare=_norm,
        prepare_baseline=lambda p: lambda x: baselines.root_mean_square(x, p.factor),
        parameters=lambda p: 0,
        passes=lambda p: _summing_pass(p, 0),
        taps=lambda p: p.factor**2,
    ),
    Way(
        name="blur pooling",
        idea="fixed {b} x {b} binomial filter, computed only where it is kept",
        baseline="sums of shifted slices",
        prepare=_blur,
        prepare_baseline=_blur_baseline,
        parameters=lambda p: 0,
        passes=_blur_pass,
        taps=lambda p: blur_filter_size(p.factor) ** 2,
    ),
    Way(
        name="stochastic pooling",
        idea="one of each {f} x {f} block, drawn with odds in proportion to it",
        baseline="running sums of blocks",
        prepare=_stochastic,
        prepare_baseline=lambda p: lambda x: baselines.stochastic_pool(x, p.factor, STOCHASTIC_SEED),
        parameters=lambda p: 0,
        passes=_stochastic_pass,
        taps=lambda p: 1,
    ),
)
