"""The oracle against SciPy: correlations, and the filters of images."""

import numpy as np
import pytest
from test_oracle import BORDERS, INF, close, equal, noise

from fastpool import oracle


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (4, 1)])
def test_conv2d_agrees_with_scipy_correlate(kernel):
    """A convolution is the sum over channels of SciPy's correlations."""
    signal = pytest.importorskip("scipy.signal")
    x, weight = noise(22, 1, 3, 7, 9), noise(23, 2, 3, *kernel)
    for mode, padding in [("valid", 0), ("full", tuple(k - 1 for k in kernel))]:
        wanted = [sum(signal.correlate(x[0, c], w[c], mode, method="direct") for c in range(3)) for w in weight]
        close(oracle.conv2d(x, weight, padding=padding), np.array([wanted]))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 4), (8, 7)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (4, 6), (9, 3)])
def test_borders_and_pooling_agree_with_scipy_ndimage(kernel, size, stride):
    """A window around every pixel is a padding of kernel // 2 before and the rest after; strides are slices."""
    ndimage = pytest.importorskip("scipy.ndimage")
    x, weight = noise(24, *size), noise(25, *kernel)
    batch, weights, padding = x[None, None], weight[None, None], tuple((k // 2, k - 1 - k // 2) for k in kernel)

    def strided(filtered):
        return filtered[None, None, ::stride, ::stride]

    for mode, scipy_mode in [("zeros", "constant"), *((mode, theirs) for mode, (_, theirs) in BORDERS.items())]:
        wanted = strided(ndimage.correlate(x, weight, mode=scipy_mode))
        close(oracle.conv2d(batch, weights, None, stride, padding, padding_mode=mode), wanted)
    window = kernel, stride, padding
    equal(oracle.max_pool2d(batch, *window), strided(ndimage.maximum_filter(x, kernel, mode="constant", cval=-INF)))
    equal(oracle.min_pool2d(batch, *window), strided(ndimage.minimum_filter(x, kernel, mode="constant", cval=INF)))
    close(oracle.avg_pool2d(batch, *window), strided(ndimage.uniform_filter(x, kernel, mode="constant")))
