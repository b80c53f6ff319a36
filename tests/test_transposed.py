"""Transposed convolutions by phases and by overlapping sums, against sums scattered one input at a time."""

import copy
import itertools
import pickle
from math import prod

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    assert_same_bits,
    between,
    every_dtype,
    integers,
    lanes_of,
    needs_mprotect,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart
from sweeps import examples

import fastpool
from fastpool import transposed_layer
from fastpool.plans import transposed_problem
from fastpool.plans.overlap_add import plan_overlap_add
from fastpool.plans.phases import plan_phases
from fastpool.plans.winograd_forms import WinogradForm
from fastpool.routines.interleave import INTERLEAVED_STRIDES

WAYS = {"by phases": plan_phases, "by overlapping sums": plan_overlap_add}
every_way = pytest.mark.parametrize("way", WAYS)


def scattered(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Each input adds its multiple of the filters, tap by tap; one number, or one for each axis."""
    axes = weight.ndim - 2
    stride, padding, extra, dilation = (
        v if isinstance(v, tuple) else (v,) * axes for v in (stride, padding, output_padding, dilation)
    )
    pads = [p if isinstance(p, tuple) else (p, p) for p in padding]
    images, channels, kernel = x.shape[0], weight.shape[0] // groups, weight.shape[2:]
    filters = weight.reshape(groups, channels, *weight.shape[1:])
    full = [
        (n - 1) * s + d * (k - 1) + 1 + more
        for n, s, d, k, more in zip(x.shape[2:], stride, dilation, kernel, extra, strict=True)
    ]
    y = np.zeros((images, groups, weight.shape[1], *full), x.dtype)
    for tap in itertools.product(*map(range, kernel)):
        of_tap = filters[(..., *tap)]
        of_axes = zip(tap, dilation, x.shape[2:], stride, strict=True)
        places = [slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in of_axes]
        for group, channel in itertools.product(range(groups), range(channels)):
            of_channel = x[:, group * channels + channel]
            for out in range(weight.shape[1]):
                y[(slice(None), group, out, *places)] += of_tap[group, channel, out] * of_channel
    within = tuple(slice(begin, n - end) for (begin, end), n in zip(pads, full, strict=True))
    y = y.reshape(images, -1, *full)[(..., *within)]
    return y if bias is None else y + bias.reshape(-1, *(1,) * axes)


def arrays(x, weight, dtype, groups=1):
    """Whole numbers above zero, so that nothing cancels: x, weight and bias."""
    bias = integers(3, (weight[1] * groups,), dtype, 4) + dtype(5)
    return integers(1, x, dtype, 3) + dtype(4), integers(2, weight, dtype, 2) + dtype(3), bias


@pytest.fixture
def take(monkeypatch):
    """Give a function that makes all further plans be of one way; what it returns lists them."""

    def taken(way):
        made = []

        def recorded(problem):
            made.append(WAYS[way](problem))
            return made[-1]

        monkeypatch.setattr(transposed_layer, "plan_transposed", recorded)
        transposed_layer._layers.clear()
        return made

    yield taken
    transposed_layer._layers.clear()


def both(x, weight, bias, **options):
    """The function and the class; they have to agree to the last bit."""
    axes = weight.ndim - 2
    result = getattr(fastpool, f"conv_transpose{axes}d")(x, weight, bias, **options)
    made = getattr(fastpool, f"ConvTranspose{axes}d")(weight, bias, **options)
    for _ in range(2):
        np.testing.assert_array_equal(made(x), result)
    return result


# ------------------------------------------------------------------------------------------------- against the sums

#: Kernel, stride, padding, output_padding, dilation: as networks have them, with gaps, and phases that see nothing.
FORMS = {
    "2x2 s2": (2, 2, 0, 0, 1),
    "3x3 s2": (3, 2, 1, 1, 1),
    "4x4 s2": (4, 2, 1, 0, 1),
    "5x5 s2": (5, 2, 2, 1, 1),
    "3x3 s1": (3, 1, 1, 0, 1),
    "4x4 s4": (4, 4, 0, 0, 1),
    "8x8 s8, cut": (8, 8, 3, 0, 1),
    "5x5 s3": (5, 3, 1, 2, 1),
    "3x3 s5": (3, 5, 1, 0, 1),
    "1x1 s3": (1, 3, 0, 2, 1),
    "3x3 s2, dilated by 2": (3, 2, 0, 1, 2),
    "3x3 s2, dilated by 3": (3, 2, 2, 0, 3),
    "3x3 s4, dilated by 6": (3, 4, 0, 3, 6),
    "3x3 s1, dilated by 2": (3, 1, 2, 1, 2),
    "7x7 s2, padded far": (7, 2, 6, 0, 1),
    "2x3 s1x2": ((2, 3), (1, 2), (0, 1), (0, 1), 1),
    "3x1 s2x4": ((3, 1), (2, 4), (1, 0), (1, 3), 1),
    "one side cut": (4, 2, ((2, 0), (0, 3)), 0, 1),
}


@every_dtype
@every_way
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, way, dtype, take):
    kernel, stride, padding, output_padding, dilation = FORMS[form]
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    made = take(way)
    for images, groups, inputs, outputs, size in ((1, 1, 3, 2, (7, 9)), (2, 3, 2, 5, (4, lanes_of(dtype) + 1))):
        given_ = arrays((images, groups * inputs, *size), (groups * inputs, outputs, *kernel), dtype, groups)
        options = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        assert_close(both(*given_, **options, groups=groups), scattered(*given_, **options, groups=groups))
    assert made


@every_way
@pytest.mark.parametrize("stride", [*INTERLEAVED_STRIDES, 3])
def test_every_width(stride, way, take):
    """Rows of less than a vector, of whole ones and of any remainder, from phases of equal and of other lengths."""
    take(way)
    lanes = lanes_of(np.float32)
    for width, kernel in itertools.product(range(1, 2 * lanes + 3), (stride, stride + 1)):
        given_ = arrays((1, 2, 2, width), (2, 2, 1, kernel), np.float32)
        options = {"stride": (1, stride), "output_padding": (0, stride - 1)}
        ours = fastpool.conv_transpose2d(*given_, **options)
        assert_close(ours, scattered(*given_, stride=(1, stride), output_padding=(0, stride - 1)))


@every_way
@pytest.mark.parametrize("axes", [1, 3])
def test_other_ranks(axes, way, take):
    take(way)
    sizes = {1: (37,), 3: (3, 4, 5)}[axes]
    for kernel, stride, padding, extra, dilation in (
        (2, 2, 0, 0, 1),
        (4, 2, 1, 1, 1),
        (3, 3, 1, 0, 2),
        (3, 1, 1, 0, 1),
    ):
        given_ = arrays((2, 4, *sizes), (4, 3, *(kernel,) * axes), np.float32, 2)
        options = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": 2}
        assert_close(both(*given_, **options), scattered(*given_, **options))


@every_way
@pytest.mark.parametrize("limit", [1, 2000, 20_000])
def test_in_pieces(limit, way, take, monkeypatch):
    """Columns, rows, depths or images at a time, the last piece a smaller one."""
    monkeypatch.setattr(transposed_problem, "TOGETHER_BYTES", limit)
    made = take(way)
    for shape, weight, options in (
        ((1, 3, 11, 6), (3, 2, 4, 4), {"stride": 2, "padding": 1}),
        ((3, 2, 5, 4), (2, 3, 3, 3), {"stride": (3, 2), "padding": 1, "output_padding": (2, 1)}),
        ((1, 2, 5, 3, 4), (2, 2, 3, 3, 3), {"stride": 2}),
        ((2, 2, 29), (2, 4, 5), {"stride": 2, "padding": 2}),
        ((1, 2, 9, 5), (2, 3, 3, 3), {"stride": 2, "dilation": 2, "padding": 3}),
        ((1, 2, 1, 9), (2, 3, 9, 3), {"stride": (4, 2), "padding": (3, 0)}),  # pieces that see no input
    ):
        given_ = arrays(shape, weight, np.float32)
        assert_close(both(*given_, **options), scattered(*given_, **options))
    steps = [step.kernel.routine.name for planned in made for step in planned.plan.steps]
    last = {"by phases": "interleave", "by overlapping sums": "overlap_add"}[way]
    assert (steps.count(last) > len(made)) == (limit < 20_000), "no more than one piece"


def test_the_faster_way_is_taken():
    """Few output channels fill no vector by phases; 2x2 at stride 2 has no overlaps, and larger maps use Winograd."""
    made = {}
    for name, x, weight, options in (
        ("few channels", (1, 64, 32, 32), (64, 3, 4, 4), {"stride": 2, "padding": 1}),
        ("many channels", (1, 64, 32, 32), (64, 64, 4, 4), {"stride": 2, "padding": 1}),
        ("no overlaps", (1, 16, 9, 9), (16, 16, 2, 2), {"stride": 2}),
    ):
        layer = transposed_layer.transposed_layer_for(
            np.zeros(weight, np.float32), np.dtype(np.float32), *({"stride": 1, "padding": 0} | options).values(),
            0, 1, 1, None, True, True,
        )  # fmt: skip
        made[name] = layer.bind(np.zeros(x, np.float32)).planned
    last = {name: planned.plan.steps[-1].kernel.routine.name for name, planned in made.items()}
    assert last == {"few channels": "overlap_add", "many channels": "interleave", "no overlaps": "interleave"}
    assert all(isinstance(packed.form, WinogradForm) for packed in made["many channels"].packed)
    assert [packed.filters.shape for packed in made["no overlaps"].packed] == [(64, 16, 1, 1, 1)]


def test_one_phase_is_an_ordinary_convolution():
    x, weight, bias = arrays((2, 5, 12, 13), (5, 4, 3, 3), np.float64)
    turned = np.flip(weight, (2, 3)).swapaxes(0, 1)
    ours = fastpool.conv_transpose2d(x, weight, bias, padding=1)
    assert_close(ours, fastpool.conv2d(x, turned, bias, padding=1, algorithm="direct"))


# ------------------------------------------------------------------------------------------------ numbers, not finite


@every_way
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_x_stays_where_it_has_been_added(bad, way, take):
    """Also where Winograd's filtering has spread it over a tile first."""
    made = take(way)
    x, weight, bias = arrays((1, 32, 30, 30), (32, 64, 4, 4), np.float32)
    for place in ((0, 0), (29, 29), (13, 14)):
        x[0, 3][place] = bad
    for _ in range(2):  # the second time, what repairs a tile is compiled
        assert_close(fastpool.conv_transpose2d(x, weight, bias, 2, 1), scattered(x, weight, bias, 2, 1))
    assert way != "by phases" or isinstance(made[0].packed[0].form, WinogradForm)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, 0), (3, 0)])
def test_weights_that_are_not_finite_meet_inputs_only(stride, padding):
    for tap in ((0, 0), (2, 2), (1, 0)):
        x, weight, bias = arrays((1, 4, 6, 7), (4, 3, 3, 3), np.float32)
        weight[1, 2][tap] = np.inf
        assert_close(both(x, weight, bias, stride=stride, padding=padding), scattered(x, weight, bias, stride, padding))


# -------------------------------------------------------------------------------------------------- arrays in memory


@every_way
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, way, take):
    take(way)
    x, weight, bias = arrays((2, 6, 7, 5), (6, 3, 3, 3), np.float32)
    expected = scattered(x, weight, bias, 2, 1)
    place = LAYOUTS[layout]
    assert_close(both(place(x), place(weight), place(bias), stride=2, padding=1), expected)


@every_way
@pytest.mark.parametrize("contiguous", [True, False])
def test_out(contiguous, way, take):
    take(way)
    x, weight, bias = arrays((2, 6, 7, 5), (6, 3, 3, 3), np.float32)
    expected = scattered(x, weight, bias, 2, 1)
    for call in (
        lambda out: fastpool.conv_transpose2d(x, weight, bias, 2, 1, out=out),
        lambda out: fastpool.ConvTranspose2d(weight, bias, 2, 1)(x, out=out),
    ):
        frame = Frame(expected.shape, np.float32, contiguous)
        assert call(frame.array) is frame.array
        assert_close(np.ascontiguousarray(frame.array), expected)
        frame.assert_kept()


def check_guarded_memory(way):
    """All arrays end, or begin, at memory that must not be touched."""
    transposed_layer.plan_transposed = WAYS[way]
    for at_end, (kernel, stride, width) in itertools.product(
        (True, False), ((2, 2, 5), (4, 2, 16), (4, 2, 19), (3, 1, 7), (5, 3, 9), (8, 4, 17))
    ):
        memory = GuardedMemory()
        for dtype in DTYPES:
            given_ = arrays((1, 3, 4, width), (3, 2, kernel, kernel), dtype)
            expected = scattered(*given_, stride, 1)
            x, weight, bias = (memory.array(a, at_end) for a in given_)
            for made in (fastpool.conv_transpose2d, None):
                out = memory.array(np.zeros(expected.shape, dtype), at_end)
                if made is None:
                    fastpool.ConvTranspose2d(weight, bias, stride, 1)(x, out=out)
                else:
                    made(x, weight, bias, stride, 1, out=out)
                assert_close(out, expected)


@needs_mprotect
@every_way
def test_nothing_else_is_touched(way):
    run_apart("test_transposed", "check_guarded_memory", way, environment=FILLED_MEMORY)


def test_what_lies_around_x_is_not_seen():
    given_ = arrays((1, 3, 9, 11), (3, 20, 4, 4), np.float32)
    x = between(given_[0], np.nan)
    assert_close(fastpool.conv_transpose2d(x, *given_[1:], 2, 1), scattered(*given_, 2, 1))


# --------------------------------------------------------------------------------------------------- bounds, integers


@pytest.mark.parametrize("activation", ["relu", (None, 100), (-20, 150)])
@every_way
def test_activation(activation, way, take):
    """Also of outputs that see no input."""
    take(way)
    x, weight, bias = integers(1, (1, 3, 6, 5), np.float32), integers(2, (3, 4, 3, 3), np.float32), BIASES
    low, high = (0, None) if activation == "relu" else activation
    for stride in (1, 2, 5):
        expected = np.clip(scattered(x, weight, bias, stride), low, high)
        assert_close(both(x, weight, bias, stride=stride, activation=activation), expected)


BIASES = np.array([-300.0, 300.0, 1.0, -7.0], np.float32)


def test_integers_of_one_prepared_convolution():
    """x decides the dtype of the result at each call."""
    weight, bias = integers(1, (3, 5, 4, 4), np.int8), integers(2, (5,), np.int16)
    made = fastpool.ConvTranspose2d(weight, bias, 2, 1, activation=(-(2**40), 2**40))
    for dtype in (np.int8, np.uint16, np.int64, np.int8):
        x = integers(3, (2, 3, 5, 6), np.int8).astype(dtype)
        sums = np.int32 if dtype is np.int8 else np.int64
        assert_close(made(x), scattered(x.astype(sums), weight.astype(sums), bias.astype(sums), 2, 1))
    with pytest.raises(TypeError, match="x must have dtype"):
        made(np.ones((2, 3, 5, 6), np.float32))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2)])
def test_integers_are_never_filtered(kernel, stride):
    """Of floats these layers would go through Winograd's filtering."""
    x = integers(1, (1, 64, 24, 24), np.int8)
    weight = integers(2, (64, 64, kernel, kernel), np.int8)
    found = fastpool.ConvTranspose2d(weight, None, stride, 1)
    assert {part.algorithm for part in found.explain(x.shape).convolutions} == {"direct"}
    floats = fastpool.conv_transpose2d(x.astype(np.float64), weight.astype(np.float64), None, stride, 1)
    np.testing.assert_array_equal(found(x), np.rint(floats).astype(np.int32))


# ---------------------------------------------------------------------------------------------------- prepared objects


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda conv: pickle.loads(pickle.dumps(conv))])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("dtype", [*DTYPES, np.int16])
def test_copies(axes, dtype, again):
    x, weight, bias = arrays((2, 4, *(5,) * axes), (4, 3, *(3,) * axes), dtype)
    kept = weight.copy(), bias.copy()
    made = getattr(fastpool, f"ConvTranspose{axes}d")(weight, bias, 2, 1, activation=(0, 200))
    early = again(made)
    weight[...], bias[...] = 0, 0  # they were copied
    sums = np.int64 if dtype is np.int16 else dtype
    expected = np.clip(scattered(x.astype(sums), *(a.astype(sums) for a in kept), 2, 1), 0, 200)
    for one in (made, early, again(made)):
        assert repr(one) == repr(made)
        assert_close(one(x), expected)
    assert f"ConvTranspose{axes}d(weight={kept[0].shape} {np.dtype(dtype)}, stride=2" in repr(made)


def test_weights_are_packed_once(monkeypatch):
    packed = []
    turn = transposed_layer.TransposedWeights._turn
    monkeypatch.setattr(
        transposed_layer.TransposedWeights, "_turn", lambda self, filters: packed.append(filters) or turn(self, filters)
    )
    x, weight, bias = arrays((2, 4, 9, 9), (4, 3, 3, 3), np.float32)
    made = fastpool.ConvTranspose2d(weight, bias, 2, 1)
    for image in (x, x, x[:1], x[0], x):
        made(image)
    assert len(packed) == 1


def test_errors_after_calls_that_worked():
    x, weight, bias = arrays((2, 4, 9, 9), (4, 3, 3, 3), np.float32)
    made = fastpool.ConvTranspose2d(weight, bias, 2, 1)
    made(x)
    with pytest.raises(ValueError, match="x must have the 4 channels"):
        made(x[:, :3])
    with pytest.raises(TypeError, match="x must have the dtype of weight"):
        made(x.astype(np.float64))
    with pytest.raises(ValueError, match="out must have the shape"):
        made(x, out=np.zeros((2, 3, 9, 9), np.float32))
    with pytest.raises(ValueError, match="out must not overlap x"):
        fastpool.ConvTranspose2d(np.ones((4, 4, 1, 1), np.float32))(x, out=x)
    with pytest.raises(ValueError, match="groups must divide"):
        fastpool.ConvTranspose2d(weight, groups=3)
    with pytest.raises(ValueError, match=r"output_padding\[0\] must be smaller"):
        fastpool.ConvTranspose2d(weight, stride=2, output_padding=2)(x)


def test_explanations():
    """What they say is read from the plan of a call."""
    for shape, weight, options, algorithm, parts, text in (
        (
            (1, 64, 32, 32),
            (64, 32, 4, 4),
            {"stride": 2, "padding": 1},
            "phases",
            ["winograd"] * 4,
            "4 times 2x2, 64 ->",
        ),
        ((1, 64, 32, 32), (64, 3, 4, 4), {"stride": 2, "padding": 1}, "overlapping sums", ["direct"], "1x1, 64 -> 48"),
        ((8, 16, 9), (16, 5, 3), {"padding": 1}, "phases", ["direct"], "1 convolution, which gives the result"),
        ((3, 4, 300, 400), (4, 8, 2, 2), {"stride": 2}, "phases", ["direct"], "put together in 12 pieces"),
        ((1, 4, 5, 6), (4, 2, 3, 3), {"stride": 5}, "phases", ["direct"], "1 convolution, put together in 1 piece"),
    ):
        x, filters = np.zeros(shape, np.float32), np.ones(weight, np.float32)
        made = getattr(fastpool, f"ConvTranspose{len(weight) - 2}d")(filters, **options)
        found, result = made.explain(shape), made(x)
        assert found.algorithm == algorithm
        assert [part.algorithm for part in found.convolutions] == parts
        assert text in str(found)
        assert found.out_shape == result.shape
        assert found.multiply_adds == x.size * prod(weight[1:])
        assert (found.input_bytes, found.weight_bytes, found.output_bytes) == (x.nbytes, filters.nbytes, result.nbytes)
        (weights,) = made._weights.values()
        planned = weights.layer.bind(x).planned
        assert found.workspace_bytes == planned.plan.workspace(found.threads)
        assert found.prepared_weight_bytes == sum(packed.nbytes for packed in weights._packed.values())
    inf = fastpool.ConvTranspose2d(np.full((4, 3, 3, 3), np.inf, np.float32), padding=1)
    assert "not finite" in inf.explain((1, 4, 5, 5)).why
    eight = fastpool.ConvTranspose1d(np.ones((4, 3, 3), np.int8))
    assert "uint16 x int8 in int64" in eight.explain((4, 9), np.uint16).layer
    with pytest.raises(ValueError, match="x must have the 4 channels"):
        eight.explain((5, 9))
    with pytest.raises(ValueError, match="x must have an image"):
        eight.explain((0, 4, 9))
    with pytest.raises(TypeError, match="x must have dtype"):
        eight.explain((4, 9), np.float32)


def test_no_images():
    weight = np.ones((4, 3, 3, 3), np.float32)
    assert both(np.ones((0, 4, 5, 6), np.float32), weight, None, stride=2).shape == (0, 3, 11, 13)


@every_way
def test_same_bits(way, take, always_parallel):
    take(way)
    x = np.random.default_rng(0).standard_normal((2, 40, 33, 31)).astype(np.float32)
    for weight, options in (((40, 30, 4, 4), {"stride": 2, "padding": 1}), ((40, 7, 3, 3), {"stride": 2})):
        weight = np.random.default_rng(1).standard_normal(weight).astype(np.float32)
        assert_same_bits(fastpool.ConvTranspose2d(weight, **options), x)


def test_many_phases_have_no_table():
    """Of 9 million phases 9 see an input; time and memory are those of the result."""
    x, weight, bias = arrays((1, 1, 2, 2), (1, 1, 3, 3), np.float32)
    made = fastpool.ConvTranspose2d(weight, bias, 3000, activation=(6, None))
    expected = scattered(x, weight, bias, 3000)
    assert_close(made(x), np.maximum(expected, 6))
    assert "too many for a table" in made.explain(x.shape).why
    (weights,) = made._weights.values()
    tables = weights.layer.bind(x).planned.plan.tables
    assert sum(table.nbytes for table in tables if isinstance(table, np.ndarray)) < 10**6


def test_a_row_of_many_bytes_is_cut_into_columns():
    """No call needs more scratch than 16 MiB for a thread."""
    x, weight = np.ones((1, 8, 2, 6000), np.float32), np.ones((8, 200, 2, 2), np.float32)
    made = fastpool.ConvTranspose2d(weight, stride=2)
    found = made.explain(x.shape)
    assert found.workspace_bytes <= found.threads * 16 * 2**20
    assert found.pieces >= 2 * 5
    np.testing.assert_array_equal(made(x), np.full((1, 200, 4, 12000), 8, np.float32))


def test_large_strides_cost_nothing():
    """Phases that have no output are not looked at."""
    x, weight = np.ones((1, 2, 1, 1), np.float32), np.ones((2, 3, 2, 2), np.float32)
    for stride in (10**6, 2**31 - 1):
        assert_close(fastpool.conv_transpose2d(x, weight, stride=stride), np.full((1, 3, 2, 2), 2, np.float32))


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_random_arguments(data):
    axes = data.draw(st.integers(1, 3))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    sizes, kernel, stride, dilation = draw(1, 7), draw(1, 4), draw(1, 4), draw(1, 3)
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    of_axes = zip(sizes, stride, dilation, kernel, extra, strict=True)
    full = [(n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in of_axes]
    padding = tuple(data.draw(st.integers(0, min(3, (n - 1) // 2))) for n in full)
    groups = data.draw(st.integers(1, 3))
    shape = (data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 3)), *sizes)
    weight = (shape[1], data.draw(st.integers(1, 4)), *kernel)
    if prod(shape) * prod(weight[1:]) > 50_000:
        return
    given_ = arrays(shape, weight, np.float32, groups)
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    Planner.forget()
    assert_close(both(*given_, **options), scattered(*given_, **options))
