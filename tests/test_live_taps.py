"""Taps that meet nothing but padding, whatever result they are for: left out beforehand, with their weights."""

from itertools import product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    INTEGER_DTYPES,
    assert_close,
    assert_same_bits,
    every_dtype,
    integers,
    needs_threads,
    noise,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import examples

import fastpool
from fastpool import oracle
from fastpool.geometry import Axis
from fastpool.plans.convolution import SomeTaps
from fastpool.plans.depthwise import PlainForm
from fastpool.plans.live_taps import _live, _with

#: x, out channels, groups, filter and options, with the places of the taps that find pixels.
LAYERS = {
    "3x3 on 1x1": ((5, 6, 1, 1), 40, 1, (3, 3), {"padding": 1}, (4,)),
    "3x3 on one 1x1": ((1, 50, 1, 1), 40, 1, (3, 3), {"padding": 1}, (4,)),
    "3x3 on rows": ((2, 6, 1, 7), 20, 2, (3, 3), {"padding": 1}, (3, 4, 5)),
    "3x3 on columns": ((1, 6, 7, 1), 20, 1, (3, 3), {"padding": 1}, (1, 4, 7)),
    "3x3 far dilated": ((1, 6, 9, 14), 20, 1, (3, 3), {"padding": 14, "dilation": 14}, (4,)),
    "3x3 dilated by a row": ((1, 32, 8, 2), 40, 2, (3, 3), {"padding": 2, "dilation": 2}, (1, 4, 7)),
    "3x3 at stride 2": ((3, 6, 2, 2), 20, 1, (3, 3), {"padding": 1, "stride": 2}, (4, 5, 7, 8)),
    "5x5 on 2x2": ((2, 6, 2, 2), 20, 1, (5, 5), {"padding": 2}, tuple(r * 5 + c for r in (1, 2, 3) for c in (1, 2, 3))),
    "7x2, uneven": ((2, 6, 2, 3), 20, 1, (7, 2), {"padding": ((6, 0), (0, 1))}, (10, 11, 12, 13)),
    "none finds a pixel": ((2, 3, 1, 1), 20, 1, (2, 2), {"padding": 3, "dilation": 5}, None),
}


@every_dtype
@pytest.mark.parametrize("name", LAYERS)
def test_against_the_oracle(name, dtype):
    """With all that a store does, prepared or not, on NaN and infinities, and where they are."""
    shape, out_channels, groups, kernel, options, places = LAYERS[name]
    weight = noise(1, (out_channels, shape[1] // groups, *kernel), dtype)
    bias, x = noise(2, out_channels, dtype), noise(3, shape, dtype)
    x.reshape(-1)[1], x.reshape(-1)[-1] = np.nan, np.inf
    conv = fastpool.Conv2d(weight, bias, groups=groups, activation="relu", **options)
    wanted = oracle.conv2d(x, weight, bias, groups=groups, **options)
    residual = noise(4, wanted.shape, dtype)
    with np.errstate(invalid="ignore"):
        wanted, added = np.maximum(wanted, 0), np.maximum(wanted + residual, 0)
    assert_close(conv(x), wanted)
    assert_close(conv(x, residual=residual), added)
    assert_close(fastpool.conv2d(x, weight, bias, groups=groups, activation="relu", **options), wanted)
    form = conv._layer.bind(x, False).form
    if places is None:
        assert not isinstance(form, SomeTaps)
        return
    assert form.places == places
    explained = conv.explain(shape)
    assert (
        explained.multiply_adds_done * (1 - explained.waste)
        <= explained.multiply_adds * len(places) / weight[0, 0].size
    )
    assert explained.why.algorithm.endswith(
        f"; {len(places)} of {weight[0, 0].size} taps find pixels, the others padding alone"
    )


def test_every_small_axis():
    """The taps that stay find what all found, and the padding that stays is never negative."""
    found = set()
    for size, kernel, stride, dilation, begin, end in product(
        range(1, 5), range(1, 6), (1, 2, 3), (1, 2, 4), range(6), range(6)
    ):
        room = size + begin + end - dilation * (kernel - 1) - 1
        if room < 0:
            continue
        axis = Axis(size, kernel, stride, dilation, begin, end, room // stride + 1)
        live = _live(axis)
        fewer = _with(axis, live)
        assert min(fewer.pad_begin, fewer.pad_end) >= 0
        assert fewer.kernel == len(live) >= 1
        for o in range(axis.out):
            assert [tap - live.start for tap in axis.taps(o)] == list(fewer.taps(o))
            starts = [a.taps(o).start * a.dilation - a.pad_begin for a in (axis, fewer) if a.taps(o)]
            assert len(set(starts)) <= 1
        found.add(len(live) < kernel)
    assert found == {True, False}


def test_long_rows_are_not_gone_through():
    """A row of a thousand million windows is decided as fast as a short one, or this does not end."""
    length = 10**9
    assert _live(Axis(length, 3, 1, 1, 1, 1, length)) == range(3)
    assert _live(Axis(1, 3, 1, length, length, length, 1)) == range(1, 2)


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_properties(data):
    """Small maps, large filters: the same as the oracle."""
    draw = data.draw
    images, groups, channels, out_channels = (draw(st.integers(1, most)) for most in (3, 2, 20, 20))
    size, kernel = ([draw(st.integers(1, most)) for _ in range(2)] for most in (4, 6))
    dilation, stride, pads = draw(st.integers(1, 5)), draw(st.integers(1, 3)), []
    for n, k in zip(size, kernel, strict=True):
        begin = draw(st.integers(0, 12))
        pads.append((begin, draw(st.integers(max(0, dilation * (k - 1) + 1 - n - begin), 12 + dilation * k))))
    dtype = draw(st.sampled_from(DTYPES))
    x = noise(1, (images, channels * groups, *size), dtype)
    weight = noise(2, (out_channels * groups, channels, *kernel), dtype)
    options = {"padding": pads, "dilation": dilation, "stride": stride, "groups": groups}
    wanted = oracle.conv2d(x, weight, **options)
    assert_close(fastpool.Conv2d(weight, **options)(x), wanted)
    assert_close(fastpool.conv2d(x, weight, **options), wanted)


@pytest.mark.parametrize("dtype", INTEGER_DTYPES)
def test_integers(dtype):
    """Are always finite."""
    x, weight = abs(integers(1, (2, 5, 1, 6), dtype)), abs(integers(2, (9, 5, 3, 3), dtype))
    conv = fastpool.Conv2d(weight, padding=1)
    wanted = oracle.conv2d(x, weight, padding=1)
    assert_close(conv(x), wanted)
    assert_close(fastpool.conv2d(x, weight, padding=1), wanted)
    assert "3 of 9 taps" in conv.explain(x.shape).why.algorithm


@every_dtype
def test_other_ranks(dtype):
    """The same as on an x that has its zeros, which all taps find."""
    x, weight = noise(1, (2, 5, 2), dtype), noise(2, (20, 5, 7), dtype)
    conv = fastpool.Conv1d(weight, padding=3)
    assert_close(conv(x), fastpool.conv1d(np.pad(x, ((0, 0), (0, 0), (3, 3))), weight))
    assert conv._layer.bind(x, False).form.places == (2, 3, 4)
    x, weight = noise(1, (2, 5, 1, 6, 2), dtype), noise(2, (20, 5, 3, 3, 5), dtype)
    conv = fastpool.Conv3d(weight, padding=(1, 1, 2))
    assert_close(conv(x), fastpool.conv3d(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (2, 2))), weight))
    places = tuple(15 + 5 * row + column for row in range(3) for column in (1, 2, 3))
    assert conv._layer.bind(x, False).form.places == places


@every_dtype
@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (1, 1)])
def test_transposed(stride, padding, dtype):
    """Convolutions of which it is made, on a small map."""
    x, weight = noise(1, (2, 20, 1, 3), dtype), noise(2, (20, 30, 4, 4), dtype)
    added = np.zeros((2, 30, 4, 2 * stride + 4), dtype)
    for column in range(3):
        at = column * stride
        added[..., at : at + 4] += np.tensordot(x[:, :, 0, column], weight, 1)
    wanted = added[:, :, padding : 4 - padding, padding : added.shape[3] - padding]
    layer = fastpool.ConvTranspose2d(weight, stride=stride, padding=padding)
    assert "taps find pixels" in str(layer.explain(x.shape))
    for found in (layer(x), fastpool.conv_transpose2d(x, weight, stride=stride, padding=padding)):
        assert_close(found, np.ascontiguousarray(wanted))


def test_where_all_taps_stay():
    """Another padding than zeros, and weights that are not finite: a zero times infinity is not a number."""
    x, weight = noise(1, (6, 40, 1, 1), np.float32), noise(2, (20, 40, 3, 3), np.float32)
    for mode in ("replicate", "circular"):
        conv = fastpool.Conv2d(weight, padding=1, padding_mode=mode)
        assert not isinstance(conv._layer.bind(x, False).form, SomeTaps)
        assert_close(conv(x), oracle.conv2d(x, weight, padding=1, padding_mode=mode))
    weight[7, 30, 0, 2] = np.inf
    for conv in (fastpool.Conv2d(weight, padding=1), lambda x: fastpool.conv2d(x, weight, padding=1)):
        found = conv(x)
        assert_close(found, oracle.conv2d(x, weight, padding=1))
        assert np.isnan(found[:, 7]).all()


def test_depthwise_filters_are_read_as_they_are():
    x, weight = noise(1, (2, 20, 1, 1), np.float32), noise(2, (20, 1, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, padding=1, groups=20)
    assert_close(conv(x), oracle.conv2d(x, weight, padding=1, groups=20))
    assert isinstance(conv._layer.bind(x, False).form, PlainForm)


def test_one_filter_on_maps_of_all_sizes():
    """Each has the weights that it needs; those of few taps are few."""
    weight = noise(1, (40, 32, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, padding=1)
    for size in ((1, 1), (1, 9), (9, 1), (2, 2), (30, 30), (1, 1)):
        x = noise(2, (1, 32, *size), np.float32)
        assert_close(conv(x), oracle.conv2d(x, weight, padding=1))
    assert conv.explain((1, 32, 1, 1)).prepared_weight_bytes == weight.nbytes // 9


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@pytest.mark.parametrize("name", LAYERS)
def test_any_number_of_threads(name):
    """The same bits."""
    shape, out_channels, groups, kernel, options, _ = LAYERS[name]
    weight = noise(1, (out_channels, shape[1] // groups, *kernel), np.float32)
    assert_same_bits(fastpool.Conv2d(weight, groups=groups, **options), noise(2, shape, np.float32))
