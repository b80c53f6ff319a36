"""Algorithms of a convolution agree, whatever it is like."""

import numpy as np
from conftest import DTYPES, assert_close, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import examples

import fastpool
from fastpool import oracle


@settings(deadline=None, max_examples=examples(60))
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["auto", "direct", "winograd"]),
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(3, 12), st.integers(3, 30)),
    st.integers(1, 40),
    st.sampled_from([3, 5]),
    st.integers(1, 2),
    st.tuples(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    st.booleans(),
    st.sampled_from(DTYPES),
)
def test_algorithms_agree(seed, algorithm, shape, out_channels, taps, stride, padding, depthwise, dtype):
    """Numbers above zero, so that nothing cancels."""
    x = np.abs(noise(seed, shape, dtype)) + dtype(0.5)
    channels = 1 if depthwise else shape[1]
    weight = np.abs(noise(seed + 1, (shape[1] if depthwise else out_channels, channels, taps, taps), dtype))
    options = {"stride": stride, "padding": padding, "groups": shape[1] if depthwise else 1}
    expected = oracle.conv2d(x, weight, **options)
    assert_close(fastpool.conv2d(x, weight, **options, algorithm=algorithm), expected)
    assert_close(fastpool.Conv2d(weight, **options, algorithm=algorithm)(x), expected)
