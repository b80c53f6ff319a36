"""Pixel shuffling against the oracle and PyTorch: every dtype, rank, stride and size, zero sizes among them."""

import itertools
import warnings

import numpy as np
import pytest
from conftest import LAYOUTS, integers, native

import fastpool
from fastpool import oracle_extras

DTYPES = ("f2", "f4", "f8", "i1", "u2", "i8", "?", "c8", "M8[s]", "U3", "O", "S2", [("a", "f4"), ("b", "i1")])


def same(result, expected):
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


def check(x, r):
    """Require both ways to equal the oracle, and the one to undo the other."""
    there = fastpool.pixel_unshuffle(x, r)
    same(there, oracle_extras.pixel_unshuffle(native(x), r))
    same(fastpool.pixel_shuffle(there, r), oracle_extras.pixel_shuffle(there, r))
    same(fastpool.pixel_shuffle(there, r), native(np.ascontiguousarray(x)))
    assert not x.size or not np.shares_memory(there, x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype):
    x = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).astype(dtype)
    for r in (1, 2):
        check(x, r)


def test_every_rank_and_size():
    for batch, channels, height, width in itertools.product([(), (2,), (2, 1, 3), (0,)], range(3), range(4), range(4)):
        for r in (1, 2, 3):
            x = integers(1, (*batch, channels, r * height, r * width), np.float32)
            check(x, r)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout):
    check(LAYOUTS[layout](integers(2, (2, 3, 6, 12), np.float32)), 3)
    check(LAYOUTS[layout](integers(2, (3, 6, 12), np.int16)), 2)


def test_by_hand():
    x = np.arange(16).reshape(1, 4, 4)
    wanted = [[[0, 2], [8, 10]], [[1, 3], [9, 11]], [[4, 6], [12, 14]], [[5, 7], [13, 15]]]
    np.testing.assert_array_equal(fastpool.pixel_unshuffle(x, 2), wanted)


X = np.ones((2, 9, 6, 12))
NO_FACTORS = (0, -1, 1.5, True, "2", None, (2, 2), 10**30)


@pytest.mark.parametrize(
    ("name", "argument"), [("pixel_unshuffle", "downscale_factor"), ("pixel_shuffle", "upscale_factor")]
)
def test_bad_arguments_are_named(name, argument):
    for bad in [{argument: value} for value in (*NO_FACTORS, 4, 5)] + [
        {"x": value} for value in (None, [[[1.0]]], X[0, 0], X[0, 0, 0], np.ma.array(X), 1.0)
    ]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{next(iter(bad))}\b"):
            getattr(fastpool, name)(**{"x": X, argument: 3} | bad)


@pytest.mark.parametrize("name", ["pixel_unshuffle", "pixel_shuffle"])
@pytest.mark.usefixtures("one_thread_of_pytorch")
def test_samples_of_pytorch(name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    (operator,) = (op for op in op_db if op.name == f"nn.functional.{name}")
    count = 0
    for dtype in operator.dtypes - {torch.bfloat16, torch.complex32}:
        for sample in operator.sample_inputs("cpu", dtype, requires_grad=False):
            expected = operator.op(sample.input, *sample.args, **sample.kwargs).numpy()
            same(getattr(fastpool, name)(sample.input.numpy(), *sample.args, **sample.kwargs), expected)
            count += 1
    assert count >= 50
