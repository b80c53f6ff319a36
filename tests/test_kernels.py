"""Machine code of the kernels: whole vector registers, none spilled; narrower processors; the vector operations."""

import ctypes
import functools
import re
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from assembly import ON_X86, REGISTER, REGISTERS, blocks, straight_loops
from conftest import DTYPES, GuardedMemory, Planner, assert_close, integers, needs_mprotect, noise
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from processes import run_apart
from sweeps import sweep
from test_gemv import test_a_matrix_times_a_vector

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.kernels import simd
from fastpool.kernels.pool import combine
from fastpool.kernels.simd import lanes_of, load, masked_load, range_mask, splat, store
from fastpool.kernels.stores import masked_store, masked_store_ir
from fastpool.machine.processor import TARGET
from fastpool.routines.depthwise import skips_padding
from fastpool.routines.direct import has_edged, is_edged
from fastpool.routines.layout import Layout
from fastpool.routines.pool import VARIANTS
from fastpool.routines.routine import kernel, spec_for
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.smallpool import groups_in_registers, variant_of
from fastpool.routines.table import KERNELS

on_x86 = pytest.mark.skipif(not ON_X86, reason="reads x86 assembly")
#: What a combining step of each pooling is, as an x86 instruction without its prefix and type.
STEPS = {"max": r"(max|cmp\w*)", "min": r"(min|cmp\w*)", "absmax": r"(max|cmp\w*)"}

# ------------------------------------------------------------------------------------------------ reading of assembly


def instructions(lines, operation, dtype, register=REGISTER):
    """Instructions of an operation on whole vectors of a dtype: ``v``, the name, ``ps`` or ``pd``, and the register."""
    suffix = "ps" if dtype == np.float32 else "pd"
    return [line for line in lines if re.match(rf"v?{operation}{suffix}\s.*%{register}", line)]


def accumulations(lines, dtype):
    """Instructions that add to an accumulator: fused where the processor can, else the additions."""
    return instructions(lines, r"fn?madd\d+" if TARGET.has_fma else "add", dtype)


def assert_whole_vectors(lines, dtype):
    """Require that a block calls nothing, computes with whole vectors only, and moves none of them to the stack."""
    scalar = "ss" if dtype == np.float32 else "sd"
    for line in lines:
        assert not line.startswith("call"), line
        assert not re.match(rf"v?(add|sub|mul|div|max|min|fn?madd\d+){scalar}\s", line), line
        assert not re.search(rf"%{REGISTER}\d+.*\(%rsp", line), f"spilled: {line}"
        assert not re.search(rf"\(%rsp.*%{REGISTER}\d+", line), f"reloaded: {line}"
        for width, name in REGISTERS.items():
            assert width >= TARGET.vector_bytes or not re.match(
                rf"v?(add|mul|max|min|fn?madd\d+)p[sd]\s.*%{name}", line
            )


def assert_no_wider_registers(assembly):
    """Require that nothing computes in registers wider than those of the target; LLVM may copy arguments by them."""
    for width, name in REGISTERS.items():
        if width > TARGET.vector_bytes:
            found = [line for line in assembly.splitlines() if f"%{name}" in line]
            assert all(re.match(r"\s*vmov[au]ps\s.*\(%rsp\)", line) for line in found), found


@functools.cache
def assembly_of(name, shape, dtype):
    """Assembly of a routine of the table."""
    assembly = KERNELS[name][0].assembly(spec_for(ELEMENT_TYPES[np.dtype(dtype)], *shape))
    assert_no_wider_registers(assembly)
    assert not re.search(r"\$(fma|fmaf|memcpy|memmove)\b", assembly), "a library call in place of instructions"
    return assembly


def check_tile(name, shape, dtype):
    """Require a register tile: in its loops one accumulation a step for each register, and all registers stay there."""
    _, vectors, width = shape
    found = [
        lines
        for lines in straight_loops(assembly_of(name, shape, dtype))
        if len(accumulations(lines, dtype)) >= vectors * width
    ]
    assert found, "no loop with the multiply-adds of a tile on whole vectors"
    for lines in found:
        steps = accumulations(lines, dtype)
        assert len(steps) % (vectors * width) == 0  # a loop may be unrolled
        if not TARGET.has_fma:
            assert len(instructions(lines, "mul", dtype)) == len(steps)
        registers = {line.rsplit(",", 1)[1].strip() for line in steps}
        assert len(registers) >= vectors * width, f"{vectors * width} accumulators share {len(registers)} registers"
        assert_whole_vectors(lines, dtype)


def check_pooling(operation, dtype):
    """Require that the loops of a pooling combine whole vectors."""
    assembly = assembly_of("pool", (operation, 1, 1), dtype)
    found = [lines for lines in straight_loops(assembly) if instructions(lines, STEPS.get(operation, "add"), dtype)]
    if operation == "powersum":  # down the rows, each power is a call of the C library
        found = [lines for lines in found if not any(line.startswith("call") for line in lines)]
        assert found, "no loop over whole vectors"
    else:
        assert len(found) >= 2, "no loops over whole vectors, one down the rows and one along the columns"
    for lines in found:
        assert_whole_vectors(lines, dtype)


def check_straight_code(name, shape, dtype, operation, *counts):
    """Require so many instructions of an operation on whole vectors in each of the busiest blocks without a branch."""
    found = [lines for _, lines in blocks(assembly_of(name, shape, dtype))]
    found.sort(key=lambda lines: len(instructions(lines, operation, dtype)), reverse=True)
    scalar = "ss" if dtype == np.float32 else "sd"
    for lines, count in zip(found, sorted(counts, reverse=True), strict=False):
        assert len(instructions(lines, operation, dtype)) >= count
        for line in lines:
            assert not line.startswith("call"), line
            assert not re.match(rf"v?(add|sub|mul|div|max|min|fn?madd\d+){scalar}\s", line), line


def groups_of(shapes):
    """Shapes of each variant and number of vectors."""
    groups = {}
    for shape in shapes:
        groups.setdefault(shape[:2], []).append(shape)
    return list(groups.values())


def widest_of(shapes):
    """The widest shape of each variant and number of vectors."""
    return list(map(max, groups_of(shapes)))


def ends_of(shapes):
    """The widest and the narrowest."""
    return list(dict.fromkeys(end for group in groups_of(shapes) for end in (max(group), min(group))))


_ROWS = KERNELS["row_of_tiles"][1]
#: Edged tiles are straight code, of which the widest is most likely to run out of registers. Of narrow products the
#: loop over the lanes of a block is unrolled as a whole, and none is left to be looked at.
TILES = [("row_of_tiles", shape) for shape in ends_of(shape for shape in _ROWS if not is_edged(shape[0]))]
TILES += [("row_of_tiles", shape) for shape in widest_of(shape for shape in _ROWS if is_edged(shape[0]))]
TILES += [("multiply", shape) for shape in widest_of(KERNELS["multiply"][1])]
TILES_OF = {
    np.float32: TILES,
    np.float64: [
        (name, shape)
        for name, shape in TILES
        if not is_edged(shape[0]) or has_edged(*map(int, shape[0].split()[1:3]), 8)
    ],
}


@on_x86
@pytest.mark.parametrize(
    ("dtype", "name", "shape"),
    [
        pytest.param(dtype, name, shape, id=f"{dtype.__name__}-{name}-{shape}")
        for dtype in DTYPES
        for name, shape in TILES_OF[dtype]
    ],
)
@sweep
def test_tiles_stay_in_registers(dtype, name, shape):
    check_tile(name, shape, dtype)
    # A reduction that is a function of its own returns the tile through memory, which is cleared before each call:
    # for short reductions that costs as much as the reduction.
    assembly = assembly_of(name, shape, dtype)
    assert "$memset" not in assembly
    called = re.findall(r"\$(_ZN8fastpool\w+)", assembly)
    assert len(called) <= 1, "more than the call from the entry to the body"


@on_x86
@pytest.mark.parametrize("shape", [(f"stride {s}", k, k) for s in (1, 2) for k in (2, 3, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_depthwise_strips_are_whole_vectors(dtype, shape):
    variant, rows, columns = shape
    if skips_padding(*shape):  # a block for each row of input, which so many rows of output see at most
        rows = -(-rows // int(variant.split()[-1]))
    # Each row of taps is summed apart, so that its first tap is a product only.
    step, count = (r"fn?madd\d+", rows * (columns - 1)) if TARGET.has_fma else ("mul", rows * columns)
    check_straight_code("depthwise", shape, dtype, step, count)


@on_x86
@pytest.mark.parametrize(
    ("dtype", "operation"), [*((np.float32, name) for name in VARIANTS), (np.float64, "max"), (np.float64, "squaresum")]
)
def test_pooling_combines_whole_vectors(dtype, operation):
    check_pooling(operation, dtype)


@on_x86
@pytest.mark.parametrize("operation", [name for name in VARIANTS if name != "powersum"])
@pytest.mark.parametrize(("dtype", "stride"), [(np.float32, 1), (np.float32, 2), (np.float64, 1)])
@sweep
def test_small_windows_combine_whole_vectors(dtype, operation, stride):
    """Down (at stride 2 even and odd columns apart), then along: two steps each for every output row, at the least."""
    group = max(groups_in_registers(3, stride))
    shape = (variant_of(operation, group, stride, stride, False), 3, 3)
    assert shape in KERNELS["small_pool"][1]
    down, along = stride * (group + 1), 2 * group
    check_straight_code("small_pool", shape, dtype, STEPS.get(operation, "add"), down, along)


@on_x86
@pytest.mark.parametrize("operation", ["max", "min", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_global_pooling_combines_whole_vectors(dtype, operation):
    shape = (operation, 1, lanes_for(ELEMENT_TYPES[np.dtype(dtype)]))
    assembly = assembly_of("reduce_planes", shape, dtype)
    found = [lines for lines in straight_loops(assembly) if instructions(lines, STEPS.get(operation, "add"), dtype)]
    assert found
    for lines in found:
        assert_whole_vectors(lines, dtype)


@on_x86
@pytest.mark.parametrize(
    "name",
    ["pack_channel", "pack_weights", "transform_rows", "finish_rows", "winograd_weights", "transform_filters"],
)
def test_packing_and_transforms_move_whole_vectors(name):
    assembly = assembly_of(name, KERNELS[name][1][0], np.float32)
    lines = [line for _, lines in blocks(assembly) for line in lines]
    moves = [line for line in lines if re.match(rf"v?(mov|maskmov|p?blend)\w*\s.*%{REGISTER}", line)]
    assert [line for line in moves if re.search(r"%\w+\)", line)], "no vector is loaded or stored"


# ---------------------------------------------------------------------------------------------- narrower processors

_SSE = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt"
#: Name -> (processor, features for LLVM, features that the host must have, bits of a vector, fused multiply-add).
PROCESSORS = {
    "avx2 and fma": ("haswell", f"{_SSE},+avx,+avx2,+fma,+bmi,+bmi2,-avx512f,-avx512vl", 256, True),
    "avx2 without fma": ("haswell", f"{_SSE},+avx,+avx2,+bmi,+bmi2,-fma,-avx512f,-avx512vl", 256, False),
    "sse2": ("generic", "", 128, False),
}
#: Those that differ in their vectors: of integers and poolings nothing is fused.
OTHER_VECTORS = [name for name in PROCESSORS if name != "avx2 without fma"]
#: Roles and vectors of the tiles that are looked at on each processor.
SOME_TILES = [("channels", 2), ("pixels", 3)]


def host_lacks(features):
    """Features that the code would need and this processor lacks."""
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    wanted = [feature[1:] for feature in features.split(",") if feature.startswith("+")]
    return [feature for feature in wanted if not host.get(feature)]


def check_processor(bits, has_fma):
    """Require vectors of that many bits, in what is reported and in the code, and operations that are right."""
    known = fastpool.info()
    assert (known["vector_bits"], known["fma"]) == (bits, has_fma)
    assert bits == 8 * TARGET.vector_bytes
    shapes = [shape for shape in KERNELS["row_of_tiles"][1] if shape[:2] in SOME_TILES]
    assert len(shapes) > 1
    for dtype, shape in zip(DTYPES * len(shapes), shapes, strict=False):
        check_tile("row_of_tiles", shape, dtype)
    check_pooling("max", np.float32)
    for name in ("pack_weights", "pack_channel"):
        for shape in KERNELS[name][1][::3]:
            assembly_of(name, shape, np.float32)
    for dtype in DTYPES:
        test_range_masks(dtype)
        test_masked_loads_and_stores(dtype)
        test_stores_of_first_lanes(dtype)
        test_transpose(dtype)
        test_clamp_keeps_nan_and_what_is_within(dtype, -1, 1)
        test_extrema_let_nan_win_on_either_side(dtype, "max")
        test_arithmetic(dtype)
        for by_rows in (False, True):
            test_a_matrix_times_a_vector(np.dtype(dtype), by_rows)
    x, weight = noise(3, (1, 3, 20, 30), np.float32), noise(4, (5, 3, 7, 7), np.float32)
    result = fastpool.conv2d(x, weight, None, 2, 3, algorithm="winograd")  # phases of a channel in lanes
    assert_close(result, oracle.conv2d(x, weight, None, 2, 3))
    x, weight = noise(5, (2, 18, 3, 4, 5), np.float32), noise(6, (22, 18, 2, 1, 1), np.float32)
    expected = sum(oracle.conv2d(x[:, :, tap], weight[:, :, tap]) for tap in range(2))
    with pytest.MonkeyPatch.context() as patch:
        planner = Planner(patch)
        planner.force(source="panels" if TARGET.registers == 16 else None)
        assert_close(fastpool.conv3d(x, weight)[:, :, 0], expected)
        assert bool(planner.plans.pop().steps[-1].fields["panel"]) == (TARGET.registers == 16)


@on_x86
@pytest.mark.parametrize("name", PROCESSORS)
def test_processors(name):
    processor, features, bits, has_fma = PROCESSORS[name]
    lacking = host_lacks(features)
    if lacking:
        pytest.skip(f"this processor lacks {', '.join(lacking)}")
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    run_apart("test_kernels", "check_processor", bits, has_fma, environment=environment)


def check_without_avx():
    """Require the vectors that Numba is told to use where AVX is switched off."""
    assert fastpool.info()["vector_bits"] == 128
    check_tile("row_of_tiles", KERNELS["row_of_tiles"][1][0], np.float32)
    x = integers(0, (1, 3, 9, 17), np.float32)
    assert_close(fastpool.max_pool2d(x, 3), oracle.max_pool2d(x, 3))


@on_x86
def test_numba_without_avx():
    run_apart("test_kernels", "check_without_avx", environment={"NUMBA_ENABLE_AVX": "0"})


# ------------------------------------------------------------------------------------- the vector operations, alone

PROBE = Layout("probe", {"a": "integer", "b": "integer", "low": "number", "high": "number"})


def run(routine, dtype, x, size, a=0, b=0, low=0.0, high=0.0, variant="", out=None):
    """Run a kernel of this file on x; `size` elements of its output, NaN where it wrote none."""
    spec = spec_for(ELEMENT_TYPES[np.dtype(dtype)], variant, 1, 1)
    out = np.full(size, np.nan, dtype) if out is None else out
    block = routine.layout.block(a=a, b=b, low=low, high=high)
    words = list(routine.layout.words)
    for name, array in (("x", x), ("out", out)):
        block[words.index(name)] = array.ctypes.data
    code = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(routine.address(spec))
    code(block.ctypes.data, 0, 0)
    return out


@intrinsic
def _store_anywhere(typingctx, spec, pointer, value, mask):
    """Store the lanes of a mask, be they the first or others."""

    def codegen(context, builder, sig, args):
        masked_store_ir(builder, args[2], args[1], args[3], spec.size, anywhere=True)
        return context.get_dummy_value()

    return types.void(spec, pointer, value, mask), codegen


@partial(kernel, layout=PROBE)
def masked(call, task, thread):
    """Lanes a..b of x, the others -1, and then only those lanes."""
    spec = call.spec
    mask = range_mask(spec, call.a, call.b)
    value = masked_load(spec, call.x, mask, splat(spec, -1.0))
    store(spec, call.out, value)
    _store_anywhere(spec, call.out + lanes_of(spec), value, mask)


@partial(kernel, layout=PROBE)
def first_lanes(call, task, thread):
    """Copy the first b lanes, and touch nothing else."""
    spec = call.spec
    mask = range_mask(spec, 0, call.b)
    masked_store(spec, call.out, masked_load(spec, call.x, mask, splat(spec, 0.0)), mask)


@partial(kernel, layout=PROBE)
def masked_copy(call, task, thread):
    """Copy lanes a..b, and touch nothing else."""
    spec = call.spec
    mask = range_mask(spec, call.a, call.b)
    _store_anywhere(spec, call.out, masked_load(spec, call.x, mask, splat(spec, 0.0)), mask)


@intrinsic
def _store_masks(typingctx, spec, low, high, out):
    """Store for 48 indices, vector by vector, 1 where low <= index < high."""

    def codegen(context, builder, sig, args):
        vector = simd.vector_ir(spec)
        one, zero = ir.Constant(vector, [vector.element(1.0)] * spec.lanes), ir.Constant(vector, None)
        for start in range(0, 48, spec.lanes):
            mask = simd.range_mask_ir(builder, args[1], args[2], spec.lanes, start)
            place = builder.gep(args[3], [simd.I64(start)])
            simd.store_ir(builder, builder.select(mask, one, zero), place, spec.size)
        return context.get_dummy_value()

    return types.void(spec, types.intp, types.intp, out), codegen


@partial(kernel, layout=PROBE)
def masks(call, task, thread):
    """Masks of three vectors of the longest kind."""
    _store_masks(call.spec, call.a, call.b, call.out)


@intrinsic
def _transpose(typingctx, spec, source, target):
    """Transpose lanes x lanes elements."""

    def codegen(context, builder, sig, args):
        vector, lanes = simd.vector_ir(spec), spec.lanes
        places = [[builder.gep(args[i], [simd.I64(r * lanes)]) for r in range(lanes)] for i in (1, 2)]
        rows = [simd.load_ir(builder, place, vector, spec.size) for place in places[0]]
        for row, place in zip(simd.transpose_ir(builder, rows), places[1], strict=True):
            simd.store_ir(builder, row, place, spec.size)
        return context.get_dummy_value()

    return types.void(spec, source, target), codegen


@partial(kernel, layout=PROBE)
def transpose(call, task, thread):
    """Transpose one square."""
    _transpose(call.spec, call.x, call.out)


@partial(kernel, layout=PROBE)
def limit(call, task, thread):
    """Limit to [low, high]."""
    spec = call.spec
    store(spec, call.out, simd.clamp(load(spec, call.x), splat(spec, call.low), splat(spec, call.high)))


@partial(kernel, layout=PROBE)
def extremum(call, task, thread):
    """Combine two vectors by the variant."""
    spec = call.spec
    store(spec, call.out, combine(spec, load(spec, call.x), load(spec, call.x + lanes_of(spec))))


@partial(kernel, layout=PROBE)
def arithmetic(call, task, thread):
    """a + b, a - b, a * b, a / b, a * b + c, even and odd lanes, and one lane."""
    spec = call.spec
    lanes = lanes_of(spec)
    a, b, c = load(spec, call.x), load(spec, call.x + lanes), load(spec, call.x + 2 * lanes)
    store(spec, call.out, a + b)
    store(spec, call.out + lanes, a - b)
    store(spec, call.out + 2 * lanes, a * b)
    store(spec, call.out + 3 * lanes, a / b)
    store(spec, call.out + 4 * lanes, simd.fma(a, b, c))
    store(spec, call.out + 5 * lanes, simd.even_lanes(a, b))
    store(spec, call.out + 6 * lanes, simd.odd_lanes(a, b))
    store(spec, call.out + 7 * lanes, splat(spec, simd.lane(a, call.a)))


EXTREME = (-(2**63), -(2**62), -(2**40), -(2**32) - 1, -(2**31) - 1, -(2**31), -(2**30) - 1, -1)
EXTREME += (2**30, 2**31 - 1, 2**31, 2**32, 2**32 + 3, 2**40, 2**62, 2**63 - 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_range_masks(dtype):
    index = np.arange(48)
    for low in (*EXTREME, *range(49)):
        for high in (*EXTREME, *range(0, 49, 5), 47):
            wanted = [1.0 if low <= i < high else 0.0 for i in index.tolist()]
            np.testing.assert_array_equal(run(masks, dtype, index, 48, low, high), wanted, f"[{low}, {high})")


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_loads_and_stores(dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    raw = np.arange(100, 100 + lanes + 7, dtype=dtype)
    for offset in range(8):  # every alignment that whole elements can have
        x = raw[offset : offset + lanes] if offset + lanes <= raw.size else raw[:lanes]
        for low in (-(2**40), -1, *range(lanes + 1)):
            for high in (*range(lanes + 1), lanes + 1, 2**40):
                inside = [low <= i < high for i in range(lanes)]
                wanted = [*np.where(inside, x, -1), *np.where(inside, x, np.nan)]
                np.testing.assert_array_equal(run(masked, dtype, x, 2 * lanes, low, high), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_stores_of_first_lanes(dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    x = np.arange(100, 100 + lanes, dtype=dtype)
    for count in (-(2**40), -1, *range(lanes + 2), 2**40):
        wanted = [value if i < count else np.nan for i, value in enumerate(x)]
        np.testing.assert_array_equal(run(first_lanes, dtype, x, lanes, 0, count), wanted)


def copy_beside_forbidden_memory():
    """Copy all parts of a vector of which the rest, of source or target, lies on a page that may not be touched."""
    for dtype in DTYPES:
        lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
        for count in range(lanes + 1):
            memory = GuardedMemory()
            values = np.arange(1, max(count, 1) + 1, dtype=dtype)
            for copy in (masked_copy, first_lanes):
                x, out = (memory.array(v, at_end=True) for v in (values, np.zeros_like(values)))
                run(copy, dtype, x, 0, 0, count, out=out)
                np.testing.assert_array_equal(out, x if count else 0)
            x, out = (memory.array(v, at_end=False) for v in (values, np.zeros_like(values)))
            # The last lanes of a vector that begins on the forbidden page before the array.
            first = [array[:0].ctypes.data - (lanes - count) * array.itemsize for array in (x, out)]
            before = [np.ctypeslib.as_array((ctypes.c_byte * 1).from_address(place)) for place in first]
            run(masked_copy, dtype, before[0], 0, lanes - count, lanes, out=before[1])
            np.testing.assert_array_equal(out[:count], x[:count])


@needs_mprotect
def test_memory_outside_a_mask_is_not_touched():
    run_apart("test_kernels", "copy_beside_forbidden_memory")


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    square = np.arange(lanes * lanes, dtype=dtype).reshape(lanes, lanes)
    np.testing.assert_array_equal(run(transpose, dtype, square, lanes * lanes), square.T.ravel())


def special(dtype):
    """Values at which comparisons go wrong."""
    tiny, large = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    return np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, tiny, -tiny, large, -large, 6, 5.5], dtype)


def same_bits(actual, wanted):
    """Require equal values, signs of zeros included; any NaN equals any."""
    np.testing.assert_array_equal(actual, wanted)
    number = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(actual)[number], np.signbit(wanted)[number])


@pytest.mark.parametrize(
    ("low", "high"), [(-np.inf, np.inf), (0, np.inf), (0, 6), (-1, 1), (-np.inf, 0), (2, 2), (0, 0)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_clamp_keeps_nan_and_what_is_within(dtype, low, high):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    for value in special(dtype):
        wanted = dtype(low) if value < low else dtype(high) if value > high else value
        same_bits(run(limit, dtype, np.full(lanes, value), lanes, low=low, high=high), np.full(lanes, wanted))


@pytest.mark.parametrize("variant", ["max", "min"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_extrema_let_nan_win_on_either_side(dtype, variant):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    values = special(dtype)
    pairs = [(kept, new) for kept in values for new in values]
    pairs += [pairs[0]] * (-len(pairs) % lanes)
    for first in range(0, len(pairs), lanes):
        kept, new = np.array(pairs[first : first + lanes], dtype).T
        better = new > kept if variant == "max" else new < kept
        wanted = np.where(np.isnan(new) | better, new, kept)  # of equal ones, signed zeros included, the first
        result = run(extremum, dtype, np.concatenate([kept, new]), lanes, variant=variant)
        same_bits(result, wanted)
        np.testing.assert_array_equal(result, (np.maximum if variant == "max" else np.minimum)(kept, new))


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype):
    lanes = lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    a, b, c = np.random.default_rng(0).standard_normal((3, lanes)).astype(dtype)
    # A product whose last bits are lost if it is rounded before the addition.
    a[0] = b[0] = 1 + 2.0 ** (-12 if dtype == np.float32 else -27)
    c[0] = -(1 + 2.0 ** (-11 if dtype == np.float32 else -26))
    for i in range(lanes):
        result = run(arithmetic, dtype, np.concatenate([a, b, c]), 8 * lanes, i).reshape(8, lanes)
        both = np.concatenate([a, b])
        np.testing.assert_array_equal(result[:4], [a + b, a - b, a * b, a / b])
        exact = [Fraction(float(p)) * Fraction(float(q)) + Fraction(float(r)) for p, q, r in zip(a, b, c, strict=True)]
        fused = np.array([float(value) for value in exact], dtype)
        np.testing.assert_array_equal(result[4], fused if TARGET.has_fma else a * b + c)
        np.testing.assert_array_equal(result[5:], [both[::2], both[1::2], np.full(lanes, a[i])])
    assert fused[0] != (a * b + c)[0]
