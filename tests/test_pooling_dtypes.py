"""Poolings of integers, bool, float16 and bfloat16 against the oracle, and the machine code of their kernels."""

import functools
import itertools
import re
import sys

import numpy as np
import pytest
from assembly import straight_loops
from conftest import (
    HALVES,
    INTEGER_DTYPES,
    LAYOUTS,
    GuardedMemory,
    assert_close,
    between,
    draw,
    filler,
    integers,
    needs_mprotect,
    noise,
    with_ties_and_nan,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from processes import FILLED_MEMORY, run_apart
from sweeps import examples, some, sweep
from test_kernels import OTHER_VECTORS, PROCESSORS, host_lacks, on_x86
from test_pooling_ranks import OTHERS, RANKS, REDUCTIONS, fits, per_axis, reduce

import fastpool
from fastpool import oracle, pooling
from fastpool.dtypes import POOLED
from fastpool.machine.processor import TARGET
from fastpool.plans import pooling as plans
from fastpool.routines.routine import spec_for
from fastpool.routines.smallpool import variant_of
from fastpool.routines.table import KERNELS, POOLING_KERNELS

pytestmark = pytest.mark.usefixtures("rows_alone")

INTEGERS = (*INTEGER_DTYPES, np.uint64)
WHOLE = (*INTEGERS, np.bool_)
DTYPES = (*WHOLE, *HALVES)
name_of = lambda dtype: np.dtype(dtype).name  # noqa: E731
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
some_dtypes = pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.bool_, *HALVES], ids=name_of)
every_rank = pytest.mark.parametrize("rank", RANKS)
EXTREMA = ("max", "max and where", "min", "min and where")


def values(seed, shape, dtype):
    """Give anything of a dtype: whole range, ties, NaN; numbers that norms and sums do not carry over the range."""
    if np.dtype(dtype).kind == "b":
        return np.random.default_rng(seed).random(shape) < 0.5
    if dtype in HALVES:
        return (noise if seed % 2 else with_ties_and_nan)(seed, shape, dtype)
    return integers(seed, shape, np.int64, 3).astype(dtype) if seed % 3 == 1 else draw(seed, shape, dtype)


def surrounded(x):
    """Give a copy in memory that is full of what no result may hold."""
    return between(x, filler(x.dtype))


#: Windows of few and of many taps. Those of few are compiled for each size: nearly all tests here share one.
WINDOWS = (
    {"kernel_size": (2, 2, 3), "stride": 2},
    {"kernel_size": (2, 2, 3), "stride": 1, "padding": ((1, 0), (0, 1), (2, 1)), "ceil_mode": True},
    {"kernel_size": (2, 2, 3), "stride": 2, "padding": 1, "dilation": (1, 2, 1)},
    {"kernel_size": (2, 3, 10), "stride": (1, 2, 1), "padding": 5},
    {"kernel_size": (2, 1, 11), "stride": 2, "padding": "same_lower"},
    {"kernel_size": (2, 2, 3), "stride": (2, 2, 3), "dilation": (1, 2, 3), "padding": "same"},
)
#: Sums and means of these integers are compiled here: the others are widened by the same code.
SUMMED = (np.int8, np.uint16, np.int64, np.uint64, np.bool_, *HALVES)
#: Minima of these: the others differ from maxima in the comparison alone.
MINIMA = (np.int8, np.uint16, np.uint64, np.bool_, *HALVES)
#: Norms of these: elements are widened as they are for means, and what is combined is a float.
NORMED = (np.int8, np.float16)


def at_every_width(rank, dtype, step=1):
    """Give x of widths up to two vectors and some elements, with windows that fit."""
    lanes = TARGET.vector_bytes // np.dtype(dtype).itemsize
    for width in range(1, 2 * lanes + 4, step):
        windows = {key: per_axis(value, rank) for key, value in WINDOWS[width % len(WINDOWS)].items()}
        sizes = (3, 4, width)[-rank:]
        if isinstance(windows.get("padding"), str) or fits(sizes, **windows):
            yield values(width, (2, 3, *sizes), dtype), windows


# ---------------------------------------------------------------------------------------------------------- results


def dtypes_of(reduction, rank):
    """Dtypes in which a reduction is computed here."""
    # Ranks differ in their windows, not in what elements are: one integer and one 16-bit float tell of the others.
    if rank != 2 or reduction[0] == "L":
        return NORMED
    if reduction in EXTREMA:
        return MINIMA if reduction == "min" else DTYPES
    return SUMMED


CASES = [
    (reduction, rank, dtype)
    for reduction, rank in itertools.product(REDUCTIONS, RANKS)
    for dtype in dtypes_of(reduction, rank)
]


@pytest.mark.parametrize(("reduction", "rank", "dtype"), CASES, ids=lambda value: getattr(value, "__name__", value))
@sweep
def test_every_reduction(reduction, rank, dtype):
    """Around x lies what no result may hold; results go to an array between others, too."""
    for x, windows in at_every_width(rank, dtype, 5 if reduction in EXTREMA else 7):
        expected = reduce(oracle, rank, reduction, x, **windows)
        result = reduce(fastpool, rank, reduction, surrounded(x), **windows)
        assert_close(result, expected)
        single = result[0] if isinstance(result, tuple) else result
        frame = between(np.zeros_like(single), 1)
        reduce(fastpool, rank, reduction, LAYOUTS["within a larger one"](x), **windows, out=frame)
        assert frame.tobytes() == single.tobytes()
        frame[...] = 1
        np.testing.assert_array_equal(frame.base, np.ones_like(frame.base))


@some_dtypes
@pytest.mark.parametrize("reduction", ["max", "sum", "mean"])
@sweep
def test_every_width_and_stride(reduction, dtype):
    for x, windows in at_every_width(2, dtype):
        for stride in (1, 2, 3):
            options = windows | {"stride": stride}
            expected = reduce(oracle, 2, reduction, x[:1, :2], **options)
            assert_close(reduce(fastpool, 2, reduction, surrounded(x[:1, :2]), **options), expected)


@pytest.mark.parametrize(
    ("name", "rank", "dtype"),
    [
        (name, rank, dtype)
        for name, rank in itertools.product(OTHERS, RANKS)
        for dtype in (SUMMED if rank == 2 and " L" not in name else NORMED)
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@sweep
def test_adaptive_and_global(name, rank, dtype):
    for seed, sizes in enumerate([(1, 1, 1), (2, 7, 9), (3, 2, 70), (1, 40, 70), (2, 1, 2100)]):
        x = values(seed, (2, 5, *sizes[-rank:]), dtype)
        for part in (x, x[0], x[:0], LAYOUTS["every second column"](x), LAYOUTS["columns first"](x)):
            assert_close(OTHERS[name](fastpool, rank, part), OTHERS[name](oracle, rank, np.array(part)))


@functools.cache
def of_layouts(dtype):
    """Give x, and reductions of it with their arguments and results."""
    x, found = values(1, (2, 3, 7, 70), dtype), []
    for reduction, windows in itertools.product(("max", "min and where", "sum"), WINDOWS[1:4]):
        options = {key: per_axis(value, 2) for key, value in windows.items()}
        found.append((reduction, options, reduce(oracle, 2, reduction, x, **options)))
    return x, found


@pytest.mark.parametrize("dtype", SUMMED, ids=name_of)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, dtype):
    if "byte" in layout and dtype not in (*WHOLE, np.float16):
        pytest.skip("other packages' dtypes have one byte order")
    x, found = of_layouts(dtype)
    for reduction, options, expected in found:
        assert_close(reduce(fastpool, 2, reduction, LAYOUTS[layout](x), **options), expected)


@settings(deadline=None, max_examples=examples(150))
@given(st.data(), st.sampled_from(RANKS), st.sampled_from(sorted(REDUCTIONS)))
def test_anything_equals_the_oracle(data, rank, reduction):
    dtype = data.draw(st.sampled_from(NORMED if reduction[0] == "L" else SUMMED))

    def numbers(low, high):
        return tuple(data.draw(st.tuples(*[st.integers(low, high)] * rank)))

    sizes = tuple(data.draw(st.integers(1, n)) for n in (4, 7, 150)[-rank:])
    kernel = data.draw(st.sampled_from([(2, 2, 3), (2, 3, 10)]))
    pads = tuple(zip(numbers(0, 4), numbers(0, 4), strict=True))
    windows = {"kernel_size": per_axis(kernel, rank), "dilation": numbers(1, 3), "padding": pads}
    assume(fits(sizes, **windows))
    windows |= {"stride": numbers(1, 4), "ceil_mode": data.draw(st.booleans())}
    x = values(data.draw(st.integers(0, 2**32 - 1)), (2, 2, *sizes), dtype)
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(name for name in LAYOUTS if "byte" not in name)))]
    assert_close(reduce(fastpool, rank, reduction, layout(x), **windows), reduce(oracle, rank, reduction, x, **windows))


def check_guarded_memory(name):
    """Require results of arrays that begin or end at a forbidden page."""
    dtype = next(dtype for dtype in DTYPES if name_of(dtype) == name)
    for reduction in some(("max", "max and where", "sum", "mean"), 2, DTYPES.index(dtype) % 2):
        sizes = at_every_width(2, dtype, 1 if reduction == "max" else 3)
        for index, (x, windows) in some(enumerate(sizes), 3):
            memory, at_end = GuardedMemory(), index % 2 == 0
            expected = reduce(oracle, 2, reduction, x, **windows)
            wanted = expected[0] if isinstance(expected, tuple) else expected
            out = memory.array(np.zeros_like(wanted), at_end)
            assert_close(reduce(fastpool, 2, reduction, memory.array(x, at_end), **windows, out=out), expected)
    for shape, (function, at_end) in itertools.product(
        [(1, 1, 1), (2, 3, 7), (3, 4, 65), (1, 1, 2100)], itertools.product(OTHERS.values(), (True, False))
    ):
        x = values(1, shape, dtype)
        assert_close(function(fastpool, 2, GuardedMemory().array(x, at_end)), function(oracle, 2, x))


@needs_mprotect
@some_dtypes
def test_not_a_byte_beyond_any_array_is_touched(dtype):
    run_apart("test_pooling_dtypes", "check_guarded_memory", name_of(dtype), environment=FILLED_MEMORY)


# --------------------------------------------------------------------------------------------------------- by hand


@every_dtype
def test_dtypes_are_those_of_numpy(dtype):
    x, windows = np.ones((1, 2, 4, 5), dtype), ((2, 3), 2)
    none = x[:0]  # which needs no code
    assert fastpool.max_pool2d(none, *windows).dtype == fastpool.min_pool2d(none, *windows).dtype == x.max().dtype
    assert fastpool.global_max_pool2d(none).dtype == fastpool.adaptive_max_pool2d(none, 2).dtype == dtype
    mean = np.dtype(np.float64 if dtype in WHOLE else dtype)
    assert fastpool.avg_pool2d(none, *windows).dtype == fastpool.adaptive_avg_pool2d(none, 2).dtype == mean
    assert fastpool.lp_pool2d(none, 2, *windows).dtype == fastpool.global_avg_pool2d(none).dtype == mean
    total = fastpool.sum_pool2d(x, *windows)
    assert total.dtype == (x.sum().dtype if dtype in WHOLE else dtype)
    np.testing.assert_array_equal(total, np.full((1, 2, 2, 2), 6, total.dtype))


@pytest.mark.parametrize("dtype", WHOLE, ids=name_of)
def test_windows_that_see_padding_only(dtype):
    """The least value is the maximum of nothing, the largest the minimum, 0 its sum, mean and norm."""
    least, largest = (False, True) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = np.ones((1, 1, 1), dtype)
    for kernel in (1, (1, 2)):
        ends = {"kernel_size": kernel, "stride": (3, 3), "padding": (3, 3)}
        assert fastpool.max_pool2d(x, **ends)[0, 0, 0] == least
        assert fastpool.min_pool2d(x, **ends)[0, 0, 0] == largest
        assert fastpool.min_pool2d(x, **ends).tobytes()[:1] in (b"\1", largest.to_bytes(8, sys.byteorder)[:1])
        for function in (fastpool.sum_pool2d, fastpool.avg_pool2d):
            assert function(x, **ends)[0, 0, 0] == 0
        assert fastpool.max_pool2d(x, **ends, return_indices=True)[1][0, 0, 0] == 0


def test_sums_are_exact_and_wrap():
    """Beyond what a float64 holds, and beyond 64 bits, as NumPy's do."""
    for dtype in (np.int64, np.uint64):
        limit = np.iinfo(dtype).max
        x = np.array([[[limit - 1, 1, 2, 2**60 + 1]]], dtype)
        np.testing.assert_array_equal(fastpool.sum_pool2d(x, (1, 2)), x.reshape(1, 1, 2, 2).sum(axis=3))
        assert fastpool.sum_pool2d(x, (1, 4))[0, 0, 0] == x.sum()
        assert fastpool.max_pool2d(x, (1, 4))[0, 0, 0] == limit - 1
    x = np.full((1, 300, 300), np.iinfo(np.int32).max, np.int32)
    assert fastpool.sum_pool2d(x, 300)[0, 0, 0] == 90000 * (2**31 - 1)
    assert fastpool.global_avg_pool2d(x)[0, 0, 0] == 2**31 - 1


@pytest.mark.parametrize("dtype", INTEGERS, ids=name_of)
def test_signs_are_seen(dtype):
    """The largest unsigned numbers are the least ones if they are taken for signed."""
    limits = np.iinfo(dtype)
    x = np.array([[[limits.min, limits.max, 1, limits.max // 2 + 1 if limits.min == 0 else -1]]], dtype)
    for kernel in ((1, 4), (1, 2)):
        assert_close(fastpool.max_pool2d(x, kernel, 1), oracle.max_pool2d(x, kernel, 1))
        assert_close(
            fastpool.min_pool2d(x, kernel, 1, return_indices=True), oracle.min_pool2d(x, kernel, 1, 0, 1, False, True)
        )
        assert_close(fastpool.avg_pool2d(x, kernel, 1), oracle.avg_pool2d(x, kernel, 1))


# ------------------------------------------------------------------------------------------------- 16-bit floats


def check_roundings():
    """Require that every 16-bit number comes back as it was, and that sums are rounded as NumPy rounds them."""
    for dtype in HALVES:
        everything = np.arange(2**16, dtype=np.uint16).view(dtype)
        for function in (fastpool.max_pool1d, fastpool.sum_pool1d, fastpool.min_pool1d):
            result = function(everything.reshape(1, -1), 1)[0]
            number = ~np.isnan(everything.astype(np.float32))
            np.testing.assert_array_equal(result[number].view(np.uint16), everything[number].view(np.uint16))
            assert np.isnan(result[~number].astype(np.float32)).all()
        shuffled = np.random.default_rng(1).permutation(everything[np.isfinite(everything.astype(np.float32))])
        with np.errstate(over="ignore"):
            pairs = shuffled[: shuffled.size // 2 * 2].astype(np.float32).reshape(-1, 2)
            wanted = (pairs[:, 0] + pairs[:, 1]).astype(dtype)
            # Sums of numbers of like size, of which many lie between two that 16 bits can hold, and subnormal ones.
            close = np.sort(shuffled.astype(np.float32)).astype(dtype)
            near = (close[:-1:2].astype(np.float32) + close[1::2].astype(np.float32)).astype(dtype)
        np.testing.assert_array_equal(fastpool.sum_pool1d(shuffled[None], 2)[0], wanted)
        np.testing.assert_array_equal(fastpool.sum_pool1d(close[None], 2)[0][: near.size], near)
        third = close[1::2].astype(np.float32) / np.float32(3)
        np.testing.assert_array_equal(
            fastpool.avg_pool1d(close[None, 1::2], 1, divisor_override=3)[0], third.astype(dtype)
        )
        where = fastpool.max_pool1d(everything[None, :1000], 4, return_indices=True)
        assert_close(where, oracle.max_pool1d(everything[None, :1000], 4, return_indices=True))


def test_roundings():
    check_roundings()


@on_x86
@pytest.mark.parametrize("name", OTHER_VECTORS)
def test_narrower_processors(name):
    processor, features, bits, _ = PROCESSORS[name]
    if lacking := host_lacks(features):
        pytest.skip(f"this processor lacks {', '.join(lacking)}")
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    run_apart("test_pooling_dtypes", "check_processor", bits, environment=environment)


def check_processor(bits):
    """Require right results with vectors of so many bits."""
    assert fastpool.info()["vector_bits"] == bits
    check_roundings()
    for dtype, reduction in zip((np.uint8, np.int16, *HALVES), itertools.cycle(("max", "sum")), strict=False):
        for x, windows in at_every_width(2, dtype, 7):
            expected = reduce(oracle, 2, reduction, x, **windows)
            assert_close(reduce(fastpool, 2, reduction, surrounded(x), **windows), expected)


def test_sums_are_carried_in_float32():
    """Adding ones stops at 2048 in float16, and at 256 in bfloat16."""
    for dtype in HALVES:
        x = np.ones((1, 1, 100, 160), dtype)
        assert fastpool.sum_pool2d(x, (100, 160))[0, 0, 0, 0] == np.float64(16000).astype(dtype)
        assert fastpool.global_avg_pool2d(x)[0, 0, 0, 0] == 1
        assert fastpool.lp_pool2d(np.full_like(x, 200), 2, 2)[0, 0, 0, 0] == 400  # squares go beyond float16


@every_rank
@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
def test_subsampling(rank, dtype):
    weight, bias = integers(1, (3,), dtype), integers(2, (3,), dtype)
    for x, windows in at_every_width(rank, dtype, 3):
        if "dilation" in windows:
            continue
        expected = getattr(oracle, f"subsample{rank}d")(x, weight, bias, **windows)
        assert_close(getattr(fastpool, f"subsample{rank}d")(x, weight, bias, **windows), expected)
        out = np.empty_like(expected)
        getattr(fastpool, f"subsample{rank}d")(x, weight[::-1][::-1], None, **windows, out=out)
        assert_close(out, getattr(oracle, f"subsample{rank}d")(x, weight, np.zeros(3, dtype), **windows))


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("dtype", [complex, object, "M8[s]", "m8[s]", "S3", "U3", "V2", np.longdouble, [("a", "i1")]])
def test_other_dtypes_are_refused(dtype):
    listed = "bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32 or float64"
    family = {"max_pooling", "sum_pooling", "adaptive", "global_pooling"}
    names = [name for name, home in fastpool._HOMES.items() if home in family]
    assert len(names) == 30
    others = {"lp_pool": (2, 2), "global_lp_pool": (2,), "global_avg_pool": (), "global_max_pool": ()}
    for name in names:
        x = np.zeros((1, 2, *(4,) * int(name[-2])), dtype)
        with pytest.raises(TypeError, match=f"^x must have dtype {listed}, got "):
            getattr(fastpool, name)(x, *others.get(name[:-2], (2,)))


@every_dtype
def test_out_has_the_dtype_of_the_result(dtype):
    x = np.ones((1, 2, 4, 4), dtype)
    for function in (fastpool.max_pool2d, fastpool.sum_pool2d, fastpool.avg_pool2d):
        right = function(x, 2)
        for other in (np.float32, np.complex64, np.int32, *DTYPES):
            out = np.zeros(right.shape, other)
            if out.dtype == right.dtype:
                assert function(x, 2, out=out) is out
                np.testing.assert_array_equal(out, right)
            else:
                with pytest.raises(TypeError, match=f"^out must have dtype {right.dtype}, got {out.dtype}"):
                    function(x, 2, out=out)
    with pytest.raises(ValueError, match=r"^out must not overlap x"):
        fastpool.max_pool2d(x, 1, out=x)


@pytest.mark.parametrize("dtype", HALVES, ids=name_of)
def test_weights_have_the_dtype_of_x(dtype):
    x, ones = np.ones((1, 2, 4, 4), dtype), np.ones(2, dtype)
    for other in (np.float32, np.float64, *HALVES):
        if other != dtype:
            for weight, bias in [(ones.astype(other), ones), (ones, ones.astype(other))]:
                with pytest.raises(TypeError, match="must have the dtype of x"):
                    fastpool.subsample2d(x, weight, bias, 2)


# ------------------------------------------------------------------------------------------------ plans, machine code


def test_the_table_of_kernels_is_complete(monkeypatch):
    """Every shape that a plan asks for is in the table, and no plan keeps a copy of x. Nothing is computed."""
    made = []

    def recording(function):
        def make(problem):
            made.append((problem, function(problem)))
            return made[-1][1]

        return make

    monkeypatch.setattr(pooling, "plan_pooling", recording(plans.plan_pooling))
    monkeypatch.setattr(pooling, "plan_global", recording(plans.plan_global))
    monkeypatch.setattr(plans.Plan, "run", lambda *_: None)
    pooling._bounds.clear()
    for dtype in DTYPES:
        x = values(1, (2, 3, 9, 300), dtype)
        for reduction, stride in itertools.product(REDUCTIONS, (1, 2, 3)):
            for kernel in (1, (2, 3), 3, (1, 9), (3, 10)):
                reduce(fastpool, 2, reduction, x, kernel_size=kernel, stride=stride, padding=1)
        for function in OTHERS.values():
            function(fastpool, 2, x)
    pooling._bounds.clear()
    names = {id(routine): name for name, (routine, _) in KERNELS.items()}
    for problem, plan in made:
        code = plan.steps[0].kernel
        assert code.shape in POOLING_KERNELS[names[id(code.routine)]][code.element.numba_name], problem
        assert plan.workspace(1) < 2**14
    assert len({plan.steps[0].kernel.shape for _, plan in made}) > 100


#: Combining steps, as x86 instructions.
STEPS = {
    ("max", np.uint8): "vpmaxub",
    ("min", np.uint8): "vpminub",
    ("max", np.int8): "vpmaxsb",
    ("min", np.int16): "vpminsw",
    ("max", np.uint16): "vpmaxuw",
    ("max", np.int32): "vpmaxsd",
    ("min", np.uint64): "vpminuq",
    ("all", np.bool_): "vpminub",
}


@on_x86
@pytest.mark.skipif(TARGET.name != "avx512", reason="reads the instructions of AVX-512")
@pytest.mark.parametrize(("operation", "dtype"), STEPS, ids=str)
def test_extrema_take_whole_vectors(operation, dtype):
    """64 lanes of 8 bits, in both passes, for global poolings, and all steps of a small window."""
    element, step = POOLED[np.dtype(dtype)], re.compile(rf"{STEPS[operation, dtype]}\s.*%zmm")
    reduced = next(s for s in POOLING_KERNELS["reduce_planes"][element.numba_name] if s[0] == operation)
    for name, shape, least in [("pool", (operation, 1, 1), 2), ("reduce_planes", reduced, 1)]:
        assembly = KERNELS[name][0].assembly(spec_for(element, *shape))
        found = [lines for lines in straight_loops(assembly) if any(map(step.match, lines))]
        assert len(found) >= least
        assert not [line for lines in found for line in lines if line.startswith("call")]
    shape = (variant_of(operation, 5 if TARGET.registers == 32 else 2, 1, 1, False), 3, 3)
    assert shape in POOLING_KERNELS["small_pool"][element.numba_name]
    assembly = KERNELS["small_pool"][0].assembly(spec_for(element, *shape))
    # Five rows of 3x3: 7 rows combined down with 8 steps, along with 10.
    assert len([line for line in assembly.splitlines() if step.match(line.strip())]) >= 18
