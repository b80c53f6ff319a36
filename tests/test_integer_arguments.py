"""Convolutions of integers: limits of the result, bias, residual, classes, and what is refused."""

import itertools

import numpy as np
import pytest
from conftest import INTEGER_DTYPES, assert_close, draw, scattered, sums_of

import fastpool
from fastpool import oracle
from fastpool.dtypes import INTEGERS

SMALLEST, LARGEST = -(2**63), 2**63 - 1
PAIRS = list(itertools.product(INTEGER_DTYPES, INTEGER_DTYPES))

# ---------------------------------------------------------------------------------- activation, residual, bias, out

INF = float("inf")
#: Activation -> the lowest and highest result, in Python's integers.
LIMITS_OF_RESULTS = [
    (None, (SMALLEST, LARGEST)),
    ((None, None), (SMALLEST, LARGEST)),
    ((-INF, INF), (SMALLEST, LARGEST)),
    ((SMALLEST, LARGEST), (SMALLEST, LARGEST)),
    ((-(2**64), 2**64), (SMALLEST, LARGEST)),
    ((-1e300, 1e300), (SMALLEST, LARGEST)),
    ("relu", (0, LARGEST)),
    ("relu6", (0, 6)),
    ((-5, 7), (-5, 7)),
    ([-5.0, 7.0], (-5, 7)),
    ((-2.5, 2.5), (-2, 2)),
    ((2.1, 2.9), (2, 2)),  # no integer lies between: the high one counts
    ((0.1, None), (1, LARGEST)),
    ((None, -0.1), (SMALLEST, -1)),
    ((np.float32(-1.5), np.int64(9)), (-1, 9)),
    ((np.uint8(1), np.float16(2.5)), (1, 2)),
    ((2**53 + 1, 2**60 + 1), (2**53 + 1, 2**60 + 1)),  # no float64 holds these
    ((SMALLEST + 1, LARGEST - 1), (SMALLEST + 1, LARGEST - 1)),
    ((None, 2.0**63), (SMALLEST, LARGEST)),
    ((INF, None), (LARGEST, LARGEST)),
    ((None, -INF), (SMALLEST, SMALLEST)),
    ((10**30, None), (LARGEST, LARGEST)),
]


@pytest.mark.parametrize(("activation", "limits"), LIMITS_OF_RESULTS, ids=repr)
def test_limits_of_the_result(activation, limits):
    ends = (SMALLEST, SMALLEST + 1, -(2**53) - 1, -3, -2, -1, 0, 1, 2, 3, 7, 2**53, 2**53 + 1, 2**60 + 2, LARGEST)
    for dtype, sums in ((np.int64, np.int64), (np.int32, np.int64), (np.int8, np.int32)):
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        x = np.array([max(least, min(value, most)) for value in ends], dtype).reshape(1, 1, 1, -1)
        lowest, highest = (max(np.iinfo(sums).min, min(limit, np.iinfo(sums).max)) for limit in limits)
        wanted = [min(max(int(value), lowest), highest) for value in x.ravel()]
        weight = np.ones((1, 1, 1, 1), np.int8)
        for result in (
            fastpool.conv2d(x, weight, activation=activation),
            fastpool.Conv2d(weight, activation=activation)(x),
            oracle.conv2d(x, weight, activation=activation),
            fastpool.conv2d(x, np.ones((1, 1, 1, 1), np.int64), activation=activation) if sums == np.int64 else None,
            fastpool.conv2d(np.zeros_like(x), weight, activation=activation, residual=x.astype(sums)),
        ):
            if result is not None:
                assert result.dtype == sums
                assert result.ravel().tolist() == wanted


def both(x, weight, bias=None, residual=None, **options):
    """Require the function and the class to equal the oracle; give the result."""
    expected = oracle.conv2d(x, weight, bias, residual=residual, **options)
    assert_close(fastpool.conv2d(x, weight, bias, residual=residual, **options), expected)
    assert_close(fastpool.Conv2d(weight, bias, **options)(x, residual=residual), expected)
    return expected


@pytest.mark.parametrize(("dtype", "weight_dtype"), [(np.uint8, np.int8), (np.int16, np.int8), (np.int64, np.int64)])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", (-1000.5, 1000.5)], ids=repr)
def test_activation_after_bias_and_residual(activation, dtype, weight_dtype):
    for shape, options in [((2, 3, 5, 40), {}), ((2, 3, 6, 7), {"stride": 2, "padding": 1})]:
        x, weight = draw(41, shape, dtype), draw(42, (20, 3, 2, 3), weight_dtype)
        sums = sums_of(dtype, weight_dtype)
        bare = both(x, weight, activation=activation, **options)
        residual, bias = draw(43, bare.shape, sums), draw(44, 20, sums)
        both(x, weight, bias, activation=activation, **options)
        both(x, weight, None, activation=activation, residual=residual, **options)
        both(x, weight, bias, activation=activation, residual=residual, **options)


def test_a_bias_of_any_integers_that_fit():
    for (dtype, weight_dtype), bias_dtype in itertools.product(PAIRS, INTEGER_DTYPES):
        x, weight = draw(45, (2, 2, 3, 5), dtype), draw(46, (4, 2, 2, 2), weight_dtype)
        bias, sums = draw(47, 4, bias_dtype), sums_of(dtype, weight_dtype)
        if np.can_cast(bias_dtype, sums, "safe"):
            both(x, weight, bias)
            given = (x, np.moveaxis(weight, 0, 1).copy(), bias)
            assert_close(fastpool.conv_transpose2d(*given), scattered(*given, 1, 0, 0, 1, 1))
        else:
            for refused in (
                lambda: fastpool.conv2d(x, weight, bias),  # noqa: B023
                lambda: fastpool.Conv2d(weight, bias)(x),  # noqa: B023
                lambda: fastpool.conv_transpose2d(x, np.moveaxis(weight, 0, 1), bias),  # noqa: B023
            ):
                with pytest.raises(TypeError, match=r"bias must have dtype .* sums of int32, got u?int"):
                    refused()


def test_one_prepared_convolution_for_all_integers():
    """x decides the dtype of the result at each call; what was prepared for one is not taken for another."""
    weight, bias = draw(48, (20, 3, 3, 3), np.int8), draw(49, 20, np.int16)
    conv = fastpool.Conv2d(weight, bias, 2, 1, activation=(-(2**40), 2**40))
    kept = weight.copy(), bias.copy()
    weight[...], bias[...] = 0, 0  # the class has copied them
    for dtype in (*INTEGER_DTYPES, *reversed(INTEGER_DTYPES), *INTEGER_DTYPES):
        x = draw(50, (2, 3, 9, 20), dtype)
        assert_close(conv(x), oracle.conv2d(x, *kept, 2, 1, activation=(-(2**40), 2**40)))
    assert "int8" in repr(conv)


# ----------------------------------------------------------------------------------------------------- what is refused

X, WEIGHT, BIAS = np.ones((1, 2, 5, 6), np.int8), np.ones((2, 2, 3, 3), np.uint8), np.ones(2, np.int32)


def calls(x, weight, **options):
    """The function, the class and the transposed function with the same arguments."""
    at_call = {key: options.pop(key) for key in ("residual", "out") if key in options}
    yield lambda: fastpool.conv2d(x, weight, **options, **at_call)
    yield lambda: fastpool.Conv2d(weight, **options)(x, **at_call)
    if not {"activation", "algorithm", "residual"} & {*options, *at_call}:
        yield lambda: fastpool.conv_transpose2d(x, weight, **options, **at_call)


@pytest.mark.parametrize(
    "dtype", ["uint64", "bool", "object", "float16", "longdouble", "complex64", "U2", "M8[s]", "V4"]
)
@pytest.mark.parametrize("argument", ["x", "weight", "bias", "residual", "out"])
def test_other_dtypes_are_refused(argument, dtype):
    arrays = {"x": X, "weight": WEIGHT, "bias": BIAS}
    shape = {"x": X.shape, "weight": WEIGHT.shape, "bias": (2,)}.get(argument, (1, 2, 3, 4))
    arrays[argument] = np.zeros(shape, dtype)
    for call in calls(**arrays):
        with pytest.raises(TypeError, match=rf"\b{argument} must .*int.* got "):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_and_floats_do_not_mix(dtype):
    for arrays, name in (
        ({"x": X.astype(dtype), "weight": WEIGHT}, "(x|weight)"),
        ({"x": X, "weight": WEIGHT.astype(dtype)}, "(x|weight)"),
        ({"x": X, "weight": WEIGHT, "bias": BIAS.astype(dtype)}, "bias"),
        ({"x": X.astype(dtype), "weight": WEIGHT.astype(dtype), "bias": BIAS}, "bias"),
        ({"x": X, "weight": WEIGHT, "residual": np.zeros((1, 2, 3, 4), dtype)}, "residual"),
        ({"x": X, "weight": WEIGHT, "out": np.zeros((1, 2, 3, 4), dtype)}, "out"),
        ({"x": X.astype(dtype), "weight": WEIGHT.astype(dtype), "out": np.zeros((1, 2, 3, 4), np.int32)}, "out"),
    ):
        for call in calls(**arrays):
            with pytest.raises(TypeError, match=rf"^{name} must have .*, got (float|u?int)\d+$"):
                call()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.int64])
def test_residual_and_out_have_the_dtype_of_the_result(dtype):
    for argument in ("residual", "out"):
        array = np.zeros((1, 2, 3, 4), dtype)
        for call in calls(X, WEIGHT, **{argument: array}):
            with pytest.raises(TypeError, match=rf"^{argument} must have .*int32, got {array.dtype}$"):
                call()
        assert not array.any()


def test_winograd_is_refused():
    for weight in (WEIGHT, WEIGHT.astype(np.int64)):
        for call in calls(X, weight, algorithm="winograd"):
            with pytest.raises(ValueError, match=r"^algorithm must be 'auto' or 'direct' for integers"):
                call()
        for algorithm in ("auto", "direct"):
            for call in calls(X, weight, algorithm=algorithm):
                assert call().dtype == sums_of(np.int8, weight.dtype)


def test_no_activation_without_its_form():
    for activation in ("ReLU", 6, (1, 0), (INF, 0), (float("nan"), None), (True, 6), ("0", 6), (10**400, None), (0,)):
        for call in calls(X, WEIGHT, activation=activation):
            with pytest.raises((TypeError, ValueError), match="activation"):
                call()


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_subsampling_takes_no_integers(dtype):
    ones = np.ones(2, dtype)
    for axes in (1, 2, 3):
        with pytest.raises(TypeError, match=f"x must have dtype float16, bfloat16, float32 or float64, got {dtype}"):
            getattr(fastpool, f"subsample{axes}d")(np.ones((1, 2, *(4,) * axes), dtype), ones, ones, 2)
