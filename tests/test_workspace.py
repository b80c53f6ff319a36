"""Scratch that convolutions need: little, whatever the shape. Plans are made, nothing is computed."""

import numpy as np
import pytest
from conftest import DTYPES

from bench.cases import conv_cases
from fastpool.layer import layer_for

#: Bytes for each thread.
LIMIT = 16 * 2**20

#: Large ones: shape of x, weight, options.
LARGE = [
    ((16, 64, 224, 224), (3, 64, 9, 9), {"padding": 4}),
    ((16, 64, 224, 224), (64, 64, 5, 5), {"padding": 2}),
    ((16, 64, 224, 224), (64, 64, 5, 5), {"padding": 2, "stride": 2}),
    ((16, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}),
    ((16, 64, 224, 224), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((16, 64, 224, 224), (64, 64, 3, 3), {"padding": 12, "dilation": 12}),
    ((16, 64, 224, 224), (64, 16, 3, 3), {"padding": 1, "groups": 4}),
    ((16, 64, 224, 224), (128, 1, 7, 7), {"padding": 3, "groups": 64}),
    ((16, 64, 224, 224), (64, 1, 9, 9), {"padding": 4, "groups": 64}),
    ((16, 64, 224, 224), (256, 64, 1, 1), {}),
    ((16, 64, 224, 224), (256, 64, 1, 1), {"stride": 2}),
    ((16, 3, 224, 224), (96, 3, 11, 11), {"stride": 4, "padding": 2}),
    ((1, 3, 4096, 4096), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 64, 1080, 1920), (64, 64, 3, 3), {"padding": 1}),
    ((1, 64, 2160, 3840), (3, 64, 5, 5), {"padding": 2}),
    ((1, 2048, 64, 64), (2048, 2048, 3, 3), {"padding": 1}),
    ((1, 4096, 7, 7), (4096, 4096, 7, 7), {}),
    ((16, 512, 14, 14), (512, 512, 3, 3), {"padding": 1}),
    ((16, 512, 28, 28), (512, 16, 3, 3), {"padding": 1, "groups": 32, "stride": 2}),
    ((1, 1, 2_000_000), (16, 1, 1024), {"stride": 256}),
    ((4, 512, 16_000), (512, 512, 9), {"dilation": 64}),
    ((2, 64, 16, 112, 112), (64, 64, 3, 3, 3), {"padding": 1}),
    ((2, 3, 32, 224, 224), (64, 3, 5, 7, 7), {"stride": (1, 2, 2), "padding": (2, 3, 3)}),
    ((1, 256, 32, 64, 64), (256, 256, 3, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 32, 64, 128, 128), (32, 1, 3, 3, 3), {"padding": 1, "groups": 32}),
]


#: The layers of real networks.
NETWORKS = [
    (
        case.input_shape,
        (case.out_c, case.c // case.groups, case.kh, case.kw),
        {"stride": case.stride, "padding": case.pad, "dilation": case.dilation, "groups": case.groups},
    )
    for case in conv_cases()
]


def plan(shape, weight_shape, options, dtype, algorithm):
    """Plan for a contiguous x; neither it nor the weight is ever read, so neither has memory of its own."""
    zero = np.zeros((), dtype)
    steps = np.cumprod((zero.itemsize, *shape[:0:-1]))[::-1]
    x = np.lib.stride_tricks.as_strided(zero, shape, steps, writeable=False)
    assert x.flags.c_contiguous
    attributes = ({"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options).values()
    weight = np.broadcast_to(zero, weight_shape)
    return layer_for(weight, len(shape) - 2, *attributes, "zeros", None, algorithm, True).bind(x, False).plan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd"])
@pytest.mark.parametrize("cases", [NETWORKS, LARGE], ids=["networks", "large"])
def test_scratch_of_a_thread(cases, algorithm, dtype):
    for case in cases:
        made = plan(*case, dtype, algorithm)
        for threads in (1, 2, 8):
            needed = made.workspace(threads)
            assert needed <= threads * LIMIT, f"{case} needs {needed / 2**20:.1f} MiB with {threads} threads"
