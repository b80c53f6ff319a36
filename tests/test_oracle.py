"""The oracle against vectors worked out by hand, exact rational arithmetic, PyTorch and SciPy."""

import ast
import itertools
import math
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from fastpool import oracle

INF, NAN = math.inf, math.nan
COUNT = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)  # 1..16
BORDERS = {  # padding_mode -> the names in NumPy and scipy.ndimage
    "reflect": ("reflect", "mirror"),
    "symmetric": ("symmetric", "reflect"),
    "replicate": ("edge", "nearest"),
    "circular": ("wrap", "wrap"),
}

# One call of every pooling, the function of some rank.
POOLINGS = {
    "subsample": lambda f, x: f(x, np.array([2, 3], x.dtype), np.array([4, 5], x.dtype), 2),
    "max_pool": lambda f, x: f(x, 3, 2, 1, return_indices=True),
    "min_pool": lambda f, x: f(x, 3, 2, 1, return_indices=True),
    "avg_pool": lambda f, x: f(x, 3, 2, 1, True),
    "sum_pool": lambda f, x: f(x, 3, 2, 1),
    "lp_pool": lambda f, x: f(x, 2, 3),
    "adaptive_avg_pool": lambda f, x: f(x, (3, None, 2)[: int(f.__name__[-2])]),
    "adaptive_max_pool": lambda f, x: f(x, 4, True),
    "global_avg_pool": lambda f, x: f(x),
    "global_max_pool": lambda f, x: f(x),
    "global_lp_pool": lambda f, x: f(x, 3),
}
# One call of every function, on x of shape (2, 2, 5, 6), or its rank's part of (2, 2, 5, 6, 4).
CALLS = {
    f"{name}{n}d": lambda x, name=name, n=n: POOLINGS[name](getattr(oracle, f"{name}{n}d"), x)
    for name in POOLINGS
    for n in (1, 2, 3)
}
CALLS["conv2d"] = lambda x: oracle.conv2d(
    x, np.arange(12, dtype=x.dtype).reshape(3, 2, 2, 1), np.ones(3, x.dtype), 2, 1
)


def plane(*rows, dtype=np.float64):
    """Give rows of numbers as an array of shape (1, 1, H, W)."""
    return np.array([[rows]], dtype)


def as_tuple(result):
    """Give a result, or values and indices, as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def equal(actual, desired):
    """Require the same shape, dtype and elements, of arrays or of tuples of them; NaN equals NaN."""
    for part, wanted in zip(as_tuple(actual), as_tuple(desired), strict=True):
        np.testing.assert_array_equal(part, wanted, strict=True)


def close(actual, desired):
    """Require the same shape and dtype, and agreement to 1e-12."""
    np.testing.assert_allclose(actual, desired, rtol=1e-12, atol=1e-12, strict=True)


def noise(seed, *shape):
    """Give normally distributed float64 numbers, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal(shape)


def awkward(seed, *shape):
    """Give small integers with many ties, some NaN, and infinities."""
    values = [-2, -1, -1, 0, 1, 1, 2, -INF, INF, NAN]
    probabilities = [0.14, 0.14, 0.14, 0.14, 0.14, 0.1, 0.05, 0.08, 0.02, 0.05]
    return np.random.default_rng(seed).choice(values, size=shape, p=probabilities)


# ---------------------------------------------------------------------------------------------------- the whole file


def test_imports_numpy_only():
    """Nothing of the package, and no library but NumPy, takes part in the reference."""
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {"." * node.level + (node.module or "") for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


def test_every_function_has_a_call():
    """The table of calls, which the following tests iterate, is complete."""
    assert set(CALLS) == set(oracle.__all__)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CALLS)
def test_dtype_batch_and_strides(name, dtype):
    """The dtype stays; unbatched, empty, reversed, broadcast and transposed inputs give what they should."""
    call = CALLS[name]
    shape = (2, 2, 5, 6, 4)[: 2 + int(name[-2])]
    x = np.random.default_rng(1).integers(-9, 9, shape).astype(dtype)  # integers: exact in any order
    kept = x.copy()
    batched = as_tuple(call(x))
    equal(x, kept)
    assert [part.dtype for part in batched] == [np.dtype(dtype), np.dtype(np.int64)][: len(batched)]
    equal(call(x[0]), tuple(part[0] for part in batched))
    equal(call(x[:0]), tuple(part[:0] for part in batched))
    for view in (x[..., ::-1], x[:, ::-1], np.broadcast_to(x[:, :, :1], x.shape), np.asfortranarray(x)):
        equal(call(view), call(view.copy(order="C")))


def test_float32_is_rounded_once():
    """Sums of float32 pass through float64: nothing cancels or overflows on the way."""
    x, large, third = (plane(row, dtype=np.float32) for row in ([1e8, 1, -1e8], [3e38, 3e38, -3e38], [1, 0, 0]))
    equal(oracle.conv2d(x, np.ones((1, 1, 1, 3), np.float32)), plane([1], dtype=np.float32))
    equal(oracle.sum_pool2d(x, (1, 3)), plane([1], dtype=np.float32))
    equal(oracle.sum_pool2d(large, (1, 3)), large[..., :1])
    equal(oracle.sum_pool2d(large, (1, 2)), plane([INF], dtype=np.float32))
    equal(oracle.avg_pool2d(third, (1, 3)), plane([1 / 3], dtype=np.float32))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "complex128", lambda: oracle.global_max_pool2d(COUNT.astype(complex))),
        *((ValueError, "x must be", lambda s=s: oracle.global_max_pool2d(np.ones(s))) for s in [(2, 2), (1, 0, 2, 2)]),
        (ValueError, "padded input: 1 \\+ 4 \\+ 0", lambda: oracle.sum_pool2d(COUNT, 6, padding=((1, 0), (1, 0)))),
        (ValueError, "padded input: 0 \\+ 4 \\+ 0", lambda: oracle.max_pool2d(COUNT, 5, ceil_mode=True)),
        (ValueError, "divisor_override", lambda: oracle.avg_pool2d(COUNT, 2, divisor_override=0)),
        *((ValueError, "norm_type", lambda p=p: oracle.lp_pool2d(COUNT, p, 2)) for p in (0, -1, NAN)),
        (ValueError, "padding_mode", lambda: oracle.conv2d(COUNT, np.ones((1, 1, 1, 1)), padding_mode="mirror")),
        (ValueError, "do not fit", lambda: oracle.conv2d(COUNT, np.ones((1, 2, 1, 1)))),
    ],
)
def test_what_has_no_meaning_is_refused(error, message, call):
    """Integers, other ranks, empty axes, windows beyond the input, and divisors and norms of zero are errors."""
    with pytest.raises(error, match=message):
        call()


# --------------------------------------------------------------------------------------------------- by hand: windows


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "floor", "ceil"),
    [
        (7, 2, 2, 0, 1, 3, 4),
        (112, 3, 2, 0, 1, 55, 56),
        (112, 3, 2, 1, 1, 56, 57),
        (3, 2, 2, 1, 1, 2, 2),  # a third window would start at 4 - 1 = 3, just past the input
        (4, 3, 2, 1, 1, 2, 3),  # the third starts at 3, on the last element
        (3, 1, 2, 0, 1, 2, 2),
        (9, 3, 2, 0, 2, 3, 3),
        (10, 3, 2, 0, 2, 3, 4),
        (6, 3, 3, (2, 0), 1, 2, 3),
    ],
)
def test_output_size(size, kernel, stride, padding, dilation, floor, ceil):
    """Floor and ceil sizes, and the rule that drops a last window starting past the input."""
    x = np.zeros((1, 1, size, 1))
    window = (kernel, 1), (stride, 1), (padding, 0), (dilation, 1)
    assert oracle.max_pool2d(x, *window).shape == (1, 1, floor, 1)
    assert oracle.max_pool2d(x, *window, ceil_mode=True).shape == (1, 1, ceil, 1)
    assert oracle.conv2d(x, np.zeros((1, 1, kernel, 1)), None, *window[1:]).shape == (1, 1, floor, 1)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "upper", "lower"),
    [
        (5, 2, 1, 1, (0, 1), (1, 0)),
        (5, 4, 1, 1, (1, 2), (2, 1)),
        (6, 3, 2, 1, (0, 1), (1, 0)),
        (7, 3, 2, 1, (1, 1), (1, 1)),
        (5, 1, 3, 1, (0, 0), (0, 0)),
        (8, 7, 3, 1, (2, 3), (3, 2)),
        (5, 2, 1, 3, (1, 2), (2, 1)),
        (3, 4, 5, 1, (0, 1), (1, 0)),
    ],
)
def test_same_padding(size, kernel, stride, dilation, upper, lower):
    """The odd element goes to the end (upper, "same") or to the beginning (lower), for every function."""
    x = noise(2, 1, 1, size, size)
    for name, split in [("same", upper), ("same_upper", upper), ("same_lower", lower), ("valid", (0, 0))]:
        if name == "valid" and dilation * (kernel - 1) >= size:
            continue
        weight, steps = noise(3, 1, 1, kernel, kernel), {"stride": stride, "dilation": dilation}
        named, explicit = {"padding": name, **steps}, {"padding": (split, split), **steps}
        result = oracle.conv2d(x, weight, **named)
        equal(result, oracle.conv2d(x, weight, **explicit))
        assert name == "valid" or result.shape[2:] == (-(-size // stride),) * 2
        for pool in (oracle.max_pool2d, oracle.min_pool2d, oracle.sum_pool2d, oracle.avg_pool2d):
            equal(pool(x, kernel, **named), pool(x, kernel, **explicit))


def test_padding_forms_are_per_axis():
    """An int, an int per axis, a (begin, end) pair per axis and a name per axis mean what they say."""
    x, one = plane([1, 2], [3, 4]), np.ones((1, 1, 1, 1))
    equal(oracle.conv2d(x, one, padding=(0, 1)), plane([0, 1, 2, 0], [0, 3, 4, 0]))
    equal(oracle.conv2d(x, one, padding=((1, 0), (0, 2))), plane([0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0]))
    equal(oracle.sum_pool2d(x, 1, 1, 1)[..., 1:3, 1:3], x)
    equal(oracle.max_pool2d(x, 2, 1, [[1, 0], [0, 0]]), plane([2], [4]))


@pytest.mark.parametrize("mode", BORDERS)
def test_padding_modes_are_those_of_numpy(mode):
    """Whatever the amount, also many times the input, a 1x1 convolution of weight 1 shows what np.pad gives."""
    for size, begin, end in itertools.product(range(1, 6), (0, 1, 2, 3, 7, 11), (0, 1, 4, 10)):
        x = np.arange(1.0, 2.0 * size + 1).reshape(1, 1, size, 2)
        pads = (begin, end), (end, begin)
        padded = oracle.conv2d(x, np.ones((1, 1, 1, 1)), padding=pads, padding_mode=mode)
        equal(padded, np.pad(x, ((0, 0), (0, 0), *pads), mode=BORDERS[mode][0]))


# ----------------------------------------------------------------------------------------------- by hand: convolution


def test_conv2d_is_a_cross_correlation():
    """The kernel is not flipped, 37 = 1*1 + 2*2 + 3*4 + 4*5; then strides on 1..16, and taps two apart."""
    x, weight = plane([1, 2, 3], [4, 5, 6], [7, 8, 9]), plane([1, 2], [3, 4])
    equal(oracle.conv2d(x, weight), plane([37, 47], [67, 77]))
    equal(oracle.conv2d(x, weight, np.array([0.5])), plane([37.5, 47.5], [67.5, 77.5]))
    equal(oracle.conv2d(COUNT, weight, stride=2), plane([44, 64], [124, 144]))
    equal(oracle.conv2d(COUNT, weight, stride=(1, 2)), plane([44, 64], [84, 104], [124, 144]))
    equal(oracle.conv2d(COUNT, weight, dilation=2), plane([78, 88], [118, 128]))


def test_conv2d_padding():
    """A lone pixel meets each weight in turn; unequal pads choose which."""
    weight = plane([1, 2, 3], [4, 5, 6], [7, 8, 9])
    equal(oracle.conv2d(plane([1]), weight, padding=2), weight[:, :, ::-1, ::-1])
    equal(oracle.conv2d(plane([2]), plane([1, 2], [3, 4]), padding=((1, 0), (0, 1))), plane([6]))
    equal(oracle.conv2d(plane([1]), plane([INF, 1]), padding=((0, 0), (1, 0))), plane([NAN]))  # inf * the 0 of a border


def test_conv2d_channels_and_groups():
    """Channels are summed within a group; output channels 0 and 1 belong to the first group."""
    x = np.array([1.0, 10, 100, 1000]).reshape(1, 4, 1, 1)
    full = np.array([[1.0, 2, 3, 4], [0, 0, 0, 1]]).reshape(2, 4, 1, 1)
    equal(oracle.conv2d(x, full).ravel(), np.array([4321.0, 1000]))
    paired = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]]).reshape(4, 2, 1, 1)
    equal(oracle.conv2d(x, paired, groups=2).ravel(), np.array([21.0, 43, 6500, 8700]))
    depthwise = np.array([1.0, 2, 3, 4, 5, 6, 7, 8]).reshape(8, 1, 1, 1)
    equal(oracle.conv2d(x, depthwise, groups=4).ravel(), np.array([1.0, 2, 30, 40, 500, 600, 7000, 8000]))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (None, [-1, 0.5, 7, NAN]),
        ("relu", [0, 0.5, 7, NAN]),
        ("relu6", [0, 0.5, 6, NAN]),
        ((None, 2), [-1, 0.5, 2, NAN]),
        ((0.75, None), [0.75, 0.75, 7, NAN]),
        ((-0.5, 0.25), [-0.5, 0.25, 0.25, NAN]),
    ],
)
def test_conv2d_bias_then_residual_then_activation(activation, expected):
    """The sum of all three, -4 + 1 + 2 = -1 and so on, is what the activation sees."""
    x, residual = plane([-4, -2, 5, 0]), plane([2, 1.5, 1, NAN])
    for drop in (slice(None), 0):  # batched, unbatched
        options = {"activation": activation, "residual": residual[drop]}
        equal(oracle.conv2d(x[drop], np.ones((1, 1, 1, 1)), np.ones(1), **options), plane(expected)[drop])


# ----------------------------------------------------------------------------------- by hand: subsampling and pooling


def test_subsample2d():
    """Give bias + weight * sum, each channel its own; the stride defaults to the kernel."""
    x = np.repeat(COUNT, 2, axis=1)
    weight, bias = np.array([2.0, -1]), np.array([10.0, 0.5])
    first, second = [[38, 54], [102, 118]], [[-13.5, -21.5], [-45.5, -53.5]]
    equal(oracle.subsample2d(x, weight, bias, 2), np.array([[first, second]], dtype=np.float64))
    row, one = plane([1, 2, 3]), np.ones(1)
    equal(oracle.subsample2d(row, one, one, (1, 2), 1), plane([4, 6]))
    equal(oracle.subsample2d(row, one, one, (1, 2)), plane([4]))
    equal(oracle.subsample2d(row, one, one, (1, 2), ceil_mode=True), plane([4, 4]))
    equal(oracle.subsample2d(row, one, one, (1, 2), 2, (0, 1)), plane([2, 6]))


def test_pooling_of_one_to_sixteen():
    """Kernel 3, stride 2, padding 1, ceil: windows see 2, 3 and 1 rows; right padding counts, the overhang does not."""
    sums = plane([14, 30, 12], [57, 99, 36], [27, 45, 16])
    averages = plane([14 / 9, 30 / 9, 2], [57 / 9, 11, 6], [4.5, 7.5, 4])
    maxima, minima = plane([6, 8, 8], [14, 16, 16], [14, 16, 16]), plane([1, 2, 4], [5, 6, 8], [13, 14, 16])
    window = 3, 2, 1
    equal(oracle.sum_pool2d(COUNT, *window, True), sums)
    equal(oracle.avg_pool2d(COUNT, *window, True), averages)
    np.testing.assert_array_equal(averages.round(3)[0, 0], [[1.556, 3.333, 2], [6.333, 11, 6], [4.5, 7.5, 4]])
    equal(oracle.avg_pool2d(COUNT, *window, True, False), plane([3.5, 5, 6], [9.5, 11, 12], [13.5, 15, 16]))
    equal(oracle.avg_pool2d(COUNT, *window, True, divisor_override=10), sums / 10)
    equal(oracle.avg_pool2d(COUNT, *window), averages[:, :, :2, :2])
    for pool, extrema in [(oracle.max_pool2d, maxima), (oracle.min_pool2d, minima)]:
        equal(pool(COUNT, *window, ceil_mode=True, return_indices=True), (extrema, extrema.astype(np.int64) - 1))
        equal(pool(COUNT, *window, ceil_mode=True), extrema)


def test_dilated_average_counts_taps():
    """Taps 3 apart on 1..5 with one padded element each side; in ceil mode the last window has one tap that counts."""
    x = plane([1, 2, 3, 4, 5])
    kernel, padding, dilation = (1, 2), (0, 1), (1, 3)
    equal(oracle.sum_pool2d(x, kernel, 1, padding, dilation=dilation), plane([3, 5, 7, 3]))
    equal(oracle.avg_pool2d(x, kernel, 1, padding, dilation=dilation), plane([1.5, 2.5, 3.5, 1.5]))
    equal(oracle.avg_pool2d(x, kernel, 1, padding, False, False, dilation=dilation), plane([3, 2.5, 3.5, 3]))
    equal(oracle.avg_pool2d(x, kernel, 2, padding, True, dilation=dilation), plane([1.5, 3.5, 4]))
    equal(oracle.avg_pool2d(x, kernel, 2, padding, True, False, dilation=dilation), plane([3, 3.5, 4]))


@pytest.mark.parametrize(
    ("row", "value", "index"),
    [
        ([1, 3, 3, 2], 3, 1),  # the first of equals
        ([0.0, -0.0, 0.0], 0.0, 0),
        ([NAN, 1, NAN, INF], NAN, 2),  # the last NaN
        ([NAN, 1, 2], NAN, 0),
        ([-INF, -INF, -INF], -INF, 0),
        ([-INF, -5, INF, INF], INF, 2),
    ],
)
def test_ties_nan_and_infinities(row, value, index):
    """NaN wins; the first of equals gives the index, of NaN the last. Minimum is the mirror image."""
    x, where = plane(row), plane([index], dtype=np.int64)
    equal(oracle.max_pool2d(x, (1, len(row)), return_indices=True), (plane([value]), where))
    equal(oracle.min_pool2d(-x, (1, len(row)), return_indices=True), (plane([-value]), where))
    equal(oracle.adaptive_max_pool2d(x, 1, return_indices=True), (plane([value]), where))
    equal(oracle.global_max_pool2d(x), plane([value]))


def test_all_infinite_gives_the_first_tap_on_the_input():
    """Padding has no index."""
    first = plane([0, 1, 3], [4, 5, 7], [12, 13, 15], dtype=np.int64)
    for pool, fill in [(oracle.max_pool2d, -INF), (oracle.min_pool2d, INF)]:
        x = np.full((1, 1, 4, 4), fill)
        equal(pool(x, 3, 2, 1, ceil_mode=True, return_indices=True), (x[..., :3, :3], first))


def test_windows_that_see_no_input():
    """A ring of windows on the padding around a lone 5."""
    x, window = plane([5]), (1, 1, 1)

    def ring(fill):
        return plane([fill] * 3, [fill, 5, fill], [fill] * 3)

    for pool, fill in [(oracle.max_pool2d, -INF), (oracle.min_pool2d, INF)]:
        equal(pool(x, *window, return_indices=True), (ring(fill), np.zeros((1, 1, 3, 3), np.int64)))
    equal(oracle.sum_pool2d(x, *window), ring(0))
    equal(oracle.avg_pool2d(x, *window), ring(0))
    equal(oracle.avg_pool2d(x, *window, count_include_pad=False), ring(0))
    for norm_type in (1, 2, INF):
        equal(oracle.lp_pool2d(x, norm_type, 1, 1, padding=1), ring(0))
    between = oracle.max_pool2d(plane([5, 6]), (1, 2), 1, (0, 2), (1, 3))  # taps 3 apart: -2 and 1, -1 and 2, 0 and 3
    equal(between, plane([6, -INF, 5]))


@pytest.mark.parametrize(("p", "norm"), [(0.5, 31 + 12 * 3**0.5), (1, 19), (2, 13), (3, math.cbrt(1819)), (INF, 12)])
def test_lp_pool2d(p, norm):
    """Absolute values are taken whatever the power."""
    close(oracle.lp_pool2d(plane([3, -4], [0, -12]), p, 2), plane([norm]))
    equal(oracle.lp_pool2d(plane([3, NAN]), p, (1, 2)), plane([NAN]))
    equal(oracle.lp_pool2d(plane([-INF, 1]), p, (1, 2)), plane([INF]))


def test_lp_pool2d_overhang_and_padding_add_nothing():
    """Of 4x4 ones, kernel 3 and stride 2: 9, 6 and 4 of them in a window."""
    ones, root = np.ones((1, 1, 4, 4)), math.sqrt(6)
    close(oracle.lp_pool2d(ones, 2, 3, 2, True), plane([3, root], [root, 2]))
    close(oracle.lp_pool2d(ones, 2, 3, 2, padding=1), plane([2, root], [root, 3]))
    close(oracle.lp_pool2d(ones, 2, 2, 1, dilation=3), plane([2]))


def test_adaptive_and_global_pooling():
    """7 to 3: windows [0, 3), [2, 5), [4, 7); 2 to 3: [0, 1), [0, 2), [1, 2)."""
    x = plane([1, 2, 4, 8, 16, 32, 64])
    close(oracle.adaptive_avg_pool2d(x, (1, 3)), plane([7 / 3, 28 / 3, 112 / 3]))
    equal(oracle.adaptive_max_pool2d(x, (None, 3), True), (plane([4, 16, 64]), plane([2, 4, 6], dtype=np.int64)))
    equal(oracle.adaptive_avg_pool2d(plane([1, 2]), (2, 3)), plane([1, 1.5, 2], [1, 1.5, 2]))
    equal(oracle.adaptive_avg_pool2d(COUNT, 2), plane([3.5, 5.5], [11.5, 13.5]))
    equal(oracle.adaptive_max_pool2d(COUNT, (None, None)), COUNT)
    equal(oracle.global_avg_pool2d(COUNT), plane([8.5]))
    equal(oracle.global_max_pool2d(COUNT), plane([16]))


def test_pooling_of_integers():
    """Extrema keep the dtype, sums wrap in 64 bits, means are float64; a window of padding has the other end."""
    x, one = plane([250, 7, 255, 0], dtype=np.uint8), ((1, 1), (1, 3), ((0, 0), (2, 0)))
    equal(oracle.max_pool2d(x, (1, 2)), plane([250, 255], dtype=np.uint8))
    equal(oracle.min_pool2d(x.view(np.int8), (1, 2)), plane([-6, -1], dtype=np.int8))
    equal(oracle.sum_pool2d(x, (1, 2)), plane([257, 255], dtype=np.uint64))
    equal(oracle.avg_pool2d(x, (1, 2)), plane([128.5, 127.5]))
    equal(oracle.max_pool2d(x.view(np.int8), *one), plane([-128, 7], dtype=np.int8))
    equal(oracle.min_pool2d(x > 0, *one), plane([True, True], dtype=bool))
    equal(oracle.sum_pool2d(np.full((1, 1, 1, 2), 2**62), (1, 2)), plane([-(2**63)], dtype=np.int64))


# --------------------------------------------------------------------------------------------------- exact arithmetic

fractions = np.vectorize(Fraction, otypes=[object])


def test_float64_agrees_with_rational_arithmetic_to_1e_12():
    """Convolution, subsampling and pooling of float64 against fractions, which do not round."""
    x, weight, bias, scale = noise(4, 1, 4, 6, 7), noise(5, 6, 2, 3, 2), noise(6, 6), noise(7, 4)
    kernel, stride, pads, dilation = (3, 2), (2, 1), ((1, 0), (2, 1)), (1, 2)
    padded = np.pad(fractions(x[0]), ((0, 0), *pads), constant_values=Fraction(0))
    windows = sliding_window_view(padded, kernel, axis=(1, 2))[:, ::2]  # (C, H, W, 3, 2)
    dilated = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, :, :, ::2]
    products = [
        (dilated[first : first + 2] * fractions(weight[o])[:, None, None]).sum(axis=(0, 3, 4)) + Fraction(bias[o])
        for o, first in enumerate([0, 0, 0, 2, 2, 2])
    ]
    sums, squares = windows.sum(axis=(3, 4)), (windows**2).sum(axis=(3, 4))
    subsampled = sums * fractions(scale)[:, None, None] + fractions(bias[:4])[:, None, None]

    def require(actual, exact):
        np.testing.assert_allclose(actual, np.array([exact], np.float64), rtol=1e-12, atol=0, strict=True)

    window = {"kernel_size": kernel, "stride": stride, "padding": pads}
    require(oracle.conv2d(x, weight, bias, stride, pads, dilation, groups=2), products)
    require(oracle.subsample2d(x, scale, bias[:4], **window), subsampled)
    require(oracle.sum_pool2d(x, **window), sums)
    require(oracle.sum_pool2d(x, **window, dilation=dilation), dilated.sum(axis=(3, 4)))
    require(oracle.avg_pool2d(x, **window), sums / Fraction(6))
    require(oracle.lp_pool2d(x, 2, **window) ** 2, squares)


# ------------------------------------------------------------------------------------------------------------ PyTorch

SIZES = [(1, 1), (2, 3), (4, 4), (5, 8), (7, 6), (9, 10)]
KERNELS, STRIDES = [(1, 1), (2, 2), (3, 3), (5, 5), (2, 3), (4, 1)], [(1, 1), (2, 2), (3, 3), (1, 4)]
PADDINGS, DILATIONS = [(0, 0), (1, 1), (2, 2), (2, 0)], [(1, 1), (2, 2), (3, 1)]


@pytest.fixture(scope="module")
def pytorch():
    """Give a function that calls torch.nn.functional on arrays; on one thread, which suits these sizes."""
    torch = pytest.importorskip("torch")

    def call(name, *arguments, **options):
        tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        result = getattr(torch.nn.functional, name)(*tensors, **options)
        return tuple(part.numpy() for part in result) if isinstance(result, tuple) else result.numpy()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(threads)


def fits(size, kernel, padding, dilation):
    """Say whether the window is no larger than the padded input."""
    axes = zip(size, kernel, padding, dilation, strict=True)
    return all(d * (k - 1) + 1 <= n + 2 * p for n, k, p, d in axes)


def check_conv2d(pytorch, size, kernel, stride, padding, dilation, channels=4, groups=1, batch=2):
    """Compare a convolution with zeros with PyTorch's, and those with other borders with PyTorch's after np.pad."""
    x, bias = noise(9, batch, channels, *size), noise(10, 2 * groups)
    weight = noise(11, 2 * groups, channels // groups, *kernel)
    wanted = pytorch("conv2d", x, weight, bias, stride, padding, dilation, groups)
    close(oracle.conv2d(x, weight, bias, stride, padding, dilation, groups), wanted)
    for mode, (numpy_mode, _) in BORDERS.items():
        padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), mode=numpy_mode)
        wanted = pytorch("conv2d", padded, weight, bias, stride, 0, dilation, groups)
        close(oracle.conv2d(x, weight, bias, stride, padding, dilation, groups, padding_mode=mode), wanted)


def check_max_pool2d(pytorch, x, *window):
    """Compare values and indices, NaN, ties and infinities included."""
    values, indices = pytorch("max_pool2d", x, *window, return_indices=True)
    # Where a dilated window sees no input, PyTorch's index is that of a tap outside the plane; the oracle's is 0.
    indices = np.where(pytorch("max_pool2d", np.zeros_like(x), *window) == -INF, 0, indices)
    equal(oracle.max_pool2d(x, *window, return_indices=True), (values, indices))
    equal(oracle.min_pool2d(-x, *window, return_indices=True), (-values, indices))


def check_sums(pytorch, x, kernel, stride, padding, ceil_mode):
    """Compare averages with every divisor; sums, subsampling and Lp norms are averages with the divisor 1."""
    window = kernel, stride, padding, ceil_mode
    for options in itertools.product((True, False), (None, 1, 7, -2)):
        close(oracle.avg_pool2d(x, *window, *options), pytorch("avg_pool2d", x, *window, *options))
    sums = pytorch("avg_pool2d", x, *window, divisor_override=1)
    close(oracle.sum_pool2d(x, *window), sums)
    weight, bias = noise(12, x.shape[1]), noise(13, x.shape[1])
    close(oracle.subsample2d(x, weight, bias, *window), weight[:, None, None] * sums + bias[:, None, None])
    for norm_type in (1, 2, 3, 2.5):
        # PyTorch's own lp_pool2d scales the norm of windows that overhang, and has no padding.
        wanted = pytorch("avg_pool2d", np.abs(x) ** norm_type, *window, divisor_override=1) ** (1 / norm_type)
        close(oracle.lp_pool2d(x, norm_type, kernel, stride, ceil_mode, padding=padding), wanted)


@pytest.mark.parametrize("size", SIZES)
def test_conv2d_agrees_with_pytorch(pytorch, size):
    """Strides, paddings, dilations and borders at every size where the window fits; groups."""
    for kernel, stride, padding, dilation in itertools.product(KERNELS[1:], STRIDES[1:], PADDINGS, DILATIONS):
        if fits(size, kernel, padding, dilation):
            check_conv2d(pytorch, size, kernel, stride, padding, dilation)
    for channels, groups in [(1, 1), (4, 2), (6, 3), (5, 5)]:
        check_conv2d(pytorch, size, (3, 3), (1, 1), (1, 1), (1, 1), channels, groups)
        check_conv2d(pytorch, size, (1, 1), (2, 2), (0, 0), (1, 1), channels, groups)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("kernel", "dilation"), [((2, 2), 1), ((3, 3), 1), ((4, 3), 1), ((2, 2), (3, 2))])
def test_conv2d_same_agrees_with_pytorch(pytorch, kernel, dilation):
    """PyTorch knows "same" at stride 1."""
    x, weight = noise(14, 2, 3, 9, 8), noise(15, 2, 3, *kernel)
    wanted = pytorch("conv2d", x, weight, padding="same", dilation=dilation)
    close(oracle.conv2d(x, weight, padding="same", dilation=dilation), wanted)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_pooling_agrees_with_pytorch(pytorch, size, ceil_mode):
    """Every window that PyTorch takes at every size; NaN, infinities and ties in the maxima."""
    for kernel, stride, padding, dilation in itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS):
        if not fits(size, kernel, padding, dilation) or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
            continue
        check_max_pool2d(pytorch, awkward(16, 2, 3, *size), kernel, stride, padding, dilation, ceil_mode)
        if dilation == (1, 1):
            check_sums(pytorch, noise(17, 2, 3, *size), kernel, stride, padding, ceil_mode)


@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
def test_dilated_and_widely_padded_pooling_agrees_with_pytorch(pytorch, dilation):
    """What PyTorch's poolings refuse: sums as convolutions with ones, maxima of an input padded with -inf."""
    x, kernel, ones = noise(18, 2, 1, 7, 9), (3, 2), np.ones((1, 1, 3, 2))
    for stride, pads in itertools.product((1, 2, (3, 1)), (((0, 0), (0, 0)), ((2, 1), (0, 1)), ((0, 2), (1, 1)))):
        spread = [(0, 0), (0, 0), *pads]
        window = {"kernel_size": kernel, "stride": stride, "padding": pads, "dilation": dilation}
        padded, inside = (np.pad(a, spread) for a in (x, np.ones_like(x)))
        sums, counts = (pytorch("conv2d", a, ones, None, stride, 0, dilation) for a in (padded, inside))
        close(oracle.sum_pool2d(x, **window), sums)
        close(oracle.avg_pool2d(x, **window), sums / 6)
        close(oracle.avg_pool2d(x, **window, count_include_pad=False), sums / counts)
        lowest = np.pad(x, spread, constant_values=-INF)
        equal(oracle.max_pool2d(x, **window), pytorch("max_pool2d", lowest, kernel, stride, 0, dilation))


@pytest.mark.parametrize("window", [(1, 2, 2), (2, 3, 1), (2, (2, 4), 2), (3, 2, 1), (4, 3, 3)])
def test_lp_pool2d_agrees_with_pytorch(pytorch, window):
    """Without overhang, and for odd powers without negatives, PyTorch's own function gives the norm."""
    x = noise(19, 2, 3, 8, 10)
    x = x if window[0] % 2 == 0 else np.abs(x)
    close(oracle.lp_pool2d(x, *window), pytorch("lp_pool2d", x, *window))


@pytest.mark.parametrize("output_size", [1, 2, 3, 7, (1, 5), (None, 3), (4, None), (13, 2)])
def test_adaptive_pooling_agrees_with_pytorch(pytorch, output_size):
    """Outputs that divide the input, that do not, and that are larger; NaN and ties in the maxima."""
    for size in SIZES:
        x, odd = noise(20, 2, 3, *size), awkward(21, 2, 3, *size)
        close(oracle.adaptive_avg_pool2d(x, output_size), pytorch("adaptive_avg_pool2d", x, output_size))
        indexed = pytorch("adaptive_max_pool2d", odd, output_size, return_indices=True)
        equal(oracle.adaptive_max_pool2d(odd, output_size, return_indices=True), indexed)
        close(oracle.global_avg_pool2d(x), pytorch("adaptive_avg_pool2d", x, 1))
        equal(oracle.global_max_pool2d(odd), pytorch("adaptive_max_pool2d", odd, 1))


# Size, kernel, stride, padding and dilation, each a pair.
any_window = st.tuples(*(st.tuples(*[st.integers(*ends)] * 2) for ends in [(1, 11), (1, 5), (1, 6), (0, 4), (1, 3)]))


@settings(deadline=None, max_examples=80)
@given(window=any_window, channels=st.sampled_from([(1, 1), (6, 2), (3, 3)]), batch=st.integers(0, 2))
def test_any_conv2d_agrees_with_pytorch(pytorch, window, channels, batch):
    """Any geometry."""
    size, kernel, _, padding, dilation = window
    assume(fits(size, kernel, padding, dilation))
    check_conv2d(pytorch, *window, *channels, batch)


@settings(deadline=None, max_examples=150)
@given(window=any_window, ceil_mode=st.booleans(), seed=st.integers(0, 10**6))
def test_any_pooling_agrees_with_pytorch(pytorch, window, ceil_mode, seed):
    """Any geometry that PyTorch takes."""
    size, kernel, stride, padding, dilation = window
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    assume(fits(size, kernel, padding, (1, 1)))
    check_sums(pytorch, noise(seed, 2, 2, *size), kernel, stride, padding, ceil_mode)
    if fits(size, kernel, padding, dilation):
        check_max_pool2d(pytorch, awkward(seed, 2, 2, *size), kernel, stride, padding, dilation, ceil_mode)
