"""Block reduction against the oracle: every rank, ragged edge, reduction and layout."""

import itertools

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS, assert_close, draw, integers, native, noise, with_ties_and_nan
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import examples, sweep

import fastpool
from fastpool import oracle_extras
from fastpool.blocks import REDUCTIONS

every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
#: Medians have code of their own for each size of a block and each dtype: one tells of the others.
OF_DTYPES = [(reduction, dtype) for reduction in REDUCTIONS for dtype in DTYPES[: 1 if reduction == "median" else None]]


def check(x, block, reduction):
    """Require the result to equal the oracle's, as a new contiguous array."""
    result = fastpool.block_reduce(x, block, reduction)
    scale = 0.0
    if reduction in ("mean", "sum"):  # of few blocks, all may nearly cancel; their terms are rounded all the same
        sizes = oracle_extras.block_reduce(np.abs(native(x)), block, reduction)
        scale = float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))
    assert_close(result, oracle_extras.block_reduce(native(x), block, reduction), scale)
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, x)
    return result


@pytest.mark.parametrize(("reduction", "dtype"), OF_DTYPES)
@pytest.mark.parametrize("rank", range(1, 7))
@sweep
def test_every_rank(rank, reduction, dtype):
    """Blocks of all axes, and of each choice of them, dividing the array or not, and larger than it."""
    shape = (5, 3, 4, 2, 3, 2)[:rank]
    for make in (integers, with_ties_and_nan):
        x = make(rank, shape, dtype)
        for block in (1, 2, 3, 7) if rank < 4 else (1, 2):
            check(x, block, reduction)
        for block in itertools.islice(itertools.product((1, 2), repeat=rank), 0, None, 3):
            check(x, block, reduction)


@every_reduction
def test_ragged_edges(reduction):
    """Every remainder of two blocks; all elements below zero, which a zero would beat."""
    for height, width, block in itertools.product(range(1, 8), range(1, 10), [2, 3, (3, 2), (1, 4), (9, 1)]):
        check(integers(height, (height, width), np.float32) - 20, block, reduction)


def test_by_hand():
    x = -np.arange(1.0, 16.0).reshape(3, 5)
    wanted = {
        "max": [[-1, -3, -5], [-11, -13, -15]],
        "min": [[-7, -9, -10], [-12, -14, -15]],
        "sum": [[-16, -24, -15], [-23, -27, -15]],
        "mean": [[-4, -6, -7.5], [-11.5, -13.5, -15]],
        "median": [[-4, -6, -7.5], [-11.5, -13.5, -15]],
    }
    for reduction, expected in wanted.items():
        np.testing.assert_array_equal(fastpool.block_reduce(x, 2, reduction), expected)
    np.testing.assert_array_equal(fastpool.block_reduce(x, 2), wanted["max"])


@every_reduction
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, reduction):
    x = with_ties_and_nan(1, (3, 4, 5, 6), np.float32)
    for block in (2, (2, 1, 3, 1), (1, 2, 1, 1)):
        check(LAYOUTS[layout](x), block, reduction)


@pytest.mark.parametrize(
    ("dtype", "reduction"),
    [
        pair
        for pair in itertools.product(["i1", "u1", "i4", "u8", "i8", "?"], REDUCTIONS)
        if pair[1] != "median" or pair[0] == "u8"
    ],
)
@sweep
def test_integers(dtype, reduction):
    """By NumPy's rules: means and medians are float64, sums 64 bits wide, extrema keep the dtype."""
    x = integers(2, (4, 5, 6), np.int8).astype(bool) if dtype == "?" else draw(2, (4, 5, 6), np.dtype(dtype).type)
    result = check(x, 2, reduction)
    wide = np.dtype("u8" if dtype[0] == "u" else "i8")
    assert result.dtype == {"max": x.dtype, "min": x.dtype, "sum": wide}.get(reduction, np.dtype(float))
    check(np.broadcast_to(x[:, None, :, None], (4, 3, 5, 2, 6)), 2, reduction)


@pytest.mark.parametrize("reduction", ["max", "min", "sum", "mean"])
def test_half_precision(reduction):
    x = noise(3, (9, 10), np.float16)
    result = fastpool.block_reduce(x, 4, reduction)
    wanted = fastpool.block_reduce(x.astype(np.float32), 4, reduction).astype(np.float16)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, wanted)


@every_reduction
def test_large_arrays(reduction):
    check(noise(3, (301, 403), np.float64), (2, 3), reduction)
    check(noise(4, (40, 50, 3), np.float32), (4, 4, 1), reduction)
    check(noise(5, (300, 260), np.float32) + np.float32(5), 300, reduction)


@settings(deadline=None, max_examples=examples(100))
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(OF_DTYPES))
def test_anything_equals_the_oracle(data, seed, reduction_of_dtype):
    reduction, dtype = reduction_of_dtype
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5)))
    block = tuple(data.draw(st.integers(1, 4)) for _ in shape)
    make = data.draw(st.sampled_from([noise, integers, with_ties_and_nan]))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    check(layout(make(seed, shape, dtype)), block, reduction)


X = integers(0, (4, 6, 7), np.float32)
BAD = {
    "x": [
        None,
        [1.0],
        X[:0],
        X[:, :, :0],
        np.float32(1),
        np.array(1.0),
        X.astype(complex),
        X.astype("U1"),
        np.ma.array(X),
    ],
    "block_size": [0, -1, 1.5, True, "2", None, (2, 2), (2,) * 4, (2, 0, 1), 10**30],
    "reduction": ["mode", None, np.max, 0, b"max", ("max",)],
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    for value, reduction in itertools.product(BAD[argument], REDUCTIONS):
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.block_reduce(**{"x": X, "block_size": 2, "reduction": reduction} | {argument: value})
