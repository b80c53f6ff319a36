"""Winograd convolution: at every remainder, in watched memory, through NaN and infinities, and its rounding."""

import itertools
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from conftest import (
    DTYPES,
    Frame,
    GuardedMemory,
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
from volumes import DEPTHS, conv3d

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.plans import winograd, winograd_axes
from fastpool.plans.winograd_forms import FORMS as ALL_FORMS
from fastpool.routines.table import KERNELS
from fastpool.routines.winograd import winograd_fused, winograd_output

FORMS = [form for forms in ALL_FORMS.values() for form in forms if not form.on_the_fly]
SCHEDULES = {"shared": winograd_output, "fused": winograd_fused, "on the fly": winograd_output}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
#: Each form with each schedule that it has, those of one axis, which are many and the same code, with one in turn.
WAYS = [
    (form, schedule)
    for index, form in enumerate(FORMS)
    for schedule in ([["shared", "fused"][index % 2]] if form.axis else SCHEDULES)
    if not (form.folded and schedule == "on the fly")
]


def test_every_form_is_in_the_table():
    for form in itertools.chain(*ALL_FORMS.values()):
        prepares = "transform_filters" if form.on_the_fly else "winograd_weights"
        for routine in ("transform_rows", "finish_rows", prepares):
            assert form.shape in KERNELS[routine][1]
        if form.stride == 1 and form.axis != "down":
            assert (f"{form.shape[0]} dilated", *form.shape[1:]) in KERNELS["transform_rows"][1]


def name_of(form, schedule):
    """Name of a test."""
    return f"{' '.join(map(str, form.shape))} {schedule}"


every_form = pytest.mark.parametrize(
    ("form", "schedule"), [pytest.param(form, schedule, id=name_of(form, schedule)) for form, schedule in WAYS]
)
#: With each dtype that the form is meant for, or one in turn.
every_filtering = pytest.mark.parametrize(
    ("form", "schedule", "dtype"),
    [
        pytest.param(form, schedule, dtype, id=f"{name_of(form, schedule)}-{dtype.__name__}")
        for index, (form, schedule) in enumerate(WAYS)
        for dtype in ([DTYPES[index // 2 % 2]] if form.axis else DTYPES)
        if form.suits(ELEMENT_TYPES[np.dtype(dtype)])
    ],
)

#: A wrong value that is finite: Winograd computes tiles with NaN again, and would hide that it had read one.
WRONG = 1e6


class WinogradPlanner(Planner):
    """Makes plans take a form and a schedule of Winograd."""

    algorithm = "winograd"

    def choose(self, form, schedule):
        """Let all further plans take this form and schedule."""
        form = replace(form, on_the_fly=schedule == "on the fly")
        self._patch.setattr(winograd_axes, "FORMS", {form.key: (form,)})
        self._patch.setattr(winograd, "_is_shared", lambda tiling: schedule != "fused")
        self._patch.setattr(winograd, "_PART_BYTES", 1)  # each block of channels by itself
        self.forget()

    def assert_chosen(self, form, schedule):
        """Require that every plan since the last call took them."""
        assert self.plans
        for plan in self.plans:
            step = plan.steps[-1]
            assert step.kernel.routine is SCHEDULES[schedule]
            assert step.fields["on_the_fly"] == (schedule == "on the fly")
            variant, *shape = step.fields["finish_rows"].shape
            assert (variant.removesuffix(" dilated"), *shape) == form.shape
        self.plans.clear()


@pytest.fixture
def forms(monkeypatch):
    """Give a `WinogradPlanner`; plans made under it are forgotten afterwards."""
    yield WinogradPlanner(monkeypatch)
    Planner.forget()


def winograd_parts(form, dtype):
    """Give problems, and parts (channels, rows, columns) of them with every remainder of tiles, lanes and blocks."""
    lanes = lanes_of(dtype)
    kernel, stride = form.kernels, form.strides
    for group_in, begin in [
        (1, (0, 0)),
        (lanes - 1, (min(1, kernel[0] - 1), min(2, kernel[1] - 1))),
        (lanes + 1, (kernel[0] - 1, min(1, kernel[1] - 1))),
        (2 * lanes, (0, min(1, kernel[1] - 1))),
    ]:
        most = 2 * lanes + 1
        size = 2 * form.tile_outputs[0] + 1, 5 * form.tile_outputs[1] + 1
        problem = Prefixes(dtype, 1, group_in, most, size, kernel, stride, begin)
        least = 2 if form.axis == "down" else 1  # columns: what has one is taken for a row
        for rows in range(1, size[0] + 1):
            yield problem, (max(1, most - rows), rows, max(least, 1 + rows % size[1]))
        for columns in range(least, size[1] + 1):
            yield problem, (1 + columns % most, 1 + columns % size[0], columns)
        for channels in range(1, most + 1):
            yield problem, (channels, size[0] - channels % 2, size[1] - channels % 3)


@every_filtering
@sweep
def test_winograd_at_every_remainder(forms, form, schedule, dtype):
    forms.choose(form, schedule)
    frames = []

    def place_out(shape):
        frames.append(Frame(shape, dtype, contiguous=len(frames) % 4 != 3))
        return frames[-1].array

    # float64 is the same code on half the lanes, weights are all that differs on the fly, one axis is a part of two.
    step = 1 if dtype == np.float32 and schedule != "on the fly" and not form.axis else 5
    for problem, part in itertools.islice(winograd_parts(form, dtype), 0, None, step):
        problem.check(*part, lambda a: between(a, WRONG), place_out)
    forms.assert_chosen(form, schedule)
    assert len(frames) > 2 * lanes_of(dtype)
    for frame in frames:
        frame.assert_kept()


@every_dtype
def test_the_last_block_is_multiplied_by_one_vector_if_that_holds_it(forms, dtype):
    form, lanes = FORMS[0], lanes_of(dtype)
    for schedule in SCHEDULES:
        forms.choose(form, schedule)
        for channels, vectors in (
            (1, 1),
            (lanes, 1),
            (lanes + 1, 2),
            (2 * lanes, 2),
            (3 * lanes, 1),
            (3 * lanes + 1, 2),
        ):
            x, weight = noise(1, (1, 5, 7, 9), dtype), noise(2, (channels, 5, 3, 3), dtype)
            assert_close(fastpool.Conv2d(weight, padding=1)(x), oracle.conv2d(x, weight, padding=1))
            fields = forms.plans[-1].steps[-1].fields
            assert fields["multiply"].shape[1:] == (2, fields["multiply_last"].shape[2])
            assert fields["multiply_last"].shape[1] == vectors
        forms.assert_chosen(form, schedule)


def check_winograd_memory(dtype_name):
    """Every form and schedule, with forbidden pages right after or right before each array."""
    dtype = np.dtype(dtype_name).type
    for form, schedule in some(WAYS, 2, DTYPES.index(dtype)):
        if not form.suits(ELEMENT_TYPES[np.dtype(dtype)]):
            continue
        with pytest.MonkeyPatch.context() as patch:
            forms = WinogradPlanner(patch)
            forms.choose(form, schedule)
            # An odd step, so that arrays begin and end at a page in turn.
            parts = itertools.islice(enumerate(winograd_parts(form, dtype)), 0, None, 15 if form.axis else 5)
            for index, (problem, part) in some(parts, 3):
                problem.check_guarded(*part, at_end=index % 2 == 0)
            forms.assert_chosen(form, schedule)
    for index, (kernel, stride, dilation, padding) in enumerate(ROWS_AS_DEPTH.values()):
        memory, at_end = GuardedMemory(), index % 2 == 0
        x = memory.array(integers(58, (2, 18, 13, 17), dtype, 4), at_end)
        weight = memory.array(integers(59, (35, 18, *kernel), dtype, 2), at_end)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        expected = oracle.conv2d(x, weight, None, **options)
        out = memory.array(np.full_like(expected, np.nan), at_end)
        fastpool.Conv2d(weight, algorithm="winograd", **options)(x, out=out)
        assert_close(out.copy(), expected)


@needs_mprotect
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_winograd_touches_not_a_byte_beyond_any_array(dtype):
    run_apart("test_winograd", "check_winograd_memory", dtype, environment=FILLED_MEMORY)


@every_filtering
@pytest.mark.parametrize("activation", [None, "relu", (-20, 20)], ids=repr)
def test_winograd_with_nan_and_infinities(forms, form, schedule, activation, dtype):
    """Exactly the outputs that see a non-finite number are not finite, although it spreads over whole tiles."""
    if form.axis and activation is None:
        pytest.skip("activations do not differ for one axis")
    forms.choose(form, schedule)
    # As many outputs as there are inputs for each: filters of an even size see one more at the end.
    ends = tuple(((taps - 1) // 2, taps // 2) for taps in form.kernels)
    options = {"stride": form.strides, "padding": ends, "activation": activation}
    clean = {
        "x": noise(1, (2, 3, 9 * form.strides[0], 14 * form.strides[1]), dtype),
        "weight": noise(2, (5, 3, *form.kernels), dtype),
        "bias": noise(3, (5,), dtype),
        "residual": noise(4, (2, 5, 9, 14), dtype),
    }
    for name, value in itertools.product(clean, [np.nan, np.inf, -np.inf]):
        arrays = {key: a.copy() for key, a in clean.items()}
        arrays[name].reshape(-1)[[arrays[name].size // 3, -1]] = value
        assert_close(fastpool.conv2d(**arrays, **options), oracle.conv2d(**arrays, **options))
    forms.assert_chosen(form, schedule)


@every_filtering
def test_winograd_does_not_overflow_where_the_sum_does_not(forms, form, schedule, dtype):
    forms.choose(form, schedule)
    x = noise(5, (1, 2, 7, 8), dtype)
    x[0, 0, 2, 4] = x[0, 1, 0, 0] = np.finfo(dtype).max
    weight = np.zeros((1, 2, *form.kernels), dtype)
    padding = tuple(taps // 2 for taps in form.kernels)
    weight[..., padding[0], padding[1]] = 0.5
    expected = oracle.conv2d(x, weight, None, form.strides, padding)
    assert_close(fastpool.conv2d(x, weight, None, form.strides, padding), expected)
    forms.assert_chosen(form, schedule)


@cache
def layer_and_result(shape, kernel, stride, padding, mode, dtype):
    """Image, weights and bias of a layer, normally distributed, and what the oracle makes of them."""
    x, weight, bias = noise(8, shape, dtype), noise(6, (70, shape[1], *kernel), dtype), noise(7, (70,), dtype)
    return x, weight, bias, oracle.conv2d(x, weight, bias, stride, padding, padding_mode=mode)


@every_filtering
@pytest.mark.parametrize("shape", [(1, 40, 30, 33), (3, 20, 9, 17)])
@sweep
def test_winograd_layers(forms, form, schedule, shape, dtype):
    """Many tiles, images and blocks of channels."""
    if form.axis and shape[0] == 1:
        pytest.skip("images are enough for one axis")
    forms.choose(form, schedule)
    for padding in (1, "same_lower", ((0, 4), (3, 0))):
        x, weight, bias, expected = layer_and_result(shape, form.kernels, form.strides, padding, "zeros", dtype)
        conv = fastpool.Conv2d(weight, bias, form.strides, padding)
        assert_close(conv(x), expected)
        assert_close(fastpool.conv2d(x, weight, bias, form.strides, padding), expected)
    for mode in DATA_PADDING_MODES:
        padding = (11, 75), (0, 0)  # the columns have none
        if shape[3] >= form.kernels[1]:
            x, weight, bias, expected = layer_and_result(shape, form.kernels, form.strides, padding, mode, dtype)
            assert_close(fastpool.conv2d(x, weight, bias, form.strides, padding, padding_mode=mode), expected)
    forms.assert_chosen(form, schedule)


@pytest.mark.parametrize("schedule", ["shared", "on the fly"])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3, 3), (3, 3, 3)], ids=str)
def test_many_images_are_transformed_in_passes(forms, monkeypatch, schedule, kernel):
    """The last pass has fewer; every image gives what it gives in one pass, also one that is computed again."""
    if schedule == "on the fly" and len(kernel) == 3:
        pytest.skip("weights of several taps of depth are transformed ahead")
    forms.choose(FORMS[0], schedule)
    convolve = fastpool.conv3d if len(kernel) == 3 else fastpool.conv2d
    size = (4, 9, 11)[-len(kernel) :]
    weight, bias = noise(2, (40, 20, *kernel), np.float32), noise(3, (40,), np.float32)
    for images in (1, 4, 7):
        x, residual = noise(1, (images, 40, *size), np.float32), noise(4, (images, 40, *size), np.float32)
        x[-1, 3, ..., 5] = np.nan
        padding = [(taps // 2, taps // 2) for taps in kernel]
        results = []
        for most in (2**30, 1, some_images := 250_000):
            monkeypatch.setattr(winograd, "_PASS_BYTES", most)
            forms.forget()
            results.append(convolve(x, weight, bias, padding=padding, groups=2, residual=residual))
            steps = forms.plans.pop().steps
            firsts = [step.fields["first_image"] for step in steps]
            counts = [step.fields["images"] for step in steps]
            assert sum(counts[::2]) == steps[0].fields["depths"] * images
            assert firsts[::2] == firsts[1::2] == [sum(counts[:i:2]) for i in range(0, len(counts), 2)]
            if most != some_images:
                assert max(counts) == (1 if most == 1 else sum(counts[::2]))
            elif len(kernel) == 2 and images == 7:
                assert 1 < max(counts) < 7
        assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
        ones = (1,) * len(kernel)
        reference = conv3d if len(kernel) == 3 else oracle.conv2d
        assert_close(results[0], reference(x, weight, bias, ones, padding, ones, 2) + residual)


def test_passes_are_explained(forms):
    """What all of them share would not fit the scratch."""
    forms.choose(FORMS[0], "shared")
    conv = fastpool.Conv2d(noise(14, (64, 64, 3, 3), np.float32), padding=1)
    one, many = (conv.explain((images, 64, 28, 28)) for images in (1, 100))
    assert "passes" not in one.why.source
    assert re.search(r"in each of (\d+) passes", many.why.source)
    assert many.workspace_bytes < 16 * 2**20
    assert 0.8 < many.multiply_adds_done / one.multiply_adds_done / 100 < 1.1


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_filtering
def test_winograd_is_bit_identical_for_any_number_of_threads(forms, form, schedule, dtype):
    forms.choose(form, schedule)
    x, weight = noise(10, (2, 20, 31, 29), dtype), noise(11, (80, 20, *form.kernels), dtype)
    conv, results = fastpool.Conv2d(weight, None, form.strides, 1), set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results |= {conv(x).tobytes(), fastpool.conv2d(x, weight, None, form.strides, 1).tobytes()}
    assert len(results) == 1
    forms.assert_chosen(form, schedule)


def test_weights_that_are_kept_are_transformed_ahead_and_others_on_the_fly(forms):
    """By size: where few tiles meet much weight, writing it transformed takes longer than the sums."""
    forms.forget()
    for size, channels, on_the_fly in [(14, 512, 1), (224, 16, 0)]:
        x, weight = noise(12, (1, channels, size, size), np.float32), noise(13, (channels, channels, 3, 3), np.float32)
        results = [fastpool.Conv2d(weight, None, 1, 1)(x), fastpool.conv2d(x, weight, None, 1, 1)]
        assert_close(*results)
        assert [plan.steps[-1].fields["on_the_fly"] for plan in forms.plans] == [0, on_the_fly]
        forms.plans.clear()


@pytest.mark.skipif(not winograd._HAS_LARGE_CACHE, reason="larger groups would leave a small level-2 cache")
def test_weights_from_memory_are_read_a_few_times():
    """Tasks of large layers take more tiles than the level-2 cache keeps; small ones do not, nor do all need more."""
    few, many = (np.broadcast_to(np.float32(0), (channels, channels, 3, 3)) for channels in (64, 768))
    found = fastpool.Conv2d(many, padding=1).explain((1, 768, 64, 64))
    assert (found.algorithm, found.schedule) == ("winograd", "fused")
    assert found.tasks <= winograd._READINGS
    assert winograd.WINOGRAD_PRIVATE_BYTES < found.workspace_bytes // found.threads <= 16 * 2**20
    assert "MB of 5.24 MB" in found.why.blocking
    assert (
        fastpool.Conv2d(few, padding=1).explain((1, 64, 200, 200)).workspace_bytes < 4 * winograd.WINOGRAD_PRIVATE_BYTES
    )


def test_weights_on_the_fly_are_explained(forms):
    forms.choose(FORMS[0], "on the fly")
    found = fastpool.Conv2d(noise(14, (64, 48, 3, 3), np.float32), padding=1).explain((1, 48, 20, 20))
    assert "transformed on the fly" in found.why.source
    assert found.schedule == "shared"
    assert found.prepared_weight_bytes == found.weight_bytes  # 64 are whole blocks of channels


#: Groups, channels of each, and dilation of filters at stride 1.
PARTED = [(2, 20, (1, 1)), (1, 5, (2, 3)), (2, 16, (4, 1))]


@every_form
@sweep
def test_winograd_in_groups_and_dilated(forms, form, schedule):
    """Some widths with every remainder of a dilation, and an infinity in one of the groups."""
    forms.choose(form, schedule)
    suited = [dtype for dtype in DTYPES if form.suits(ELEMENT_TYPES[np.dtype(dtype)])]
    if not suited:
        pytest.skip("no vector has room for the phases of a channel")
    dtype = suited[-1] if schedule == "fused" else suited[0]
    for groups, channels, dilation in PARTED:
        channels = max(channels, lanes_of(dtype)) if groups > 1 else channels
        weight = integers(30, (groups * 19, channels, *form.kernels), dtype, 2) + 3
        bias = noise(31, groups * 19, dtype)
        step = dilation if form.stride == 1 else (1, 1)
        options = {"stride": form.strides, "padding": (form.kernels[0] - 1, 3), "dilation": step, "groups": groups}
        least = (form.kernels[1] - 1) * step[1] + 1 - 6
        for index in range(4):
            shape = (
                1 + index % 2,
                groups * channels,
                7 + 3 * index % 8 + step[0] * form.kernels[0],
                max(1, least) + 5 * index,
            )
            x = between(integers(32 + index, shape, dtype, 4) + 5, WRONG)
            expected = oracle.conv2d(x, weight, bias, **options)
            residual = integers(33, expected.shape, dtype)
            assert_close(fastpool.conv2d(x, weight, bias, residual=residual, **options), expected + residual)
        x[0, channels - 1, shape[2] // 2, shape[3] // 3] = np.inf
        assert_close(fastpool.conv2d(x, weight, bias, **options), oracle.conv2d(x, weight, bias, **options))
    forms.assert_chosen(form, schedule)


@every_form
@pytest.mark.parametrize("depth", DEPTHS)
def test_winograd_on_depths(forms, form, schedule, depth):
    """Taps of depth are channels of an image for each output depth; groups, residual, activation, and an infinity."""
    taps, stride, dilation, pads, size = DEPTHS[depth]
    if form.axis and depth not in ("one tap, every second", "three taps"):
        pytest.skip("depths are the same for one axis")
    if form.folded or (schedule == "on the fly" and taps > 1):
        pytest.skip("phases that are channels have no depths, and weights on the fly no taps of them")
    dtype = next(dtype for dtype in DTYPES if form.suits(ELEMENT_TYPES[np.dtype(dtype)]))
    forms.choose(form, schedule)
    lanes = lanes_of(dtype)
    for groups, channels, outputs in ((1, lanes + 1, 2 * lanes + 3), (2, lanes, 5)):
        rows, columns = 2 * form.tile_outputs[0] * form.strides[0] + 1, 4 * form.strides[1] + form.kernels[1]
        shape = 2, groups * channels, size, max(rows, form.kernels[0]), columns
        x = between(integers(40, shape, dtype, 4) + 5, WRONG)
        weight = integers(41, (groups * outputs, channels, taps, *form.kernels), dtype, 2) + 3
        bias = noise(42, groups * outputs, dtype)
        options = {"stride": (stride, *form.strides), "dilation": (dilation, 1, 1), "groups": groups}
        options["padding"] = (pads, (1, 0), (0, 1))
        expected = conv3d(x, weight, bias, **options)
        residual = integers(43, expected.shape, dtype)
        frame = Frame(expected.shape, dtype)
        fastpool.conv3d(x, weight, bias, residual=residual, activation=(0, 900), out=frame.array, **options)
        assert_close(frame.array.copy(), np.clip(expected + residual, 0, 900))
        frame.assert_kept()
        assert_close(fastpool.Conv3d(weight, bias, **options)(x), expected)
        x[1, channels - 1, size // 2, shape[3] // 2, shape[4] // 3] = np.inf
        found = fastpool.conv3d(x, weight, bias, **options)
        assert_close(found, conv3d(x, weight, bias, **options))
    forms.assert_chosen(form, schedule)


def test_winograd_on_depths_is_explained():
    weight = np.ones((64, 64, 3, 3, 3), np.float32)
    found = fastpool.Conv3d(weight, padding=1).explain((1, 64, 16, 56, 56))
    assert found.algorithm == "winograd"
    assert found.multiply_adds == 64 * 64 * 27 * 16 * 56 * 56
    assert found.multiply_adds_done < found.multiply_adds / 2
    # Five channels more begin vectors of all taps of depth anew: of 16, 8 or 4 lanes, of which they leave some idle.
    more = fastpool.Conv3d(np.ones((64, 69, 3, 3, 3), np.float32), padding=1, algorithm="winograd")
    assert more.explain((1, 69, 16, 56, 56)).waste > max(0.04, found.waste)
    # Few channels leave most lanes of each tap idle, and data for padding has no depths.
    assert fastpool.Conv3d(weight[:, :3], padding=1).explain((1, 3, 16, 56, 56)).algorithm == "direct"
    assert fastpool.Conv3d(weight, padding=1, padding_mode="reflect").explain((64, 5, 9, 9)).algorithm == "direct"


#: Filters whose rows become depth, with stride, dilation and padding.
ROWS_AS_DEPTH = {
    "7x7": ((7, 7), (1, 1), (1, 1), 3),
    "3x5": ((3, 5), (1, 1), (1, 1), ((0, 2), (1, 4))),
    "2x9": ((2, 9), (1, 1), (1, 1), 0),
    "rows at a stride": ((3, 3), (2, 1), (1, 1), 1),
    "every second row": ((1, 7), (2, 1), (1, 1), (1, 3)),
    "rows dilated": ((4, 2), (3, 1), (2, 1), (5, 1)),
    "columns dilated": ((2, 4), (1, 1), (1, 3), (0, 4)),
}


@every_dtype
@pytest.mark.parametrize("schedule", ["shared", "fused"])
@pytest.mark.parametrize("filters", ROWS_AS_DEPTH)
def test_rows_as_depth(forms, monkeypatch, filters, schedule, dtype):
    """Taps of each row are channels, whatever strides rows have; groups, residual, activation, and an infinity."""
    monkeypatch.setattr(winograd, "_is_shared", lambda tiling: schedule == "shared")
    forms.forget()
    kernel, stride, dilation, padding = ROWS_AS_DEPTH[filters]
    lanes = lanes_of(dtype)
    for groups, channels, outputs in ((1, lanes + 3, 2 * lanes + 1), (2, lanes, 7)):
        x = between(integers(50, (2, groups * channels, 13, 17), dtype, 4) + 5, WRONG)
        weight = integers(51, (groups * outputs, channels, *kernel), dtype, 2) + 3
        bias = noise(52, groups * outputs, dtype)
        options = {"stride": stride, "dilation": dilation, "padding": padding, "groups": groups}
        expected = oracle.conv2d(x, weight, bias, **options)
        residual = integers(53, expected.shape, dtype)
        frame = Frame(expected.shape, dtype)
        fastpool.conv2d(x, weight, bias, residual=residual, activation=(0, 900), out=frame.array, **options)
        assert_close(frame.array.copy(), np.clip(expected + residual, 0, 900))
        frame.assert_kept()
        assert_close(fastpool.Conv2d(weight, bias, **options)(x), expected)
        x[1, channels - 1, 6, 5] = np.inf
        assert_close(fastpool.conv2d(x, weight, bias, **options), oracle.conv2d(x, weight, bias, **options))
    for plan in forms.plans:
        assert plan.steps[-1].kernel.routine is SCHEDULES[schedule]
        assert plan.steps[-1].fields["slices"] == kernel[0]


@every_dtype
@pytest.mark.parametrize("taps", [2, 3, 4, 5, 7, 9])
def test_filters_of_depth_alone(forms, taps, dtype):
    """They filter the rows of images whose rows are planes."""
    forms.forget()
    x, weight = integers(54, (2, 18, 11, 3, 5), dtype, 4), integers(55, (35, 18, taps, 1, 1), dtype, 2)
    for dilation, pads in ((1, (0, 0)), (1, (taps - 1, 2)), (2 if taps < 9 else 1, (4, 3))):
        options = {"stride": (1, 1, 1), "padding": (pads, (0, 0), (0, 0)), "dilation": (dilation, 1, 1), "groups": 1}
        expected = conv3d(x, weight, None, **options)
        assert_close(fastpool.conv3d(x, weight, None, **options), expected)
        assert_close(fastpool.Conv3d(weight, None, **options)(x), expected)
        x[1, 5, 7, 2, 4] = np.inf
    for plan in forms.plans:
        assert plan.steps[-1].fields["finish_rows"].shape[0] == f"winograd {taps} 1 down"


@every_dtype
@pytest.mark.parametrize("dilation", [2, 5])
def test_long_dilated_rows_are_many_tasks(forms, monkeypatch, dilation, dtype):
    """Cut between tiles that lie among each other."""
    monkeypatch.setattr(winograd, "_is_shared", lambda tiling: False)
    forms.forget()
    x, weight = noise(56, (1, 20, 1500), dtype), noise(57, (40, 20, 3), dtype)
    found = fastpool.conv1d(x, weight, None, 1, dilation, dilation)
    expected = oracle.conv2d(x[:, :, None], weight[:, :, None], None, 1, (0, dilation), (1, dilation))
    assert_close(found, expected[:, :, 0])
    (plan,) = forms.plans
    fields = plan.steps[-1].fields
    assert fields["column_groups"] > 2
    assert fields["group_columns"] % dilation == 0


def test_auto_filters_one_axis():
    """Of layers of one dimension, and of rows or columns, where the direct sum took 1.4 to 2.5 times as long."""
    for name, weight, shape, taps in (
        ("Conv1d", (128, 80, 3), (1, 80, 3000), (1, 3)),
        ("Conv2d", (128, 128, 1, 7), (1, 128, 17, 17), (1, 7)),
        ("Conv2d", (128, 128, 7, 1), (1, 128, 17, 17), (7, 1)),
        ("Conv2d", (64, 64, 7, 7), (1, 64, 56, 56), (1, 7)),
        ("Conv3d", (128, 144, 3, 1, 1), (1, 144, 8, 28, 28), (3, 1)),
    ):
        layer = getattr(fastpool, name)(np.ones(weight, np.float32))
        found = layer.explain(shape)
        assert found.algorithm == "winograd"
        outputs, of_filter = found.filtering
        assert of_filter == taps
        assert f"F({outputs[0]}x{outputs[1]}, {taps[0]}x{taps[1]})" in str(found)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@every_schedule
def test_winograd_in_groups_and_dilated_is_bit_identical_for_any_number_of_threads(forms, schedule):
    forms.choose(FORMS[0], schedule)
    x, weight, results = noise(34, (2, 40, 31, 29), np.float32), noise(35, (80, 20, 3, 3), np.float32), set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results.add(fastpool.conv2d(x, weight, None, 1, 2, 2, 2).tobytes())
    assert len(results) == 1
    forms.assert_chosen(FORMS[0], schedule)


@every_dtype
def test_winograd_is_asked_for_where_it_is_impossible(dtype):
    """Other strides, dilations, small groups, shapes and paddings are computed all the same."""
    x, weight = integers(12, (2, 4, 9, 20), dtype), integers(13, (6, 4, 3, 3), dtype, 4)
    for options in (
        {"stride": 3},
        {"stride": (1, 2)},
        {"dilation": 2, "stride": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"groups": 2, "weight": weight[:, :2]},
        {"groups": 4, "weight": weight[:4, :1]},
        {"weight": weight[:, :, :2]},
        {"weight": weight[:, :, :1, :1]},
        {"x": x[..., ::2]},
        {"x": x[..., ::-1]},
    ):
        arguments = {"x": x, "weight": weight} | options
        expected = oracle.conv2d(**arguments)
        for algorithm in ("auto", "direct", "winograd"):
            assert_close(fastpool.conv2d(**arguments, algorithm=algorithm), expected)
            layer = {key: value for key, value in arguments.items() if key != "x"}
            assert_close(fastpool.Conv2d(**layer, algorithm=algorithm)(arguments["x"]), expected)


def test_errors_do_not_grow_with_the_channels(forms):
    """Below 1e-5 of the largest result, with room for what is rare; summed in one go, F(5, 3) of 512 has 1.3e-5."""
    for form in FORMS:
        if not form.suits(ELEMENT_TYPES[np.dtype(np.float32)]):
            continue
        forms.choose(form, "shared")
        rows, columns = 10 * form.strides[0], 10 * form.strides[1]
        x, weight = (
            noise(17, (1, 520, rows, columns), np.float32),
            noise(18, (20, 520, *form.kernels), np.float32),
        )
        padding = tuple(taps // 2 for taps in form.kernels)
        expected = oracle.conv2d(x.astype(np.float64), weight.astype(np.float64), None, form.strides, padding)
        found = fastpool.conv2d(x, weight, None, form.strides, padding)
        assert np.abs(found - expected).max() < 5e-6 * np.abs(expected).max(), form
        forms.assert_chosen(form, "shared")
