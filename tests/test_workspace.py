"""Scratch that convolutions need: little, whatever the shape. Plans are made, nothing is computed."""

from math import prod

import numpy as np
import pytest
from conftest import DTYPES
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sweeps import sweep

from bench.cases import conv_cases
from fastpool.geometry import DATA_PADDING_MODES
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
    # Long rows, and taps far apart.
    ((4, 64, 100_000), (64, 64, 3), {"padding": 1}),
    ((4, 64, 100_000), (64, 64, 3), {"padding": 1, "stride": 2}),
    ((1, 2048, 64, 64), (256, 2048, 3, 3), {"padding": 18, "dilation": 18}),
    ((1, 2048, 64, 64), (256, 2048, 3, 3), {"padding": 18, "dilation": 18, "stride": 2}),
    ((1, 2048, 300, 300), (64, 2048, 3, 3), {"padding": 1}),
    ((1, 2048, 300, 300), (64, 2048, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 2048, 300, 300), (64, 2048, 3, 3), {"padding": 40, "dilation": 40}),
    ((2, 512, 64, 64, 64), (64, 512, 3, 3, 3), {"padding": 9, "dilation": 9}),
    ((1, 16, 4, 1_000_000), (16, 16, 3, 3), {"padding": 1}),
    ((1, 16, 1_000_000, 4), (16, 16, 3, 3), {"padding": 1}),
    # Filters of which a tile's row of all channels, of one channel, or even of some taps of one, is too much.
    ((1, 4096, 40, 40), (8, 4096, 9, 9), {"padding": 4}),
    ((1, 64, 300_000), (4, 64, 100_000), {"padding": 1}),
    ((1, 3, 1_000_000), (4, 3, 1000), {"padding": 10**6, "dilation": 2000}),
    ((1, 3, 1100, 1100), (1, 3, 1000, 1000), {"padding": 200}),
    ((1, 3, 50, 5), (1, 3, 2, 2), {"padding": ((0, 10**8), (0, 10**8)), "dilation": 10**8}),
    ((1, 70_000, 6, 6), (4, 70_000, 5, 5), {"padding": 2, "stride": 2}),
    ((1, 400_000, 6, 6), (4, 400_000, 3, 3), {"padding": 1}),
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


def plan(shape, weight_shape, options, dtype, algorithm, mode="zeros", prepared=True):
    """Plan for a contiguous x; neither it nor the weight is ever read, so neither has memory of its own."""
    zero = np.zeros((), dtype)
    steps = np.cumprod((zero.itemsize, *shape[:0:-1]))[::-1]
    x = np.lib.stride_tricks.as_strided(zero, shape, steps, writeable=False)
    assert x.flags.c_contiguous
    attributes = ({"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options).values()
    weight = np.broadcast_to(zero, weight_shape)
    layer = layer_for(weight, len(shape) - 2, *attributes, mode, None, algorithm, prepared, True)
    return (layer.over(x) if layer.of_integers else layer).bind(x, False).plan


def assert_within_the_limit(made, case):
    """Require it for any number of threads."""
    for threads in (1, 2, 8):
        needed = made.workspace(threads)
        assert needed <= threads * LIMIT, f"{case} needs {needed / 2**20:.1f} MiB with {threads} threads"


@pytest.mark.parametrize("dtype", [*DTYPES, np.int8, np.int16])
@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd"])
@pytest.mark.parametrize("cases", [NETWORKS, LARGE], ids=["networks", "large"])
@sweep
def test_scratch_of_a_thread(cases, algorithm, dtype):
    if algorithm == "winograd" and dtype not in DTYPES:
        algorithm = "direct"
    for case in cases:
        assert_within_the_limit(plan(*case, dtype, algorithm), case)


@st.composite
def extremes(draw):
    """Shapes of x and weight, and options, each size of which may be very large."""
    axes = draw(st.integers(1, 3))
    long = draw(st.integers(0, axes - 1))
    most = [10**6 if axis == long else 300 for axis in range(axes)]
    sizes = [draw(st.one_of(st.integers(1, 20), st.integers(1, size))) for size in most]
    kernel = [draw(st.one_of(st.integers(1, 7), st.integers(1, 60), st.integers(1, size))) for size in most]
    assume(prod(kernel) <= 20_000)
    stride = tuple(draw(st.one_of(st.integers(1, 4), st.integers(1, 1000))) for _ in range(axes))
    dilation = tuple(
        draw(st.one_of(st.integers(1, 3), st.integers(1, 100), st.integers(1, 10**5))) for _ in range(axes)
    )
    pads = []
    for size, k, d in zip(sizes, kernel, dilation, strict=True):
        missing = max(0, d * (k - 1) + 1 - size)
        assume(missing < 2**30)
        begin = draw(st.integers(0, missing))
        more = draw(st.sampled_from([0, 0, 1, 20, 10**4]))
        pads.append((begin + more, missing - begin + more))
    groups = draw(st.sampled_from([1, 1, 1, 2, 32]))
    group_in = draw(st.one_of(st.integers(1, 64), st.integers(1, 4096)))
    group_out = draw(st.one_of(st.integers(1, 64), st.integers(1, 4096)))
    images = draw(st.sampled_from([1, 1, 2, 64]))
    shape, weight_shape = (images, groups * group_in, *sizes), (groups * group_out, group_in, *kernel)
    return shape, weight_shape, {"stride": stride, "padding": tuple(pads), "dilation": dilation, "groups": groups}


@settings(deadline=None, max_examples=120)
@given(
    extremes(),
    st.sampled_from([*DTYPES, np.int8, np.int64]),
    st.sampled_from(["auto", "direct", "winograd"]),
    st.sampled_from(["zeros", "zeros", *DATA_PADDING_MODES]),
    st.booleans(),
)
def test_scratch_of_any_shape(case, dtype, algorithm, mode, prepared):
    if dtype not in DTYPES and algorithm == "winograd":
        algorithm = "auto"
    if sum(map(sum, case[2]["padding"])) > 10**5:  # a table of each element of the padding takes long
        mode = "zeros"
    try:
        made = plan(*case, dtype, algorithm, mode, prepared)
    except ValueError as refused:  # results or paddings larger than any array
        assert "must not" in str(refused)  # noqa: PT017 - a call would refuse it as well
    else:
        assert_within_the_limit(made, case)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4096), st.integers(3, 10**5), st.integers(3, 10**5)),
    st.integers(1, 4096),
    st.sampled_from([3, 5]),
    st.integers(1, 2),
    st.sampled_from(DTYPES),
)
def test_scratch_of_winograd(shape, out_channels, kernel, stride, dtype):
    case = shape, (out_channels, shape[1], kernel, kernel), {"stride": stride, "padding": 1}
    try:
        made = plan(*case, dtype, "winograd")
    except ValueError as refused:
        assert "must not" in str(refused)  # noqa: PT017 - a call would refuse it as well
    else:
        assert_within_the_limit(made, case)
