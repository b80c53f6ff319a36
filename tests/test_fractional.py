"""Fractional max pooling against the oracle and PyTorch: every size, given samples and seeds, NaN, watched memory."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    GuardedMemory,
    assert_close,
    between,
    every_dtype,
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
from fastpool import fractional, oracle_extras

every_rank = pytest.mark.parametrize("axes", [2, 3])


def samples(seed, x, axes, dtype=np.float64):
    """Give the samples of every plane."""
    planes = x.shape[:2] if x.ndim == axes + 2 else (1, x.shape[0])
    return np.random.default_rng(seed).random((*planes, axes), dtype)


def check(axes, x, *arguments, **options):
    """Require values and indices to equal the oracle's, and values alone to be the same; give the pair."""
    name = f"fractional_max_pool{axes}d"
    expected = getattr(oracle_extras, name)(native(x), *arguments, return_indices=True, **options)
    values, indices = getattr(fastpool, name)(x, *arguments, return_indices=True, **options)
    assert_close((values, indices), expected)
    np.testing.assert_array_equal(getattr(fastpool, name)(x, *arguments, **options), values)
    return values, indices


@every_dtype
def test_every_width_and_output(dtype):
    """NaN surrounds all inputs and must not leak in."""
    places = [lambda a: between(a, np.nan), LAYOUTS["every second column"], LAYOUTS["within a larger one"]]
    for width in range(1, 36):
        for kernel, out in itertools.product((1, 2, 3), (1, 2, width // 2, width - 2, width)):
            if 1 <= out <= width - kernel + 1:
                x = noise(width, (1, 2, 4, width), dtype)
                check(2, places[width % 3](x), (2, kernel), (3, out), random_samples=samples(out, x, 2))


@every_dtype
@every_rank
def test_every_argument(axes, dtype):
    shape = (2, 3, 6, 7, 9)[: axes + 2]
    for index, kernel in enumerate([1, 2, (2, 3, 1)[:axes], np.int64(3)]):
        for sizes in [
            {"output_size": 3},
            {"output_size": (2, 1, 4)[:axes]},
            {"output_ratio": 0.5},
            {"output_ratio": (0.4,)},
        ]:
            x = (with_ties_and_nan if index % 2 else integers)(index, shape, dtype)
            options = {key: value if value != (0.4,) else (0.4, 0.6, 0.5)[:axes] for key, value in sizes.items()}
            kernels = int(kernel) if isinstance(kernel, np.int64) else kernel
            check(axes, x, kernels, **options, random_samples=samples(index, x, axes))
            check(axes, x[0], kernels, **options, random_samples=samples(index, x[0], axes))
            check(axes, x, kernels, **options, seed=index)


@every_rank
def test_the_smallest_and_largest_samples(axes):
    """Starts stay within the image, rise, and are exact."""
    for value in (0.0, 1.0, 1 - 2**-53, 2**-60, 0.5, 1 / 3):
        x = integers(1, (1, 1, 9, 14, 11)[: axes + 2], np.float64)
        check(axes, x, 2, 5, random_samples=np.full((1, 1, axes), value))


@given(st.floats(0, 1), st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=500)
def test_products_are_floored_exactly(sample, room):
    expected = math.floor(Fraction(sample) * room)
    assert fractional._floor_of_product(np.array([sample]), np.array([float(room)])).tolist() == [expected]
    third = room / 3 / max(room, 1)
    expected = math.floor(Fraction(third) * room)
    assert fractional._floor_of_product(np.array([third]), np.array([float(room)])).tolist() == [expected]


def test_by_hand():
    """Of six elements three windows of two: a is 2, and the sample shifts nothing but what lies between."""
    x = np.arange(6.0)[None, None, None] * np.ones((1, 1, 2, 1))
    for u, expected in [(0.0, [1, 3, 5]), (0.4, [1, 3, 5]), (0.9, [1, 3, 5])]:
        result = fastpool.fractional_max_pool2d(x, (1, 2), (1, 3), random_samples=np.array([[[u, 0.0]]]))
        np.testing.assert_array_equal(result[0, 0, 0], expected)
    for u, expected in [(0.0, [1, 2, 3, 5]), (0.3, [1, 2, 4, 5]), (0.7, [1, 3, 4, 5])]:  # a is 4 / 3
        result = fastpool.fractional_max_pool2d(x, (1, 2), (1, 4), random_samples=np.array([[[u, 0.0]]]))
        np.testing.assert_array_equal(result[0, 0, 0], expected)


def test_seeds_and_generators():
    x = noise(2, (2, 3, 20, 22), np.float32)
    same = [fastpool.fractional_max_pool2d(x, 2, 9, seed=s) for s in (7, np.int64(7), np.random.default_rng(7))]
    assert same[0].tobytes() == same[1].tobytes() == same[2].tobytes()
    generator = np.random.default_rng(7)
    first, second = (fastpool.fractional_max_pool2d(x, 2, 9, seed=generator) for _ in range(2))
    assert first.tobytes() == same[0].tobytes() != second.tobytes()
    assert len({fastpool.fractional_max_pool2d(x, 2, 9).tobytes() for _ in range(3)}) == 3


@every_dtype
@every_rank
def test_indices_of_ties_nan_and_infinities(axes, dtype):
    for seed in range(5):
        x = with_ties_and_nan(seed, (2, 3, 5, 8, 9)[: axes + 2], dtype)
        values, indices = check(axes, x, 3, 2, seed=seed)
        found = np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1), 2).reshape(values.shape)
        np.testing.assert_array_equal(found, values)
    lowest = np.full((1, 1, 4, 6, 6)[: axes + 2], -np.inf, dtype)
    check(axes, lowest, 2, 3, seed=1)


@every_rank
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, axes):
    x = with_ties_and_nan(10, (2, 3, 5, 8, 9)[: axes + 2], np.float32)
    check(axes, LAYOUTS[layout](x), 2, 3, random_samples=LAYOUTS[layout](samples(1, x, axes)))


def test_batches_and_tasks():
    x = noise(12, (5, 3, 6, 9), np.float32)
    for part in (x, x[:1], x[:0], x[2], x[:, :1], x[3, :1], x[::-2], np.broadcast_to(x[:1], x.shape)):
        check(2, part, 2, (3, 5), random_samples=samples(1, part, 2, np.float32))
    check(2, noise(13, (1, 500, 5, 6), np.float32), 2, 3, seed=1)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
def test_results_are_bit_identical_for_any_number_of_threads():
    x, results = noise(14, (2, 90, 20, 21), np.float32), set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            pair = fastpool.fractional_max_pool2d(x, 2, output_ratio=0.7, return_indices=True, seed=3)
            results.add(b"".join(part.tobytes() for part in pair))
    assert len(results) == 1


def check_guarded_memory():
    """Forbidden pages lie right after or right before x and the samples."""
    for at_end, width, dtype in itertools.product([True, False], range(3, 36), DTYPES):
        memory, x = GuardedMemory(), noise(width, (1, 2, 3, width), dtype)
        check(2, memory.array(x, at_end), 2, (2, width - 2), random_samples=memory.array(samples(1, x, 2), at_end))


@needs_mprotect
def test_not_a_byte_beyond_any_array_is_touched():
    run_apart("test_fractional", "check_guarded_memory", environment=FILLED_MEMORY)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.sampled_from(DTYPES))
def test_anything_equals_the_oracle(data, seed, axes, dtype):
    shape = (
        *data.draw(st.sampled_from([(), (0,), (1,), (3,)])),
        *(data.draw(st.integers(1, 9)) for _ in range(axes + 1)),
    )
    kernel = tuple(data.draw(st.integers(1, n)) for n in shape[-axes:])
    out = tuple(data.draw(st.integers(1, n - k + 1)) for n, k in zip(shape[-axes:], kernel, strict=True))
    make = data.draw(st.sampled_from([noise, integers, with_ties_and_nan]))
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    x = make(seed, shape, dtype)
    check(axes, layout(x), kernel, out, random_samples=samples(seed, x, axes, dtype))


@every_rank
@every_dtype
@pytest.mark.usefixtures("one_thread_of_pytorch")
def test_pytorch_with_the_same_samples(axes, dtype):
    torch = pytest.importorskip("torch")
    function = getattr(torch.nn.functional, f"fractional_max_pool{axes}d")
    for seed in range(20):
        shape = [(2, 3, 13, 17, 11), (1, 5, 8, 9, 20), (3, 7, 10, 6)][seed % 3 if axes == 2 else seed % 2][: axes + 2]
        x = torch.from_numpy(with_ties_and_nan(seed, shape, dtype))
        given = torch.from_numpy(samples(seed, x.numpy(), axes, dtype))
        for kernel, sizes in [(2, {"output_size": 4}), (3, {"output_ratio": (0.5, 0.45, 0.6)[:axes]})]:
            expected = function(x, kernel, **sizes, return_indices=True, _random_samples=given)
            ours = getattr(fastpool, f"fractional_max_pool{axes}d")(
                x.numpy(), kernel, **sizes, return_indices=True, random_samples=given.numpy()
            )
            assert_close(ours, tuple(part.numpy() for part in expected))


X = integers(0, (2, 4, 6, 7), np.float32)
GIVEN = np.full((2, 4, 2), 0.5)
GOOD = {"x": X, "kernel_size": 2, "output_size": 3}
BAD = {
    "x": [None, [1.0], X[0, 0], X[None], X[:, :0], X[..., :0], X.astype(complex), X.astype(int), np.ma.array(X)],
    "kernel_size": [0, -1, 1.5, True, "2", None, (2,) * 3, 8, (7, 1), 10**30],
    "output_size": [0, -1, 1.5, True, "2", None, (2,) * 3, 6, (3, 7), 10**30],
    "output_ratio": [0, -0.5, 1.5, True, "1", (0.5,) * 3, 0.1, 1.0, np.nan],
    "return_indices": [0, 1, None, "yes"],
    "random_samples": [
        *(1, [0.5], GIVEN[0], GIVEN[..., :1], GIVEN[None], GIVEN.astype(int)),
        *(GIVEN + 1, GIVEN - 1, GIVEN * np.nan, np.ma.array(GIVEN)),
    ],
    "seed": [-1, 1.5, "1", True, [1], np.random.RandomState(1), 2**128],
}  # fmt: skip


@pytest.mark.parametrize("argument", BAD)
def test_bad_arguments_are_named(argument):
    assert fastpool.fractional_max_pool2d(**GOOD).shape == (2, 4, 3, 3)
    for value in BAD[argument]:
        arguments = GOOD | {argument: value}
        if argument == "output_ratio":
            del arguments["output_size"]
        with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
            fastpool.fractional_max_pool2d(**arguments)


def test_arguments_that_exclude_each_other():
    with pytest.raises(ValueError, match="output_size or output_ratio must be given, and not both"):
        fastpool.fractional_max_pool2d(X, 2, 3, 0.5)
    with pytest.raises(ValueError, match="seed must be None where random_samples are given"):
        fastpool.fractional_max_pool2d(X, 2, 3, random_samples=GIVEN, seed=1)
