"""Depthwise convolution: at every remainder, in watched memory, through NaN and infinities."""

import itertools

import numpy as np
import pytest
from conftest import (
    DTYPES,
    Frame,
    Planner,
    Prefixes,
    assert_close,
    between,
    every_dtype,
    integers,
    lanes_of,
    needs_mprotect,
    needs_threads,
    noise,
)
from processes import FILLED_MEMORY, run_apart
from sweeps import some, sweep

import fastpool
from fastpool import oracle
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.plans import convolution as plans
from fastpool.routines.channelwise import channelwise
from fastpool.routines.depthwise import HALVES_PAY, LARGEST_AT_STRIDE_1, TWO_PAY, depthwise
from fastpool.routines.direct import direct

#: Few and many taps, even and odd numbers of them; each size is compiled.
FILTERS = [(1, 7), (3, 3), (6, 4), (7, 7)]
every_filter = pytest.mark.parametrize("kernel", FILTERS, ids=lambda kernel: f"{kernel[0]}x{kernel[1]}")
ROUTINES = {"columns": depthwise, "channels": channelwise}
every_routine = pytest.mark.parametrize("lanes_on", ROUTINES)
#: Each routine with each of its strides.
WAYS = [("columns", 1), ("columns", 2), ("channels", 1), ("channels", 2), ("channels", 3), ("channels", 7)]
every_way = pytest.mark.parametrize(("lanes_on", "stride"), WAYS)


def depthwise_parts(kernel, stride, dtype, lanes_on):
    """Give problems, and parts (channels, rows, columns) of them: every width up to two vectors and two, all rows.

    With lanes on columns, channels have up to three outputs; with lanes on channels, there is a vector and some more.
    """
    lanes = lanes_of(dtype)
    widths, last_tap = 2 * lanes + 2, (kernel[0] - 1, kernel[1] - 1)
    problems = [(3, 1, (0, 0)), (3, 3, last_tap)] if lanes_on == "columns" else [(lanes + 3, 1, last_tap)]
    for groups, multiplier, begin in problems:
        problem = Prefixes(dtype, groups, 1, multiplier, (9, widths), kernel, (stride, stride), begin)
        for columns in range(1, widths + 1):
            yield problem, (1 + columns % multiplier, 1 + columns % 9, columns)


def assert_depthwise(planner, lanes_on):
    """Require that this routine carries out all plans."""
    assert planner.plans
    assert all(plan.steps[-1].kernel.routine is ROUTINES[lanes_on] for plan in planner.plans)


@every_dtype
@every_way
@every_filter
@sweep
def test_depthwise_at_every_remainder(planner, lanes_on, kernel, stride, dtype):
    planner.take_depthwise(ROUTINES[lanes_on])
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype, contiguous=len(frames) % 4 != 3))
        return frames[-1].array

    for problem, part in depthwise_parts(kernel, stride, dtype, lanes_on):
        problem.check(*part, lambda a: between(a, np.nan), place_out)
    assert_depthwise(planner, lanes_on)
    assert len(frames) >= 2 * lanes_of(dtype) + 2
    for frame in frames:
        frame.assert_kept()


@every_dtype
@pytest.mark.skipif(LARGEST_AT_STRIDE_1 <= 7, reason="needs more registers")
@pytest.mark.parametrize("kernel", [(9, 9), (11, 2), (3, 11), (11, 1)], ids=str)
@sweep
def test_larger_filters_at_every_remainder(planner, kernel, dtype):
    planner.take_depthwise(depthwise)
    for index, (problem, part) in enumerate(depthwise_parts(kernel, 1, dtype, "columns")):
        if kernel[1] == part[2] == 1:
            continue  # a column, which becomes a row
        frame = Frame((2, 3 * part[0], *part[1:]), dtype, contiguous=index % 4 != 3)
        problem.check(*part, lambda a: between(a, np.nan), lambda shape, frame=frame: frame.array)
        frame.assert_kept()
    assert_depthwise(planner, "columns")


#: Filters, and dilations of rows and columns.
DILATED = [((1, 3), (1, 5)), ((3, 3), (2, 3)), ((3, 3), (11, 1)), ((5, 5), (3, 2))]


def dilated_parts(kernel, dilation, dtype):
    """Give problems, and parts of them, as `depthwise_parts` does, of dilated filters with lanes on columns."""
    widths = 2 * lanes_of(dtype) + 2
    for multiplier, begin in [(1, (0, 0)), (2, ((kernel[0] - 1) * dilation[0] // 2, (kernel[1] - 1) * dilation[1]))]:
        size = (9, widths)
        problem = Prefixes(dtype, 3, 1, multiplier, size, kernel, begin=begin, dilation=dilation)
        for columns in range(1, widths + 1):
            # There must be an element, or padding takes all.
            if (columns - 1) + (kernel[1] - 1) * dilation[1] + 1 > begin[1]:
                yield problem, (1 + columns % multiplier, 1 + columns % 9, columns)


@every_dtype
@pytest.mark.parametrize(("kernel", "dilation"), DILATED, ids=str)
@sweep
def test_dilated_depthwise_at_every_remainder(planner, kernel, dilation, dtype):
    planner.take_depthwise(depthwise)
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype, contiguous=len(frames) % 4 != 3))
        return frames[-1].array

    for problem, part in dilated_parts(kernel, dilation, dtype):
        problem.check(*part, lambda a: between(a, np.nan), place_out)
    assert_depthwise(planner, "columns")
    assert "dilated" in planner.plans[-1].steps[-1].kernel.shape[0]
    for frame in frames:
        frame.assert_kept()


@every_dtype
def test_dilated_depthwise_layers(planner, dtype):
    """Many planes and few, rows in several tasks, paddings of every form; a dilation that exceeds the rows."""
    planner.take_depthwise(depthwise)
    for shape, dilation in [((1, 3, 130, 70), (2, 2)), ((3, 200, 5, 6), (3, 2)), ((1, 2, 90, 20), (31, 4))]:
        x, weight = integers(27, shape, dtype), integers(28, (2 * shape[1], 1, 3, 3), dtype)
        for padding in ("same", ((0, 70), (9, 0)), (62, 5)):
            options = {"padding": padding, "groups": shape[1], "dilation": dilation}
            expected = oracle.conv2d(x, weight, **options)
            residual, bias = integers(29, expected.shape, dtype), integers(30, 2 * shape[1], dtype)
            found = fastpool.conv2d(x, weight, bias, residual=residual, activation="relu", **options)
            assert_close(found, oracle.conv2d(x, weight, bias, residual=residual, activation="relu", **options))
            assert_close(fastpool.conv2d(x, weight, **options), expected)
    assert_depthwise(planner, "columns")


def check_depthwise_memory(dtype_name):
    """Every filter, with forbidden pages right after or right before each array."""
    for kernel, dilation in DILATED:
        with pytest.MonkeyPatch.context() as patch:
            planner = Planner(patch)
            planner.take_depthwise(depthwise)
            for index, (problem, part) in enumerate(dilated_parts(kernel, dilation, np.dtype(dtype_name).type)):
                problem.check_guarded(*part, at_end=index % 2 == 0)
            assert_depthwise(planner, "columns")
    cases = itertools.product(WAYS, FILTERS)
    for (lanes_on, stride), kernel in some(cases, 3, DTYPES.index(np.dtype(dtype_name))):
        with pytest.MonkeyPatch.context() as patch:
            planner = Planner(patch)
            planner.take_depthwise(ROUTINES[lanes_on])
            parts = depthwise_parts(kernel, stride, np.dtype(dtype_name).type, lanes_on)
            for index, (problem, part) in enumerate(parts):
                problem.check_guarded(*part, at_end=index % 2 == 0)
            assert_depthwise(planner, lanes_on)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_depthwise_touches_not_a_byte_beyond_any_array(dtype):
    run_apart("test_depthwise", "check_depthwise_memory", dtype, environment=FILLED_MEMORY)


@every_dtype
@every_way
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 4, 37), (1, 3, 130, 130), (3, 200, 5, 6), (1, 70, 61, 40)])
def test_depthwise_layers(planner, lanes_on, shape, stride, dtype):
    """Paddings of every form; one large plane, many small ones, and their division into tasks."""
    planner.take_depthwise(ROUTINES[lanes_on])
    outputs = 2 * shape[1] if lanes_on == "columns" else shape[1]
    x, weight, bias = (
        integers(14, shape, dtype),
        integers(15, (outputs, 1, 3, 3), dtype),
        noise(16, outputs, dtype),
    )
    for padding in (1, (3, 20), ((0, 2), (2, 0)), ((9, 1), (0, 40)), "same", "same_lower"):
        options = {"stride": stride, "padding": padding, "groups": shape[1], "activation": (-30, None)}
        if padding == ((0, 2), (2, 0)) or shape[2] * shape[3] < 10_000:
            assert_close(fastpool.conv2d(x, weight, bias, **options), oracle.conv2d(x, weight, bias, **options))
    for mode in DATA_PADDING_MODES if shape[3] > 2 and lanes_on == "columns" else ():  # which have no padding
        options = {"stride": stride, "padding": ((7, 9), (0, 0)), "groups": shape[1], "padding_mode": mode}
        assert_close(fastpool.conv2d(x[:, :, :20], weight, **options), oracle.conv2d(x[:, :, :20], weight, **options))
    assert_depthwise(planner, lanes_on)


@every_dtype
def test_one_channel_is_summed_directly_where_that_is_faster(planner, dtype):
    """Many large filters of one channel; one that is too large for lanes on columns, on a channel alone."""
    for shape, filters, size in [((1, 1, 64, 70), 32, 7), ((1, 1, 60, 80), 1, 13)]:
        x, weight = integers(25, shape, dtype), integers(26, (filters, 1, size, size), dtype)
        assert_close(fastpool.conv2d(x, weight, None, 1, 3), oracle.conv2d(x, weight, None, 1, 3))
    assert all(plan.steps[-1].kernel.routine is direct for plan in planner.plans)


@every_dtype
@every_routine
def test_the_faster_depthwise_routine_is_taken(planner, monkeypatch, lanes_on, dtype):
    """Lanes are on columns where maps are large, on channels where they are small and see many taps, or are dilated."""
    monkeypatch.setattr(plans, "_most_of_depthwise", lambda problem: 0.0)  # not directly
    cases = {
        "columns": [((1, 6, 60, 64), 3, 1), ((2, 40, 30, 32), 3, 1)],
        "channels": [
            ((1, 40, 7, 7), 8, 1),
            ((1, 20, 40, 44), (3, 2), 2),
            ((1, 9, 30, 31), (2, 5), (3, 1)),
            ((1, 5, 20, 13), 13, 1),
        ],
    }
    for shape, size, dilation in cases[lanes_on]:
        kernel = (size, size) if isinstance(size, int) else size
        x, weight = integers(23, shape, dtype), integers(24, (shape[1], 1, *kernel), dtype)
        options = {"padding": 2, "dilation": dilation, "groups": shape[1]}
        assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, **options))
    assert_depthwise(planner, lanes_on)


@every_dtype
@every_way
def test_depthwise_with_nan_and_infinities(planner, lanes_on, stride, dtype):
    """In x, weight, bias and residual; a padding of zeros times an infinite weight is NaN."""
    planner.take_depthwise(ROUTINES[lanes_on])
    outputs = {"columns": 6, "channels": 3}[lanes_on]
    options = {"stride": stride, "padding": 1, "groups": 3}
    clean = {
        "x": integers(17, (2, 3, 9, 35), dtype, 3),
        "weight": integers(18, (outputs, 1, 3, 3), dtype, 3),
        "bias": integers(19, (outputs,), dtype),
    }
    clean["residual"] = integers(20, oracle.conv2d(**clean, **options).shape, dtype)
    for name, value, activation in itertools.product(clean, [np.nan, np.inf, -np.inf], [None, "relu6"]):
        arrays = {key: a.copy() for key, a in clean.items()}
        arrays[name].reshape(-1)[[arrays[name].size // 3, -1]] = value
        expected = oracle.conv2d(**arrays, **options, activation=activation)
        assert_close(fastpool.conv2d(**arrays, **options, activation=activation), expected)
    assert_depthwise(planner, lanes_on)


@every_dtype
@pytest.mark.parametrize("stride", [1, 3])
def test_channels_of_one_dimension(planner, dtype, stride):
    """Also of sequences within a larger array, one after the other."""
    planner.take_depthwise(channelwise)
    weight, bias = integers(31, (21, 1, 5), dtype), integers(32, 21, dtype)
    for x in (integers(33, (2, 21, 50), dtype), integers(34, (3, 30, 90), dtype)[:2, 2:23, 7:]):
        expected = oracle.conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), (0, 3), groups=21)
        assert_close(fastpool.conv1d(x, weight, bias, stride, 3, groups=21), expected[:, :, 0])
    assert_depthwise(planner, "channels")


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_dtype
@every_routine
def test_depthwise_is_bit_identical_for_any_number_of_threads(planner, lanes_on, dtype):
    planner.take_depthwise(ROUTINES[lanes_on])
    for shape in [(1, 2, 140, 150), (2, 90, 7, 6)]:
        x, weight = noise(21, shape, dtype), noise(22, (shape[1], 1, 3, 3), dtype)
        for dilation in (1, 2):
            conv, results = fastpool.Conv2d(weight, None, 1, dilation, dilation, groups=shape[1]), set()
            for threads in (1, 2, 2, 1):
                with fastpool.threads(threads):
                    results.add(conv(x).tobytes())
            assert len(results) == 1
    assert_depthwise(planner, lanes_on)


@every_dtype
def test_rows_end_in_half_a_vector_where_that_takes_half_the_time(planner, dtype):
    """Up to half a vector of columns beyond whole ones; elsewhere, and on other processors, a whole one."""
    lanes = lanes_of(dtype)
    for columns in (lanes, lanes + 1, lanes + lanes // 2, lanes + lanes // 2 + 1, 3 * lanes + 1):
        x, weight = noise(71, (1, 3, 9, columns), dtype), noise(72, (3, 1, 3, 3), dtype)
        residual = noise(73, (1, 3, 9, columns), dtype)
        options = {"padding": 1, "groups": 3, "residual": residual, "activation": "relu"}
        planner.take_depthwise(depthwise)
        assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, **options))
        ends = columns > lanes and 0 < columns % lanes <= lanes // 2
        assert planner.plans.pop().steps[0].kernel.shape[0].startswith("halved ") == (ends and HALVES_PAY)


@every_dtype
@pytest.mark.parametrize("kernel", [3, 7])
def test_two_vectors_at_once_where_the_filter_is_not_in_registers(planner, dtype, kernel):
    """Also of an odd number of five or more, the last two of which see some columns again; nothing around changes."""
    lanes = lanes_of(dtype)
    planner.take_depthwise(depthwise)
    for vectors in (1, 2, 3, 5):
        for columns in (vectors * lanes - lanes + 1, vectors * lanes - 1, vectors * lanes):
            x, weight = between(noise(76, (2, 3, 12, columns), dtype), np.nan), noise(77, (6, 1, kernel, kernel), dtype)
            options = {"padding": kernel // 2, "groups": 3, "residual": noise(78, (2, 6, 12, columns), dtype)}
            frame = Frame((2, 6, 12, columns), dtype)
            fastpool.conv2d(x, weight, activation="relu", out=frame.array, **options)
            assert_close(frame.array, oracle.conv2d(x, weight, activation="relu", **options))
            frame.assert_kept()
            takes_two = TWO_PAY and kernel == 7 and vectors in (2, 5)
            assert planner.plans.pop().steps[0].kernel.shape[0].startswith("double ") == takes_two


@every_dtype
@pytest.mark.parametrize("stride", [1, 2])
def test_rows_within_a_vector(planner, dtype, stride):
    """Of all widths, several planes: what a row's last vector has beyond it is written before the next plane is."""
    lanes = lanes_of(dtype)
    for columns in range(1, lanes + 2):
        width = stride * columns
        x, weight = noise(74, (2, 5, 6, width), dtype), noise(75, (5, 1, 3, 3), dtype)
        options = {"stride": stride, "padding": 1, "groups": 5, "activation": "relu"}
        planner.take_depthwise(depthwise)
        assert_close(fastpool.conv2d(x, weight, **options), oracle.conv2d(x, weight, **options))
        part = planner.plans.pop().steps[0].kernel.shape[0].split()[0]
        narrow = 1 < lanes // 2 >= columns
        single = not narrow and columns <= lanes
        assert (part == "narrow", part == "single") == (narrow, single)


@every_dtype
@pytest.mark.parametrize(("stride", "height", "left_out"), [(1, 9, 12 / 63), (2, 9, 8 / 35), (1, 1, 6 / 7)])
def test_rows_of_the_padding_are_passed_by(planner, dtype, stride, height, left_out):
    """Where lanes are columns, and all weights are finite; if one is not, it makes NaN of zeros."""
    x, weight = noise(76, (2, 3, height, 20), dtype), noise(77, (3, 1, 7, 7), dtype)
    options = {"stride": stride, "padding": 3, "groups": 3}
    for infinite in (False, True):
        if infinite:
            weight[1, 0, 0, 3] = np.inf
        planner.take_depthwise(depthwise)
        result, expected = fastpool.Conv2d(weight, **options)(x), oracle.conv2d(x, weight, **options)
        assert_close(result, expected)
        assert np.isnan(expected[:, 1]).any() == infinite
        assert planner.plans.pop().omitted == pytest.approx(0 if infinite else left_out)


@every_dtype
def test_rows_of_taps_that_meet_padding_are_left_out(planner, dtype):
    """Where lanes are channels, and all weights are finite: at 7x7 on 7 rows a quarter of the sums."""
    planner.take_depthwise(channelwise)
    x, weight = noise(74, (1, 20, 7, 7), dtype), noise(75, (20, 1, 7, 7), dtype)
    layer = fastpool.Conv2d(weight, padding=3, groups=20)
    assert_close(layer(x), oracle.conv2d(x, weight, padding=3, groups=20))
    assert planner.plans.pop().omitted == pytest.approx(1 - 37 / 49)
    weight[4, 0, 0, 3] = np.inf
    result = fastpool.Conv2d(weight, padding=3, groups=20)(x)
    assert_close(result, oracle.conv2d(x, weight, padding=3, groups=20))
    assert np.isnan(result[0, 4, 0]).all()  # zero times infinity
    assert planner.plans.pop().omitted == 0
