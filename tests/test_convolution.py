"""Convolution against the oracle over every argument, with every source that a plan can choose."""

import itertools
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    LIMITS,
    TAKEN,
    Frame,
    Planner,
    assert_close,
    between,
    integers,
    lanes_of,
    native,
    needs_threads,
    noise,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from processes import run_apart
from sweeps import examples, sweep

import fastpool
from fastpool import oracle, runtime
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.routines.pack import PACKED_STRIDES

PADDING_MODES = ("zeros", *DATA_PADDING_MODES)


def check(x, weight, bias=None, *arguments, residual=None, **options):
    """Require `conv2d` and `Conv2d`, returning or filling an array, to equal the oracle; give the result."""
    expected = oracle.conv2d(native(x), native(weight), bias, *arguments, residual=residual, **options)
    result = fastpool.conv2d(x, weight, bias, *arguments, residual=residual, **options)
    assert_close(result, expected)
    frame = Frame(expected.shape, result.dtype.type)
    prepared = fastpool.Conv2d(weight, bias, *arguments, **options)
    assert prepared(x, residual=residual, out=frame.array) is frame.array
    assert_close(frame.array, expected)
    frame.assert_kept()
    return result


# -------------------------------------------------------------------------------------------------- every argument

STRIDES = [1, 2, 3, 4, 5, (1, 2), (2, 1), (3, 2), (1, 5), (4, 3)]
KERNELS = [(1, 1), (1, 3), (2, 1), (3, 3), (5, 2), (4, 7)]
PADDINGS = [0, 2, (1, 3), ((2, 0), (0, 1)), [[0, 3], [4, 1]], "valid", "same", "same_upper", "same_lower"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
@sweep
def test_strides_kernels_dilations_and_paddings(planner, source, dtype):
    """A third of all combinations for each source and dtype, which together are all of them, more than twice."""
    planner.force(source=source)
    part = [None, *LIMITS].index(source) + DTYPES.index(dtype)
    x = integers(5, (2, 4, 9, 13), dtype)
    taken = Counter()
    for index, (kernel, padding) in enumerate(itertools.product(KERNELS, PADDINGS)):
        for stride, dilation in itertools.islice(
            itertools.product(STRIDES, [1, 2, (3, 1)]), (part + index) % 3, None, 3
        ):
            groups = 1 + index % 2
            weight = integers(6, (6, 4 // groups, *kernel), dtype, 4)
            arguments = (x, weight, integers(7, (6,), dtype), stride, padding, dilation, groups)
            try:
                expected = oracle.conv2d(*arguments)
            except ValueError:
                with pytest.raises(ValueError, match="weight must fit"):
                    fastpool.conv2d(*arguments)
                continue
            assert_close(fastpool.conv2d(*arguments), expected)
        taken.update(plan.steps[-1].fields.get("source") for plan in planner.plans)
        planner.plans.clear()
    assert taken.total() > 300
    if source is not None:
        assert taken[TAKEN[source]] > 300


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 4])
def test_windows_that_see_padding_only_along_one_axis(planner, groups, dtype):
    """One element along the depth, behind the only window: neither depthwise nor Winograd may take it for an image."""
    x, bias = integers(3, (2, 4, 9, 11), dtype), integers(5, (4,), dtype)
    weight = integers(4, (4, 4 // groups, 3, 3), dtype)
    for pads, algorithm in itertools.product((0, 1, 2), ("auto", "direct") if groups == 4 else ("auto", "winograd")):
        options = {"stride": (3, 1, 1), "padding": ((pads, 0), (1, 1), (1, 1)), "groups": groups}
        expected = oracle.conv2d(x * (pads == 0), weight, bias, 1, 1, groups=groups)
        result = fastpool.conv3d(x[:, :, None], weight[:, :, None], bias, **options, algorithm=algorithm)
        assert_close(result, expected[:, :, None])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("source", LIMITS)
@sweep
def test_padding_modes(planner, source, mode, dtype):
    """Padding many times as large as the input included."""
    planner.force(source=source)
    weight, bias = integers(8, (3, 2, 3, 2), dtype, 4), integers(9, (3,), dtype)
    small, large = (
        [(1, 2), ((2, 1), (0, 3)), ((0, 2), (1, 0))],
        [((11, 7), (5, 17)), (4, 40), (23, 5), "same", "same_lower"],
    )
    steps = [(1, 1), (2, 1), ((3, 2), 1), ((1, 4), 1)]
    cases = [*itertools.product(small, steps), *itertools.product(large, [*steps, (1, (1, 2)), (2, (3, 4))])]
    sizes = [(4, 5), (1, 2), (2, 1), (3, 7)]
    # Each case has two sizes; the other two with the other dtype.
    for index, (padding, (stride, dilation)) in enumerate(cases * 2):
        size = sizes[(index + index // len(cases) + 2 * DTYPES.index(dtype)) % 4]
        x = integers(10, (4, 2, *size), dtype)  # fewer planes are packed by each task, whatever the limits
        layout = "every second column" if size[1] % 2 else "contiguous"
        check(LAYOUTS[layout](x), weight, bias, stride, padding, dilation, padding_mode=mode)
    planner.assert_taken(source=source)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
@pytest.mark.parametrize(
    ("groups", "group_in", "group_out"),
    [(1, 1, 1), (1, 5, 3), (2, 3, 4), (3, 2, 1), (4, 1, 3), (7, 1, 1), (40, 1, 1), (5, 1, 2), (2, 20, 35), (3, 17, 9)],
)
def test_groups_and_depthwise_with_multipliers(planner, source, groups, group_in, group_out, dtype):
    planner.force(source=source)
    x = integers(11, (2, groups * group_in, 7, 6), dtype)  # dilated, two columns are no tile to be read in place
    weight = integers(12, (groups * group_out, group_in, 3, 3), dtype, 4)
    bias = integers(13, (groups * group_out,), dtype)
    check(x, weight, bias, 1, 1, groups=groups)
    check(x, weight, None, 2, "same", groups=groups, padding_mode="replicate")
    check(x, weight, bias, (2, 1), 0, 2, groups=groups)
    if source is not None:
        planner.assert_taken(source=source)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "out_channels", "size", "kernel", "options"),
    [
        (3, 64, (40, 37), 7, {"stride": 2, "padding": 3}),
        (64, 48, (14, 14), 3, {"padding": 1}),
        (32, 70, (13, 11), 3, {"stride": 2, "padding": "same"}),
        (160, 40, (7, 7), 1, {}),
        (128, 33, (16, 16), 1, {}),
        (16, 32, (64, 64), 1, {}),
        (256, 256, (2, 2), 2, {}),
        (48, 48, (15, 17), 5, {"groups": 48, "padding": 2, "stride": 2}),
        (1, 1, (5, 90), (1, 31), {}),
        (1, 1, (90, 5), (31, 1), {}),
    ],
)
def test_layers_of_networks(channels, out_channels, size, kernel, options, dtype):
    """Normally distributed numbers, through the plans that are really taken."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    weight = noise(14, (out_channels, channels // options.get("groups", 1), *kernel), dtype)
    check(noise(15, (2, channels, *size), dtype), weight, noise(16, (out_channels,), dtype), **options)


# -------------------------------------------------------------------------------------------------- shapes of input


@pytest.mark.parametrize("stride", [*PACKED_STRIDES, 9])
@pytest.mark.parametrize("layout", ["contiguous", "every second column", "columns reversed", "every third row"])
def test_rows_are_packed_in_vectors_wherever_they_can_be(planner, layout, stride):
    """At most strides, if neighbours in a row are neighbours in memory; else one element after the other."""
    x, weight = integers(3, (2, 3, 9, 77), np.float32), integers(4, (5, 3, 2, 3), np.float32)
    planner.force(source="private, row by row")
    expected = oracle.conv2d(x, weight, None, (2, stride), 1)
    assert_close(fastpool.conv2d(LAYOUTS[layout](x), weight, None, (2, stride), 1), expected)
    in_vectors = stride in PACKED_STRIDES and "column" not in layout
    variant = f"stride {stride}" if in_vectors else ""
    assert {plan.steps[0].fields["pack_channel"].shape for plan in planner.plans} == {(variant, 1, 1)}


@pytest.mark.parametrize("dtype", [*DTYPES, np.int8])
@pytest.mark.parametrize("stride", PACKED_STRIDES)
@sweep
def test_rows_of_every_width_are_packed_at_every_stride(planner, stride, dtype):
    """Up to two vectors of outputs and two, with and without columns that no output sees; filters of several widths."""
    planner.force(source="private, row by row")
    for kernel in {1, min(stride, 3), stride, stride + 2}:
        weight = integers(5, (3, 2, 1, kernel), dtype, 2) + dtype(3)
        for outputs in range(1, 2 * lanes_of(np.float32) + 3):
            padding = (0, 0), (1 + outputs % kernel, kernel // 2)
            width = (outputs - 1) * stride + kernel + outputs % stride - sum(padding[1])
            if width > 0:
                x = between(integers(6, (1, 2, 2, width), dtype, 4), 100 if dtype is np.int8 else np.nan)
                options = {"stride": (1, stride), "padding": padding}
                assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, **options))
    assert {plan.steps[0].fields["pack_channel"].shape[0].split(" from")[0] for plan in planner.plans} == {
        f"stride {stride}"
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
def test_batches(planner, source, dtype):
    """Any number of images, none, and no batch axis at all."""
    planner.force(source=source)
    weight, bias = integers(19, (5, 3, 3, 3), dtype, 4), integers(20, (5,), dtype)
    x = integers(21, (6, 3, 7, 8), dtype)
    for options in ({}, {"stride": 2, "padding": 1}, {"padding": 2, "padding_mode": "circular"}):
        whole = check(x, weight, bias, **options)
        for n in (0, 1, 2, 5):
            residual = integers(22, (n, *whole.shape[1:]), dtype)
            assert_close(check(x[:n], weight, bias, **options), whole[:n])
            check(x[:n], weight, bias, residual=residual, **options)
        assert_close(check(x[2], weight, bias, **options), whole[2])
        residual = integers(23, whole.shape[1:], dtype)
        check(x[2], weight, bias, residual=residual, activation="relu", **options)


def test_a_single_element():
    for shape in [(1, 1, 1), (1, 1, 1, 1)]:
        result = check(np.full(shape, 3.0), np.full((1, 1, 1, 1), 5.0), np.array([2.0]))
        assert result.shape == shape
        assert result.item() == 17.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [None, *LIMITS])
def test_strides_alignment_and_byte_order(planner, source, layout, dtype):
    """Of x, weight, bias, residual and out, one after the other and all together."""
    planner.force(source=source)
    change = LAYOUTS[layout]
    plain = {
        "x": integers(24, (2, 4, 6, 33), dtype),
        "weight": integers(25, (10, 2, 3, 2), dtype, 4),
        "bias": integers(26, (10,), dtype),
    }
    for options in (
        {},
        {"stride": (2, 1)},
        {"stride": 2, "padding": 1},
        {"stride": 3, "padding_mode": "reflect", "padding": 2},
    ):
        expected = oracle.conv2d(**plain, groups=2, **options)
        residual = integers(27, expected.shape, dtype)
        total = expected + residual
        for changed in [(name,) for name in plain] + [tuple(plain)]:
            arrays = {name: change(a) if name in changed else a for name, a in plain.items()}
            assert_close(fastpool.conv2d(**arrays, groups=2, **options), expected)
            prepared = fastpool.Conv2d(arrays["weight"], arrays["bias"], groups=2, **options)
            assert_close(prepared(arrays["x"], residual=change(residual)), total)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
def test_broadcast_arrays(planner, source, dtype):
    """Strides of zero in any axis."""
    planner.force(source=source)
    x, weight = integers(28, (3, 4, 5, 20), dtype), integers(29, (6, 4, 2, 2), dtype, 4)
    bias, residual = integers(30, (6,), dtype), integers(31, (3, 6, 4, 19), dtype)
    for axes in itertools.chain.from_iterable(itertools.combinations(range(4), n) for n in range(1, 5)):
        first = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(4))
        flat = [np.broadcast_to(a[first], a.shape) for a in (x, weight, residual)]
        check(flat[0], flat[1], np.broadcast_to(bias[:1], (6,)), residual=flat[2])
        check(flat[0], weight, bias, 2, 1)


def test_subnormal_numbers_are_kept():
    x = np.full((1, 1, 4, 4), 1e-310)
    assert_close(fastpool.conv2d(x, np.ones((1, 1, 2, 2))), np.full((1, 1, 3, 3), 4e-310))


# ----------------------------------------------------------------------------------- activation, residual, bias, out

ACTIVATIONS = [
    None,
    "relu",
    "relu6",
    (None, None),
    (0, None),
    (None, -3),
    (-5, 7),
    [2.5, 2.5],
    (np.float32(-1.5), np.int64(9)),
    (float("-inf"), float("inf")),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activation_after_bias_and_residual(planner, source, activation, dtype):
    planner.force(source=source)
    for shape, options in [((2, 3, 5, 40), {}), ((2, 3, 6, 7), {"stride": 2, "padding": 1})]:
        x, weight = integers(32, shape, dtype, 3), integers(33, (20, 3, 2, 3), dtype, 2)
        bias = integers(34, (20,), dtype)
        bare = check(x, weight, activation=activation, **options)
        residual = integers(35, bare.shape, dtype)
        check(x, weight, bias, activation=activation, **options)
        check(x, weight, None, activation=activation, residual=residual, **options)
        check(x, weight, bias, activation=activation, residual=residual, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", (-1, None), (None, 1)], ids=repr)
def test_nan_and_infinities(planner, source, activation, dtype):
    """From x, weight, bias and residual, through every activation, into exactly the outputs that see them."""
    planner.force(source=source)
    clean = {
        "x": integers(36, (2, 4, 6, 40), dtype, 3),
        "weight": integers(37, (18, 4, 2, 2), dtype, 3),
        "bias": integers(38, (18,), dtype),
    }
    for options in ({}, {"stride": 2, "padding": 1}):
        shape = oracle.conv2d(**clean, **options).shape
        for name, value in itertools.product([*clean, "residual"], [np.nan, np.inf, -np.inf]):
            arrays = {key: a.copy() for key, a in (clean | {"residual": integers(39, shape, dtype)}).items()}
            arrays[name].reshape(-1)[arrays[name].size // 2 :: 17] = value
            result = check(**arrays, activation=activation, **options)
            if np.isnan(value):
                assert 0 < np.isnan(result).sum() < result.size


def test_out_is_returned_and_filled():
    """Contiguous, strided, reversed and misaligned arrays, and slices of a batch."""
    x, weight = integers(40, (2, 3, 6, 21), np.float32), integers(41, (9, 3, 3, 3), np.float32)
    for options in ({}, {"stride": 2, "padding": 1}, {"residual": integers(42, (2, 9, 4, 19), np.float32)}):
        expected = oracle.conv2d(x, weight, **options)
        for layout, change in LAYOUTS.items():
            if "byte" in layout or layout == "read-only":
                continue  # out has to be native and writeable
            out = change(np.zeros_like(expected))
            assert fastpool.conv2d(x, weight, out=out, **options) is out
            assert_close(np.ascontiguousarray(out), expected)
        for contiguous in (True, False):
            frame = Frame(expected.shape, np.float32, contiguous)
            assert (
                fastpool.Conv2d(weight, **{k: v for k, v in options.items() if k != "residual"})(
                    x, residual=options.get("residual"), out=frame.array
                )
                is frame.array
            )
            assert_close(frame.array, expected)
            frame.assert_kept()


def test_out_of_an_empty_batch():
    out = np.empty((0, 1, 2, 2))
    assert fastpool.conv2d(np.ones((0, 1, 3, 3)), np.ones((1, 1, 2, 2)), out=out) is out


def test_inputs_are_left_alone():
    arrays = [noise(43, shape, np.float64) for shape in [(2, 3, 6, 7), (4, 3, 3, 3), (4,), (2, 4, 3, 4)]]
    copies = [a.copy() for a in arrays]
    for kept in arrays:
        kept.flags.writeable = False
    result = fastpool.conv2d(*arrays[:3], 2, 1, residual=arrays[3], activation="relu")
    assert not any(np.shares_memory(result, a) for a in arrays)
    for a, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


# ----------------------------------------------------------------------------------------------------------- Conv2d


@pytest.mark.parametrize("layout", ["contiguous", "all reversed", "misaligned", "byte-swapped", "channels last"])
def test_conv2d_owns_what_it_was_given(layout):
    """Changing weight, bias, stride, padding or activation afterwards changes nothing, whether or not it was called."""
    weight, bias = (LAYOUTS[layout](integers(s, shape, np.float64)) for s, shape in [(44, (3, 2, 3, 3)), (45, (3,))])
    lists = {"stride": [1, 2], "padding": [[1, 0], [2, 1]], "dilation": [2, 1], "activation": [-40, 40]}
    x = integers(46, (2, 2, 9, 8), np.float64)
    expected = oracle.conv2d(x, weight.copy(), bias.copy(), **lists)
    called, fresh = (fastpool.Conv2d(weight, bias, **lists) for _ in range(2))
    assert_close(called(x), expected)
    weight[...] = np.nan
    bias[...] = np.nan
    lists["stride"][:], lists["dilation"][:], lists["activation"][:] = [3, 3], [1, 1], [0, 0]
    lists["padding"][0][:], lists["padding"][1][:] = [4, 4], [4, 4]
    for conv in (called, fresh):
        assert_close(conv(x), expected)
        assert_close(conv(x[..., :-1]), expected[..., :-1])  # another plan


def test_numpy_integers_are_integers():
    """Wherever an integer is taken, alone or in a sequence or an array."""
    x, weight = integers(57, (1, 4, 7, 8), np.float64), integers(58, (4, 2, 2, 3), np.float64)
    one, two = np.int64(1), np.uint8(2)
    expected = oracle.conv2d(x, weight, None, 2, 1, 1, 2)
    assert_close(fastpool.conv2d(x, weight, None, two, one, one, two), expected)
    assert_close(fastpool.conv2d(x, weight, None, [two, 2], (one, 1), np.array([1, 1]), two), expected)
    assert_close(fastpool.conv2d(x, weight, None, np.array([2, 2]), np.array([[1, 1], [1, 1]]), groups=two), expected)


def test_conv2d_serves_any_input():
    """Sizes, batches and layouts in any order: weights are packed again where the tile differs."""
    weight, bias = integers(47, (40, 5, 3, 3), np.float32, 4), integers(48, (40,), np.float32)
    conv = fastpool.Conv2d(weight, bias, 1, "same", padding_mode="symmetric", activation="relu")
    shapes = [(1, 5, 4, 4), (3, 5, 30, 31), (5, 7, 1), (2, 5, 1, 50), (0, 5, 4, 4), (1, 5, 14, 14), (1, 5, 4, 4)]
    for shape in shapes:
        x = integers(49, shape, np.float32)
        expected = oracle.conv2d(x, weight, bias, 1, "same", padding_mode="symmetric", activation="relu")
        assert_close(conv(x), expected)
        assert_close(conv(LAYOUTS["all reversed"](x)), expected)
    assert "(40, 5, 3, 3)" in repr(conv)


# ---------------------------------------------------------------------------------------------- the same every time


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [None, *LIMITS])
def test_results_are_bit_identical_for_any_number_of_threads(planner, source, dtype):
    planner.force(source=source)
    cases = [
        ((1, 24, 20, 20), (40, 24, 3, 3), {"padding": 1}),
        ((3, 24, 9, 31), (34, 12, 2, 3), {"stride": 2, "padding": "same", "groups": 2}),
        ((1, 64, 7, 7), (128, 64, 1, 1), {}),
        ((1, 48, 2, 2), (300, 48, 2, 2), {"padding": 1, "padding_mode": "circular"}),
        ((2, 30, 17, 17), (30, 1, 3, 3), {"groups": 30}),
    ]
    for shape, weight_shape, options in cases:
        x, weight = noise(50, shape, dtype), noise(51, weight_shape, dtype)
        residual = noise(52, oracle.conv2d(x[:, :, :, :], weight, **options).shape, dtype)
        conv = fastpool.Conv2d(weight, **options, activation=(-3, 3))
        results = set()
        for threads in (1, 2, 2, 1, 2):
            with fastpool.threads(threads):
                assert runtime.threads_for(1.0) == threads
                results.add(conv(x, residual=residual).tobytes())
                results.add(fastpool.conv2d(x, weight, residual=residual, activation=(-3, 3), **options).tobytes())
        assert len(results) == 1


@pytest.mark.usefixtures("always_parallel")
@pytest.mark.parametrize("source", [None, *LIMITS])
def test_the_parallel_region_gives_what_the_oracle_gives(planner, source):
    planner.force(source=source)
    for channels, size in [(3, (19, 23)), (40, (5, 6)), (64, (1, 1))]:
        x, weight = integers(53, (2, channels, *size), np.float32), integers(54, (70, channels, 3, 3), np.float32, 4)
        check(x, weight, None, 1, 1)
        check(x, weight, None, 2, "same", 2, padding_mode="replicate")


# ------------------------------------------------------------------------------------------------- huge arguments


def check_huge_arguments():
    """What does not depend on the size of a stride or a dilation may not need memory in proportion to it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    x, weight = integers(55, (1, 2, 5, 6), np.float32), integers(56, (3, 2, 2, 2), np.float32)
    for huge in (10**6, 10**8, 2**31 - 1):
        assert_close(fastpool.conv2d(x, weight, stride=huge), oracle.conv2d(x, weight)[..., :1, :1])
        assert_close(fastpool.conv2d(x, weight, None, (1, huge)), oracle.conv2d(x, weight)[..., :1])
        assert_close(fastpool.conv2d(x, weight, None, (huge, 1)), oracle.conv2d(x, weight)[..., :1, :])
        assert_close(fastpool.conv2d(x, weight, None, huge, "same"), oracle.conv2d(x, weight)[..., :1, :1])
        tap = np.ascontiguousarray(weight[..., :1, :1])
        assert_close(fastpool.conv2d(x, tap, None, 1, 0, huge), oracle.conv2d(x, tap))
        assert_close(fastpool.conv2d(x, tap, None, 1, 1, huge), oracle.conv2d(x, tap, None, 1, 1))
    for step in (10**6, 10**8, 2**30 - 8):  # the second tap, or the second window, lies in the padding
        pads = ((0, step), (0, step))
        first = oracle.conv2d(x, np.ascontiguousarray(weight[..., :1, :1]))[..., :1, :1]
        assert_close(fastpool.conv2d(x, weight, None, step, pads, step)[..., :1, :1], first)
        two_by_two = np.zeros((1, 3, 2, 2), np.float32)
        two_by_two[..., :1, :1] = oracle.conv2d(x, weight)[..., :1, :1]
        assert_close(fastpool.conv2d(x, weight, None, step, pads), two_by_two)
        alone = oracle.conv2d(x, np.ascontiguousarray(weight[..., :1, :1]))
        assert_close(fastpool.conv2d(x, weight, None, 1, pads, step), alone)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_huge_strides_and_dilations_need_no_memory():
    run_apart("test_convolution", "check_huge_arguments")


# ------------------------------------------------------------------------------------------------------ properties

QUIET = settings(deadline=None, max_examples=examples(60))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def pads(draw):
    """Any form of padding."""
    one = st.integers(0, 9)
    forms = [one, st.tuples(one, one), st.tuples(st.tuples(one, one), st.tuples(one, one))]
    return draw(st.one_of(*forms, st.sampled_from(["valid", "same", "same_upper", "same_lower"])))


@st.composite
def convolutions(draw):
    """Arguments of `conv2d`, all of them drawn; the arrays by name."""
    dtype = draw(st.sampled_from(DTYPES))
    groups, group_in, group_out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 20))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    pair = st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 5)))
    kernel = draw(st.sampled_from([(1, 1), (2, 3), (3, 3), (4, 2), (1, 8)]))
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    seed = draw(SEEDS)
    options = {
        "stride": draw(pair),
        "padding": draw(pads()),
        "dilation": draw(pair),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(PADDING_MODES)),
        "activation": draw(st.sampled_from(ACTIVATIONS)),
    }
    x = integers(seed, (*batch, groups * group_in, height, width), dtype)
    weight = integers(seed + 1, (groups * group_out, group_in, *kernel), dtype, 4)
    bias = draw(st.none() | st.just(integers(seed + 2, (groups * group_out,), dtype)))
    layouts = st.sampled_from(sorted(LAYOUTS))
    x, weight = LAYOUTS[draw(layouts)](x), LAYOUTS[draw(layouts)](weight)
    return SimpleNamespace(x=x, weight=weight, bias=bias, options=options, with_residual=draw(st.booleans()), seed=seed)


@QUIET
@given(convolutions(), st.sampled_from([None, *LIMITS]))
def test_anything_equals_the_oracle(problem, source):
    try:
        expected = oracle.conv2d(native(problem.x), native(problem.weight), problem.bias, **problem.options)
    except ValueError:
        assume(False)
    residual = integers(problem.seed + 3, expected.shape, expected.dtype) if problem.with_residual else None
    with pytest.MonkeyPatch.context() as patch:
        Planner(patch).force(source=source)
        check(problem.x, problem.weight, problem.bias, residual=residual, **problem.options)
    Planner.forget()


@QUIET
@given(SEEDS, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(PADDING_MODES), st.integers(1, 3), pads())
def test_linear_in_x(seed, a, b, mode, stride, padding):
    x, y = (integers(seed + i, (2, 3, 7, 19), np.float64) for i in range(2))
    conv = fastpool.Conv2d(integers(seed + 2, (5, 3, 3, 2), np.float64), None, stride, padding, padding_mode=mode)
    assert_close(conv(a * x + b * y), a * conv(x) + b * conv(y))


@QUIET
@given(SEEDS, st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(-9, 9), st.integers(-9, 9))
def test_circular_padding_makes_shifts_of_the_input_shifts_of_the_output(seed, stride, rows, columns, down, right):
    x = integers(seed, (1, 2, rows * stride, columns * stride), np.float32)
    padding = "same" if stride == 1 else ((1, 0), (2, 0))
    kernel = (3, 4) if stride == 1 else (1 + stride, 2 + stride)
    conv = fastpool.Conv2d(
        integers(seed + 1, (3, 2, *kernel), np.float32), None, stride, padding, padding_mode="circular"
    )
    result = conv(x)
    assert result.shape == (1, 3, rows, columns)
    shifted = np.roll(x, (down * stride, right * stride), (2, 3))
    assert_close(conv(shifted), np.roll(result, (down, right), (2, 3)))


@QUIET
@given(SEEDS, st.integers(1, 40), st.integers(1, 9), st.integers(1, 40), st.integers(1, 4), st.sampled_from(DTYPES))
def test_a_1x1_identity_gives_the_strided_slice(seed, channels, height, width, stride, dtype):
    x = noise(seed, (2, channels, height, width), dtype)
    identity = np.eye(channels, dtype=dtype)[:, :, None, None]
    np.testing.assert_array_equal(fastpool.conv2d(x, identity, stride=stride), x[..., ::stride, ::stride])
    ones = np.ones((channels, 1, 1, 1), dtype)
    np.testing.assert_array_equal(fastpool.conv2d(x, ones, None, stride, groups=channels), x[..., ::stride, ::stride])


@QUIET
@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
def test_dilation_is_a_kernel_with_zeros_between_its_taps(seed, dilation, stride):
    x, weight = integers(seed, (2, 2, 14, 23), np.float32), integers(seed + 1, (3, 2, 3, 4), np.float32)
    spread = np.zeros((3, 2, 2 * dilation + 1, 3 * dilation + 1), np.float32)
    spread[..., ::dilation, ::dilation] = weight
    assert_close(fastpool.conv2d(x, weight, None, stride, 1, dilation), fastpool.conv2d(x, spread, None, stride, 1))
