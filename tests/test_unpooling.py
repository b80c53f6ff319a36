"""Unpooling against the oracle and PyTorch: every size, stride and dtype, duplicates, bad indices, watched memory."""

import itertools
import warnings

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    GuardedMemory,
    integers,
    native,
    needs_mprotect,
    needs_threads,
    noise,
    with_ties_and_nan,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle_extras
from fastpool.plans import unpooling as plans
from fastpool.routines.table import INTEGER_KERNELS

FLOATS = (np.float16, np.float32, np.float64)
INTEGERS = (np.bool_, *(np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)))
every_dtype = pytest.mark.parametrize("dtype", FLOATS + INTEGERS)


def name_of(axes):
    return f"max_unpool{axes}d"


def check(axes, x, indices, *arguments, **options):
    """Require shape, dtype and every element to equal the oracle's; give the result."""
    expected = getattr(oracle_extras, name_of(axes))(native(x), native(indices), *arguments, **options)
    result = getattr(fastpool, name_of(axes))(x, indices, *arguments, **options)
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)
    return result


def test_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = integers(1, (2, 3, 4, 5), np.float32).astype(bfloat16)
    check(2, x, places(2, x.shape, 80), 2)


def places(seed, shape, elements):
    """Give indices in [0, elements), so many of them that there are duplicates."""
    return np.random.default_rng(seed).integers(0, elements, shape)


@every_dtype
def test_every_width(dtype):
    """Planes of every size up to two vectors and a bit, cleared and filled."""
    for width in range(1, 140 // np.dtype(dtype).itemsize + 3):
        x = np.arange(1, 2 * 3 * width + 1).reshape(2, 3, width).astype(dtype)
        check(1, x, places(width, x.shape, width), 1)


@every_dtype
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_argument(axes, dtype):
    x = integers(1, (2, 3, 4, 3, 5)[: axes + 2], np.int8, 100).astype(dtype)
    for kernel, stride, padding in itertools.product(
        [2, 3, (3, 2, 4)[:axes]], [None, (), 1, 2, (2, 1, 3)[:axes]], [0, 1]
    ):
        steps = kernel if stride in (None, ()) else stride
        least = oracle_extras._per_axis(kernel, axes)
        sizes = [
            (n - 1) * s + k - 2 * padding
            for n, s, k in zip(x.shape[2:], oracle_extras._per_axis(steps, axes), least, strict=True)
        ]
        indices = places(2, x.shape, np.prod(sizes))
        result = getattr(fastpool, name_of(axes))(x, indices, kernel, stride, padding)
        np.testing.assert_array_equal(result, getattr(oracle_extras, name_of(axes))(x, indices, kernel, steps, padding))
        for size in (sizes, [2, 3, *sizes]):
            check(axes, x, indices, kernel, steps, padding, size)
        check(axes, x[1], indices[1], kernel, steps, padding)


def test_by_hand():
    x = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    result = fastpool.max_unpool2d(x, np.array([[[5, 6], [6, 13]]]), 2)
    np.testing.assert_array_equal(result, [[[0, 0, 0, 0], [0, 1, 3, 0], [0, 0, 0, 0], [0, 4, 0, 0]]])


def test_padding_of_both_ends():
    x, indices = integers(3, (1, 2, 3, 4), np.float32), places(4, (1, 2, 3, 4), 4 * 5)
    result = check(2, x, indices, 3, 2, ((1, 2), (0, 4)))
    assert result.shape == (1, 2, 4, 5)


def test_the_last_of_duplicates_wins():
    """Whatever the number of threads."""
    x = np.arange(1.0, 2 * 40 * 300 + 1).reshape(2, 40, 300)
    result = fastpool.max_unpool1d(x, np.full(x.shape, 7), 1)
    expected = np.zeros_like(x)
    expected[..., 7] = x[..., -1]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axes", [2])
def test_it_inverts_pooling(axes, dtype):
    x = noise(5, (2, 3, 12, 14), np.float32)
    for windows in [(2, 2, 0), (3, 2, 1), ((2, 3), (3, 1), (1, 0))]:
        largest, where = fastpool.max_pool2d(x, *windows, return_indices=True)
        result = check(axes, largest.astype(dtype), where, *windows, output_size=x.shape)
        kept = result != 0
        np.testing.assert_array_equal(result[kept], x.astype(dtype)[kept])


def test_nan_infinities_and_zeros_are_only_moved():
    x = with_ties_and_nan(6, (2, 3, 5, 7), np.float32)
    x[0, 0, 0, 0] = -0.0
    indices = np.tile(np.arange(34, -1, -1).reshape(5, 7), (2, 3, 1, 1))
    result = check(2, x, indices, 1)
    assert result.reshape(2, 3, -1)[:, :, ::-1].tobytes() == x.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, np.uint8, np.int64])
def test_strides_alignment_and_byte_order(layout, dtype):
    change = LAYOUTS[layout]
    with np.errstate(invalid="ignore"):
        x = (
            integers(7, (2, 3, 4, 5), np.int8).astype(dtype)
            if dtype in FLOATS
            else integers(7, (2, 3, 4, 5), np.int8, 9)
        )
    x, indices = x.astype(dtype), places(8, (2, 3, 4, 5), 8 * 10)
    for arrays in [(change(x), indices), (x, change(indices)), (change(x), change(indices))]:
        check(2, *arrays, 2)
    check(2, change(x[0]), change(indices[0]), 2)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64"])
def test_indices_of_any_integers(dtype):
    x = integers(9, (2, 3, 4, 5), np.float32)
    check(2, x, places(10, x.shape, 80).astype(dtype), 2)


def test_batches():
    x, indices = integers(11, (5, 3, 4, 6), np.float32), places(12, (5, 3, 4, 6), 96)
    for part in np.s_[:, :1, :0, ::-2, 2, :2, 3]:
        check(2, x[part], indices[part], 2)
    many = integers(13, (3, 700, 2, 2), np.float32)
    check(2, many, places(14, many.shape, 16), 2)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
def test_results_are_bit_identical_for_any_number_of_threads():
    x, indices = noise(15, (2, 90, 20, 30), np.float32), places(16, (2, 90, 20, 30), 2400)
    results = set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results.add(fastpool.max_unpool2d(x, indices, 2).tobytes())
    assert len(results) == 1


def check_guarded_memory():
    """Forbidden pages lie right after or right before each input."""
    for at_end, width, dtype in itertools.product([True, False], range(1, 40), (np.float32, np.uint8)):
        memory = GuardedMemory()
        x, indices = integers(1, (2, 3, width), np.int8).astype(dtype), places(2, (2, 3, width), 2 * width)
        check(1, memory.array(x, at_end), memory.array(indices, at_end), 2)


@needs_mprotect
def test_not_a_byte_beyond_any_array_is_touched():
    run_apart("test_unpooling", "check_guarded_memory", environment=FILLED_MEMORY)


@settings(deadline=None, max_examples=100)
@given(
    st.data(), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]), st.sampled_from([*FLOATS, np.int16, np.uint64])
)
def test_anything_equals_the_oracle(data, seed, axes, dtype):
    shape = (
        *data.draw(st.sampled_from([(), (0,), (1,), (3,)])),
        *(data.draw(st.integers(1, 6)) for _ in range(axes + 1)),
    )
    kernel, stride = (tuple(data.draw(st.integers(1, 4)) for _ in range(axes)) for _ in range(2))
    pads = tuple((data.draw(st.integers(0, k // 2)), data.draw(st.integers(0, k // 2))) for k in kernel)
    usual = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(shape[-axes:], stride, kernel, pads, strict=True)]
    if min(usual) < 1:
        return
    sizes = [data.draw(st.integers(max(1, n - s + 1), n + s - 1)) for n, s in zip(usual, stride, strict=True)]
    x = integers(seed, shape, np.int8).astype(dtype)
    indices = places(seed, shape, np.prod(sizes))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    check(axes, layout(x), layout(indices), kernel, stride, pads, sizes)


def test_every_plan_takes_a_routine_of_the_table(monkeypatch):
    taken = set()
    plan = plans.plan_unpooling
    monkeypatch.setattr(
        "fastpool.unpooling.plan_unpooling", lambda problem: taken.add(problem.element.numba_name) or plan(problem)
    )
    for dtype in FLOATS + INTEGERS:
        fastpool.max_unpool1d(np.ones((1, 4), dtype), np.zeros((1, 4), int), 1)
    assert taken == set(INTEGER_KERNELS["unpool"])


# ---------------------------------------------------------------------------------------------------------- refusals

X, WHERE = np.ones((2, 3, 4, 5), np.float32), np.zeros((2, 3, 4, 5), np.int64)
BAD = {
    "x": [
        *(None, [1.0], X[0, 0], X[None], X[:, :0], X[..., :0]),
        *(X.astype(complex), X.astype("U1"), X.astype(np.longdouble), np.ma.array(X)),
    ],
    "indices": [
        *(None, 1, WHERE.tolist(), WHERE.astype(float), WHERE.astype(bool), WHERE[0], WHERE[..., :4], WHERE[None]),
        np.ma.array(WHERE),
    ],
    "kernel_size": [0, -1, 1.5, True, "2", None, (2,) * 3, 10**30],
    "stride": [0, -1, 1.5, True, "2", (2,) * 3, 10**30],
    "padding": [-1, 1.5, True, "same", "valid", None, (1,) * 3, ((1, 1),) * 3, 6, 10**30],
    "output_size": [
        *(8, (8,), (8, 10, 1), (6, 10), (10, 10), (8, 8), (8, 12)),
        *((8, 10.0), (True, 10), "810", (0, 10), (-1, 10)),
    ],
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    good = {"x": X, "indices": WHERE, "kernel_size": 2}
    assert fastpool.max_unpool2d(**good).shape == (2, 3, 8, 10)
    for value in BAD[argument]:
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.max_unpool2d(**good | {argument: value})


@pytest.mark.parametrize("wrong", [-1, 80, 2**31, 2**63 - 1, -(2**63)])
def test_a_bad_index_is_a_value_error(wrong):
    for place in [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 2, 3)]:
        indices = WHERE.copy()
        indices[place] = wrong
        with pytest.raises(ValueError, match=rf"indices must be in \[0, 80\).*got {wrong}$"):
            fastpool.max_unpool2d(X, indices, 2)
    with pytest.raises(ValueError, match="indices must be in"):
        fastpool.max_unpool2d(X, np.full(X.shape, 2**64 - 1, np.uint64), 2)


# ----------------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.usefixtures("one_thread_of_pytorch")
def test_samples_of_pytorch(axes, dtype):
    torch = pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

        count = 0
        for operator in (op for op in op_db if op.name == f"nn.functional.{name_of(axes)}"):
            if getattr(torch, dtype) not in operator.dtypes:
                continue
            for sample in operator.sample_inputs("cpu", getattr(torch, dtype), requires_grad=False):
                expected = operator.op(sample.input, *sample.args, **sample.kwargs).numpy()
                arguments = [a.numpy() if isinstance(a, torch.Tensor) else a for a in sample.args]
                result = getattr(fastpool, name_of(axes))(sample.input.numpy(), *arguments, **sample.kwargs)
                assert result.dtype == expected.dtype
                np.testing.assert_array_equal(result, expected)
                count += 1
    assert count >= 12
