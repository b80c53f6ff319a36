"""Convolutions of integers against the oracle, Python's integers and PyTorch: every dtype, argument, tile; wrapping."""

import itertools
import re
import warnings

import numpy as np
import pytest
from assembly import straight_loops
from conftest import (
    INTEGER_DTYPES,
    LAYOUTS,
    LIMITS,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    between,
    draw,
    filler,
    native,
    needs_mprotect,
    needs_threads,
    scattered,
    sums_of,
    telling_tiles,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart
from sweeps import examples, some, sweep
from test_kernels import OTHER_VECTORS, PROCESSORS, assembly_of, ends_of, host_lacks, on_x86

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.geometry import DATA_PADDING_MODES
from fastpool.layer import layer_for
from fastpool.machine.processor import TARGET
from fastpool.plans.plan import Code, Plan
from fastpool.routines.pack import PACKED_STRIDES
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.table import INTEGER_KERNELS, KERNELS
from fastpool.routines.tiles import TILE_SHAPES

PAIRS = list(itertools.product(INTEGER_DTYPES, INTEGER_DTYPES))
#: Pairs with sums in both dtypes, from signed and unsigned x, widened and not.
SOME_PAIRS = [(np.int8, np.uint8), (np.uint8, np.uint8), (np.uint16, np.int8), (np.int64, np.int32)]
every_pair = pytest.mark.parametrize(("dtype", "weight_dtype"), PAIRS, ids=lambda dtype: dtype.__name__)
some_pairs = pytest.mark.parametrize(("dtype", "weight_dtype"), SOME_PAIRS, ids=lambda dtype: dtype.__name__)


def check(x, weight, *arguments, residual=None, **options):
    """Require `conv2d` and `Conv2d`, returning or filling an array, to equal the oracle; give the result."""
    expected = oracle.conv2d(native(x), native(weight), *arguments, residual=residual, **options)
    assert expected.dtype == sums_of(x.dtype, weight.dtype)
    assert_close(fastpool.conv2d(x, weight, *arguments, residual=residual, **options), expected)
    frame = Frame(expected.shape, expected.dtype.type, contiguous=len(arguments) % 2 == 0)
    prepared = fastpool.Conv2d(weight, *arguments, **options)
    assert prepared(x, residual=residual, out=frame.array) is frame.array
    assert_close(frame.array, expected)
    frame.assert_kept()
    return expected


# --------------------------------------------------------------------------------------------- the reference itself


def test_the_oracle_sums_integers_and_wraps():
    """Against Python's integers, which are exact, brought into the range of the sums at the end."""
    for dtype, weight_dtype in PAIRS:
        x, weight = draw(1, (1, 4, 3, 5), dtype), draw(2, (6, 2, 2, 2), weight_dtype)
        sums = sums_of(dtype, weight_dtype)
        bias, bits = draw(3, 6, sums), 8 * np.dtype(sums).itemsize
        result = oracle.conv2d(x, weight, bias, groups=2)
        assert result.dtype == sums
        for o, i, j in itertools.product(range(6), range(2), range(4)):
            exact = int(bias[o])
            for c, k, m in itertools.product(range(2), range(2), range(2)):
                exact += int(x[0, 2 * (o // 3) + c, i + k, j + m]) * int(weight[o, c, k, m])
            assert int(result[0, o, i, j]) == (exact + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def stacked(x, weight, bias, stride, padding, dilation, groups, mode="zeros"):
    """3-D convolution: the sum, over the taps in depth, of 2-D convolutions of the images of that depth."""
    modes = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    x = np.pad(x, [(0, 0)] * (x.ndim - 3) + [(padding, padding), (0, 0), (0, 0)], modes.get(mode, mode))
    depths = (x.shape[-3] - dilation * (weight.shape[2] - 1) - 1) // stride + 1
    images = []
    for depth in range(depths):
        total = None if bias is None else bias.astype(sums_of(x.dtype, weight.dtype))
        for tap in range(weight.shape[2]):
            image = x[..., depth * stride + tap * dilation, :, :]
            part = oracle.conv2d(image, weight[:, :, tap], None, stride, padding, dilation, groups, padding_mode=mode)
            total = part if total is None else part + (total[:, None, None] if total.ndim == 1 else total)
        images.append(total)
    return np.stack(images, axis=-3)


# ------------------------------------------------------------------------------------------------------- every dtype


@every_pair
@sweep
def test_every_pair_of_dtypes(dtype, weight_dtype):
    """In one, two and three dimensions, and transposed; 20 output channels and then 3."""
    for out_channels, kernel in [(20, (3, 3, 3)), (3, (1, 2, 1))]:
        for axes in (1, 2, 3):
            x = draw(4, (2, 4, *(5, 7, 19)[-axes:]), dtype)
            weight = draw(5, (out_channels, 4, *kernel[-axes:]), weight_dtype)
            bias = draw(6, out_channels, sums_of(dtype, weight_dtype))
            for stride, padding in [(1, 0), (1, 1), (2, 1), (3, 2)]:
                arguments = (bias, stride, padding)
                name, given = f"conv{axes}d", (x, weight, *arguments)
                if axes == 1:
                    pads = ((0, 0), (padding, padding))
                    expected = oracle.conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), pads)[:, :, 0]
                else:
                    expected = (stacked if axes == 3 else oracle.conv2d)(*given, dilation=1, groups=1)
                assert_close(getattr(fastpool, name)(*given), expected)
                assert_close(getattr(fastpool, name.capitalize())(weight, *arguments)(x[0]), expected[0])
            turned = np.ascontiguousarray(np.moveaxis(weight, 0, 1))
            for stride, padding, more, dilation in [(1, 0, 0, 1), (2, 0, 1, 1), (3, 0, 0, 2)]:
                given = (x, turned, bias, stride, padding, more, 1, dilation)
                assert_close(getattr(fastpool, f"conv_transpose{axes}d")(*given), scattered(*given))


def test_plans_ask_for_what_is_in_the_table(planner, monkeypatch):
    """Every pair, role and source: routines, element types and shapes of the specs; nothing is compiled for that."""
    monkeypatch.setattr(Plan, "run", lambda *arguments, **options: None)
    asked = set()
    for (dtype, weight_dtype), channels in itertools.product(PAIRS, (2, 40)):
        x, weight = draw(7, (1, channels, 6, 36), dtype), draw(8, (40, channels, 2, 2), weight_dtype)
        for source in LIMITS:
            planner.force(source=source)
            for stride in (*PACKED_STRIDES, 9):
                fastpool.conv2d(x, weight, stride=stride, padding=1)
    routines = {id(routine.body): name for name, (routine, _) in KERNELS.items()}
    for plan in planner.plans:
        for step in plan.steps:
            for code in [step.kernel, *(value for value in step.fields.values() if isinstance(value, Code))]:
                asked.add((routines[id(code.routine.body)], code.element.numba_name, code.shape))
    for name, sums, shape in asked:
        assert shape in INTEGER_KERNELS[name][sums]
    packers = {(sums, shape) for name, sums, shape in asked if name == "pack_channel"}
    assert packers == {(sums, shape) for sums, shapes in INTEGER_KERNELS["pack_channel"].items() for shape in shapes}
    assert len(packers) == 9 * (len(PACKED_STRIDES) + 1)


# --------------------------------------------------------------------------------------------------- every argument

STRIDES = [1, 2, 3, (1, 2), (2, 1), (3, 2), (1, 5)]
FILTERS = [(1, 1), (1, 3), (2, 1), (3, 3), (5, 2)]
PADDINGS = [0, 2, (1, 3), ((2, 0), (0, 1)), "same", "same_lower"]


@some_pairs
@pytest.mark.parametrize("source", [None, *LIMITS])
@sweep
def test_strides_kernels_dilations_groups_and_paddings(planner, source, dtype, weight_dtype):
    planner.force(source=source)
    x, count = draw(9, (2, 4, 9, 21), dtype), 0
    for index, (kernel, padding, stride, dilation) in enumerate(
        itertools.product(FILTERS, PADDINGS, STRIDES, [1, 2, (3, 1)])
    ):
        if index % 2 == len(str(source)) % 2:  # sources share the cases, of which there are many
            continue
        groups = (1, 2, 4)[index % 3]
        weight = draw(10, (8, 4 // groups, *kernel), weight_dtype)
        arguments = (x, weight, draw(11, 8, sums_of(dtype, weight_dtype)), stride, padding, dilation, groups)
        try:
            expected = oracle.conv2d(*arguments)
        except ValueError:
            with pytest.raises(ValueError, match="weight must fit"):
                fastpool.conv2d(*arguments)
            continue
        assert_close(fastpool.conv2d(*arguments), expected)
        count += 1
    assert count > 250
    if dtype != np.int64 and source is not None:  # narrow integers are never read in place
        planner.assert_taken(source=source)


@some_pairs
@pytest.mark.parametrize("mode", ["zeros", *DATA_PADDING_MODES])
@pytest.mark.parametrize("source", LIMITS)
@sweep
def test_padding_modes(planner, source, mode, dtype, weight_dtype):
    planner.force(source=source)
    weight, bias = draw(12, (3, 2, 3, 2), weight_dtype), draw(13, 3, sums_of(dtype, weight_dtype))
    for size, padding in itertools.product(
        [(4, 5), (1, 2), (3, 37)], [2, ((2, 1), (0, 3)), ((11, 7), (5, 17)), "same"]
    ):
        x = draw(14, (2, 2, *size), dtype)
        for stride, dilation in [(1, 1), (2, 1), ((3, 2), 1), (1, (1, 2)), (2, (3, 4))]:
            given = (LAYOUTS["every second column" if stride == 2 else "contiguous"](x), weight, bias)
            try:
                check(*given, stride, padding, dilation, padding_mode=mode)
            except ValueError:
                with pytest.raises(ValueError, match="a window"):
                    oracle.conv2d(*given, stride, padding, dilation, padding_mode=mode)


@some_pairs
@pytest.mark.parametrize("axes", [1, 3])
def test_padding_modes_of_other_ranks(axes, dtype, weight_dtype):
    x, weight = draw(15, (2, 4, *(4, 5, 18)[-axes:]), dtype), draw(16, (6, 2, *(2, 3, 3)[-axes:]), weight_dtype)
    bias = draw(17, 6, sums_of(dtype, weight_dtype))
    for mode, stride, dilation in itertools.product(("zeros", *DATA_PADDING_MODES), (1, 2), (1, 2)):
        if axes == 3:
            expected = stacked(x, weight, bias, stride, 2, dilation, 2, mode)
        else:
            given = (x[:, :, None], weight[:, :, None], bias, (1, stride), ((0, 0), (2, 2)), (1, dilation), 2)
            expected = oracle.conv2d(*given, padding_mode=mode)[:, :, 0]
        ours = getattr(fastpool, f"conv{axes}d")(x, weight, bias, stride, 2, dilation, 2, padding_mode=mode)
        assert_close(ours, expected)


@some_pairs
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed(axes, dtype, weight_dtype):
    x = draw(18, (2, 4, *(3, 4, 17)[-axes:]), dtype)
    for groups, stride, dilation, padding in itertools.product((1, 2), (1, 2, 3), (1, 2), (0, 1)):
        weight = draw(19, (4, 3, *(2, 3, 4)[-axes:]), weight_dtype)
        given = (draw(20, 3 * groups, sums_of(dtype, weight_dtype)), stride, padding, stride - 1, groups, dilation)
        function = getattr(fastpool, f"conv_transpose{axes}d")
        expected = scattered(x, weight, *given)
        assert_close(function(x, weight, *given), expected)
        assert_close(function(x[1], weight, *given), expected[1])
        assert_close(function(x[:0], weight, *given), expected[:0])
        frame = Frame(expected.shape, expected.dtype.type)
        assert function(LAYOUTS["all reversed"](x), weight, *given, out=frame.array) is frame.array
        assert_close(frame.array, expected)
        frame.assert_kept()


@some_pairs
@pytest.mark.parametrize("groups", [1, 3, 40])
def test_groups_and_depthwise(groups, dtype, weight_dtype):
    for multiplier in (1, 2):
        channels = 40 if groups == 40 else 3 * groups
        x = draw(21, (2, channels, 7, 20), dtype)
        weight = draw(22, (multiplier * channels, channels // groups, 3, 3), weight_dtype)
        check(x, weight, None, 1, 1, groups=groups)
        check(x, weight, draw(23, multiplier * channels, sums_of(dtype, weight_dtype)), 2, "same", groups=groups)


@some_pairs
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, dtype, weight_dtype):
    change, sums = LAYOUTS[layout], sums_of(dtype, weight_dtype)
    x, weight, bias = draw(24, (2, 4, 6, 33), dtype), draw(25, (10, 2, 3, 2), weight_dtype), draw(26, 10, sums)
    for options in ({}, {"stride": (2, 1)}, {"stride": 2, "padding": 1}, {"stride": 3, "padding_mode": "reflect"}):
        expected = oracle.conv2d(x, weight, bias, groups=2, **options)
        residual = draw(27, expected.shape, sums)
        arrays = change(x), change(weight), change(bias)
        assert_close(fastpool.conv2d(*arrays, groups=2, **options), expected)
        prepared = fastpool.Conv2d(*arrays[1:], groups=2, **options)
        assert_close(prepared(arrays[0], residual=change(residual)), expected + residual)


@some_pairs
def test_batches_and_broadcast_arrays(dtype, weight_dtype):
    weight, sums = draw(28, (5, 3, 3, 3), weight_dtype), sums_of(dtype, weight_dtype)
    x, bias = draw(29, (6, 3, 7, 18), dtype), draw(30, 5, sums)
    for options in ({}, {"stride": 2, "padding": 1}, {"padding": 2, "padding_mode": "circular"}):
        whole = check(x, weight, bias, **options)
        for n in (0, 1, 5):
            residual = draw(31, (n, *whole.shape[1:]), sums)
            check(x[:n], weight, bias, residual=residual, **options)
        check(x[2], weight, bias, residual=draw(32, whole.shape[1:], sums), **options)
        check(np.broadcast_to(x[:, :, :1, :1], x.shape), np.broadcast_to(weight[:1], weight.shape), bias, **options)


@settings(deadline=None, max_examples=examples(80))
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(PAIRS),
    st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(3, 12), st.integers(3, 50)),
    st.integers(1, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(0, 4), st.integers(0, 4))),
    st.sampled_from([None, "relu", "relu6", (-(10**6), 10.5)]),
    st.booleans(),
)
def test_anything(seed, dtypes, shape, out_channels, kernel, stride, padding, activation, depthwise):
    x = draw(seed, shape, dtypes[0])
    groups, out_channels = (shape[1], shape[1]) if depthwise else (1, out_channels)
    weight = draw(seed + 1, (out_channels, shape[1] // groups, *kernel), dtypes[1])
    options = {"stride": stride, "padding": padding, "groups": groups, "activation": activation}
    check(x, weight, draw(seed + 2, out_channels, sums_of(*dtypes)), **options)


# ------------------------------------------------------------------------------------------------- tiles and memory


@pytest.mark.parametrize("source", LIMITS)
@pytest.mark.parametrize(
    "tile", telling_tiles(TILE_SHAPES[TARGET.registers]), ids=lambda tile: f"{tile.role}{tile.vectors}x{tile.width}"
)
@some_pairs
@sweep
def test_every_tile(planner, dtype, weight_dtype, tile, source):
    """At remainders of blocks, lanes and tiles; what surrounds x must not leak in, what surrounds out not change."""
    planner.force(tile, source)
    sums = sums_of(dtype, weight_dtype)
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(sums)])
    pixels, block = tile.pixels(lanes), tile.block(lanes)
    for index, columns in enumerate(sorted({1, 2, pixels - 1, pixels, pixels + 1, 2 * pixels + 1} - {0})):
        channels = (1, block, block + 1, max(1, block - 1))[index % 4]
        for stride in (1, 2, 3):
            pad = int(stride == 2)
            x = draw(33, (2, 4, 3, (columns - 1) * stride + 2 - pad), dtype)
            weight, bias = draw(34, (2 * channels, 2, 2, 2), weight_dtype), draw(35, 2 * channels, sums)
            frame = Frame((2, 2 * channels, 2, columns), sums, contiguous=index % 3 != 2)
            place = LAYOUTS["within a larger one"] if index % 2 else lambda a: between(a, filler(a.dtype))
            options = {"stride": (1, stride), "groups": 2, "padding": ((0, 0), (pad, 0))}
            options["activation"] = "relu" if index % 2 else None
            expected = oracle.conv2d(x, weight, bias, **options)
            fastpool.conv2d(place(x), weight, bias, out=frame.array, **options)
            assert_close(frame.array, expected)
            frame.assert_kept()
    if dtype != np.int64:
        planner.assert_taken(tile, source)


def check_guarded_memory():
    """Every width up to two vectors, with forbidden pages right after or right before each array."""
    for (dtype, weight_dtype), source in itertools.product(SOME_PAIRS, LIMITS):
        with pytest.MonkeyPatch.context() as patch:
            Planner(patch).force(source=source)
            sums = sums_of(dtype, weight_dtype)
            for columns, stride in itertools.product(range(2, 2 * TARGET.vector_bytes // 4 + 3), (1, 2, 3)):
                memory, at_end = GuardedMemory(), columns % 2 == 0
                arrays = draw(36, (1, 2, 3, columns), dtype), draw(37, (3, 2, 2, 2), weight_dtype), draw(38, 3, sums)
                expected = oracle.conv2d(*arrays, stride, (0, 1))
                out = memory.array(np.zeros(expected.shape, sums), at_end)
                fastpool.conv2d(*(memory.array(a, at_end) for a in arrays), stride, (0, 1), out=out)
                assert_close(out.copy(), expected)


@needs_mprotect
def test_not_a_byte_beyond_any_array_is_touched():
    run_apart("test_integers", "check_guarded_memory", environment=FILLED_MEMORY)


@some_pairs
@pytest.mark.parametrize("shape", [(8, 64, 1024, 1024), (1, 1024, 300, 300), (64, 256, 56, 56), (1, 1, 20000, 20000)])
def test_x_is_not_widened_as_a_whole(shape, dtype, weight_dtype):
    """A thread's scratch stays small however large x is; the plan is made for an x that has no memory of its own."""
    x = np.broadcast_to(np.zeros((), dtype), shape)
    for kernel, stride in [(1, 1), (3, 1), (3, 2)]:
        weight = np.broadcast_to(np.zeros((), weight_dtype), (64, shape[1], kernel, kernel))
        options = (stride, kernel // 2, 1, 1, "zeros", None, "auto", True, True)
        plan = layer_for(weight, 2, *options).over(x).bind(x, False).plan
        for threads in (1, 2, 8):
            assert plan.workspace(threads) <= threads * 16 * 2**20


@needs_threads
@pytest.mark.usefixtures("always_parallel")
@some_pairs
def test_any_number_of_threads(dtype, weight_dtype):
    x, weight = draw(39, (2, 20, 30, 31), dtype), draw(40, (40, 20, 3, 3), weight_dtype)
    expected, conv = oracle.conv2d(x, weight, None, 1, 1), fastpool.Conv2d(weight, None, 1, 1)
    for threads in (1, 2):
        with fastpool.threads(threads):
            assert_close(conv(x), expected)


# -------------------------------------------------------------------------------------------------- machine code


def check_vectors(bits):
    """Require every argument and tile to be right with vectors of so many bits."""
    assert fastpool.info()["vector_bits"] == bits
    for pair in some(SOME_PAIRS, 2):
        test_every_pair_of_dtypes(*pair)
    tiles = telling_tiles(TILE_SHAPES[TARGET.registers], None)
    for number, pair in enumerate(SOME_PAIRS):
        for tile, source in some(itertools.product(tiles, LIMITS), 14, 3 * number):
            with pytest.MonkeyPatch.context() as patch:
                test_every_tile(Planner(patch), *pair, tile, source)


@on_x86
@pytest.mark.parametrize("name", OTHER_VECTORS)
def test_narrower_processors(name):
    processor, features, bits, _ = PROCESSORS[name]
    if lacking := host_lacks(features):
        pytest.skip(f"this processor lacks {', '.join(lacking)}")
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    run_apart("test_integers", "check_vectors", bits, environment=environment)


@on_x86
@pytest.mark.skipif(TARGET.name != "avx512", reason="elsewhere a product takes several steps")
@pytest.mark.parametrize("shape", ends_of(INTEGER_KERNELS["row_of_tiles"]["int32"]), ids=str)
@pytest.mark.parametrize("sums", ["int32", "int64"])
@sweep
def test_tiles_stay_in_registers(sums, shape):
    """In the loops as many products as registers of the tile, or a multiple, and none moved to the stack."""
    _, vectors, width = shape
    step = re.compile(rf"vpmull{'d' if sums == 'int32' else 'q'}\s.*%zmm")
    found = [lines for lines in straight_loops(assembly_of("row_of_tiles", shape, sums)) if any(map(step.match, lines))]
    assert found
    for lines in found:
        assert len(list(filter(step.match, lines))) % (vectors * width) == 0
        for line in lines:
            assert not line.startswith("call"), line
            assert not re.search(r"%zmm\d+.*\(%rsp|\(%rsp.*%zmm\d+", line), f"moved to the stack: {line}"


# ------------------------------------------------------------------------------------------------------ wrapping


SMALLEST, LARGEST = -(2**63), 2**63 - 1


def in_range(exact, bits):
    """The integer of so many bits that an exact one wraps to."""
    return (exact + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


@pytest.mark.parametrize("channels", [1, 2, 30_000, 33_025, 33_026, 40_000, 70_000])
@pytest.mark.parametrize("values", [(255, 255), (255, 254), (-128, -128), (-128, 127), (-128, 255), (255, -128)])
def test_sums_of_eight_bits(channels, values):
    """255 * 255 * 33026 is the first that does not fit into 32 bits."""
    arrays = [np.full((1, channels, 1, 1), value, np.uint8 if value > 127 else np.int8) for value in values]
    result = fastpool.conv2d(*arrays)
    assert result.dtype == np.int32
    assert result.item() == in_range(values[0] * values[1] * channels, 32)


@pytest.mark.parametrize("values", list(itertools.product([SMALLEST, SMALLEST + 1, -1, 3, 2**62, LARGEST], repeat=2)))
def test_sums_of_64_bits_wrap(values):
    arrays = [np.full((1, 5, 1, 1), value, np.int64) for value in values]
    bias = np.array([LARGEST])
    result = fastpool.conv2d(*arrays, bias, residual=np.full((1, 1, 1, 1), 7))
    assert result.item() == in_range(5 * values[0] * values[1] + LARGEST + 7, 64)


def test_unsigned_integers_are_not_taken_for_signed_ones():
    for dtype, weight_dtype in PAIRS:
        largest, one = np.iinfo(dtype).max, np.ones((1, 1, 1, 1), weight_dtype)
        for stride, layout in itertools.product((1, 2, 3), ("contiguous", "columns reversed")):
            x = LAYOUTS[layout](np.full((1, 1, 3, 40), largest, dtype))
            result = fastpool.conv2d(x, one, None, stride)
            np.testing.assert_array_equal(result, np.full(result.shape, largest))
        result = fastpool.conv2d(np.ones((1, 1, 1, 1), weight_dtype), np.full((1, 1, 1, 1), largest, dtype))
        assert result.item() == largest


# ------------------------------------------------------------------------------------------------------------ PyTorch

#: Function -> number of PyTorch's samples of int64, at least. More may come; fewer would mean that some are left out.
SAMPLES = {
    "conv1d": 10,
    "conv2d": 30,
    "conv3d": 20,
    "conv_transpose1d": 10,
    "conv_transpose2d": 12,
    "conv_transpose3d": 10,
}


@pytest.fixture(scope="module")
def torch():
    """PyTorch on one thread, so that it does not spin beside ours."""
    module = pytest.importorskip("torch")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


def as_array(value):
    """A tensor as an array that shares its memory and strides; anything else as it is."""
    return value.numpy() if hasattr(value, "numpy") else value


def compare(torch, name, x, *arguments, **options):
    """Call both functions with the same arguments and require equal results."""
    expected = getattr(torch.nn.functional, name)(x, *arguments, **options).numpy()
    ours = getattr(fastpool, name)(
        as_array(x), *map(as_array, arguments), **{key: as_array(value) for key, value in options.items()}
    )
    assert_close(ours, expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_pytorch(torch, name):
    pytest.importorskip("expecttest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    count = 0
    for operator in [op for op in op_db if op.name == f"nn.functional.{name}"]:
        for sample in operator.sample_inputs("cpu", torch.int64, requires_grad=False):
            compare(torch, name, sample.input, *sample.args, **sample.kwargs)
            count += 1
    assert count >= SAMPLES[name]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layers_beside_pytorch(torch, axes):
    """Integers over the whole range of int64: PyTorch's sums wrap as ours do."""
    for shape, weight_shape, options in [
        ((2, 6, 9, 8, 21), (8, 6, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 6, 5, 6, 37), (10, 3, 2, 2, 3), {"groups": 2, "dilation": 2, "padding": 1}),
        ((2, 3, 5, 6, 18), (40, 3, 2, 2, 2), {"stride": 3}),
    ]:
        x = torch.from_numpy(draw(51, shape[:2] + shape[-axes:], np.int64))
        weight = torch.from_numpy(draw(52, weight_shape[:2] + weight_shape[-axes:], np.int64))
        bias = torch.from_numpy(draw(53, weight_shape[:1], np.int64))
        compare(torch, f"conv{axes}d", x, weight, bias, **options)
        compare(torch, f"conv{axes}d", x, weight, **options)
        turned = torch.from_numpy(draw(54, (shape[1], 4, *weight_shape[-axes:]), np.int64))
        bias = torch.from_numpy(draw(55, 4 * options.get("groups", 1), np.int64))
        compare(torch, f"conv_transpose{axes}d", x, turned, bias, **options)
