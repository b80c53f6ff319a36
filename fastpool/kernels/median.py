"""Median pooling: the middle of the taps of each window, for a vector of outputs at once.

- Few taps are sorted in registers by Batcher's network, of which only what leads to the middle is compiled.
- More are counted: the median is found bit by bit, from the highest, by how many taps are below what the bits make.
- Those of windows too large for a scratch are counted where they are, an output at a time.

A NaN among the taps is the result; so it is where there are none.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device, quickly
from fastpool.kernels.simd import I64, Vector, known, lanes_of, load, range_mask, scalar, splat
from fastpool.kernels.stores import masked_store
from fastpool.kernels.taps import gather_taps, infinity, row_of, rows_of
from fastpool.routines.median import comparators

# --- ordered integers: they compare as the elements do, -0.0 just below 0.0 ---------------------------------------


def _integers_of(kind):
    """LLVM type of the integers as wide as elements, or vectors of them."""
    if isinstance(kind, ir.VectorType):
        return ir.VectorType(_integers_of(kind.element), kind.count)
    return ir.IntType(32) if isinstance(kind, ir.FloatType) else ir.IntType(64)


def _constant(kind, value):
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


def _turned_ir(builder, integer):
    """Turn the order of negative numbers round: from bits of an element to a key, and back."""
    bits = (integer.type.element if isinstance(integer.type, ir.VectorType) else integer.type).width
    sign = builder.ashr(integer, _constant(integer.type, bits - 1))
    return builder.xor(integer, builder.and_(sign, _constant(integer.type, 2 ** (bits - 1) - 1)))


def key_type(spec):
    """Numba type of the keys of a vector."""
    return Vector(types.int32 if spec.size == 4 else types.int64, spec.lanes)


@intrinsic
def _key(typingctx, spec, value):
    """Key of an element, or keys of a vector."""
    one = types.int32 if spec.size == 4 else types.int64

    def codegen(context, builder, sig, args):
        return _turned_ir(builder, builder.bitcast(args[1], _integers_of(args[1].type)))

    return (key_type(spec) if isinstance(value, Vector) else one)(spec, value), codegen


@intrinsic
def _of_key(typingctx, spec, key):
    """Element of a key, or elements of a vector of them."""
    whole = isinstance(key, Vector)

    def codegen(context, builder, sig, args):
        kind = simd.vector_ir(spec) if whole else simd.element(spec.dtype)
        return builder.bitcast(_turned_ir(builder, args[1]), kind)

    return (Vector(spec.dtype, spec.lanes) if whole else spec.dtype)(spec, key), codegen


@intrinsic
def _keys_of(typingctx, spec, number):
    """All lanes the same integer."""
    kind = key_type(spec)

    def codegen(context, builder, sig, args):
        return simd.splat_ir(builder, context.cast(builder, args[1], sig.args[1], kind.dtype), spec.lanes)

    return kind(spec, number), codegen


@intrinsic
def _counts(typingctx, spec, counts, factor, left):
    """Taps of each lane: `factor` times the lane's entry of a table, of which `left` entries are left."""
    kind = key_type(spec)

    def codegen(context, builder, sig, args):
        _, counts, factor, left = args
        wide = ir.VectorType(I64, spec.lanes)
        mask = simd.range_mask_ir(builder, I64(0), left, spec.lanes)
        found = simd.masked_load_ir(builder, counts, wide, mask, ir.Constant(wide, None), 8)
        found = builder.mul(found, simd.splat_ir(builder, factor, spec.lanes))
        narrow = ir.VectorType(simd.element(kind.dtype), spec.lanes)
        return found if narrow == wide else builder.trunc(found, narrow)

    return kind(spec, counts, types.intp, types.intp), codegen


@intrinsic
def _halved(typingctx, spec, counts, less):
    """Return (counts - less) / 2, rounded down: the ranks of the middle taps."""

    def codegen(context, builder, sig, args):
        _, counts, less = args
        less = (
            simd.splat_ir(builder, builder.trunc(less, counts.type.element), spec.lanes)
            if spec.size == 4
            else (simd.splat_ir(builder, less, spec.lanes))
        )
        return builder.ashr(builder.sub(counts, less), _constant(counts.type, 1))

    return counts(spec, counts, types.intp), codegen


# --- what a median is of the middle taps --------------------------------------------------------------------------


def _mean_ir(builder, a, b):
    """(a + b) / 2, also where the sum is too large."""
    half = _constant(a.type, 0.5)
    mean = builder.fmul(builder.fadd(a, b), half)
    apart = builder.fadd(builder.fmul(a, half), builder.fmul(b, half))
    infinite = builder.fcmp_ordered("==", simd.call_ir(builder, "fabs", mean), _constant(a.type, float("inf")))
    return builder.select(infinite, apart, mean)


def _unless_nan_ir(builder, value, taps):
    """`value`, but NaN where any of the taps is; one comparison for two of them."""
    pairs, unordered = [*taps, taps[-1]], None
    for a, b in zip(pairs[::2], pairs[1::2], strict=False):
        either = builder.fcmp_unordered("uno", a, b)
        unordered = either if unordered is None else builder.or_(unordered, either)
    return builder.select(unordered, _constant(value.type, float("nan")), value)


@intrinsic
def _middle(typingctx, spec, low, high, low_rank, high_rank, nan):
    """Mean of the two middle taps, the one where both are the same; NaN where `nan` is."""

    def codegen(context, builder, sig, args):
        _, low, high, low_rank, high_rank, nan = args
        same = builder.icmp_signed("==", low_rank, high_rank)
        value = builder.select(same, low, _mean_ir(builder, low, high))
        return _unless_nan_ir(builder, value, [nan])

    return low(spec, low, high, low_rank, high_rank, nan), codegen


# --- few taps: a sorting network ----------------------------------------------------------------------------------


def _sorted_ir(builder, values):
    values = list(values)
    for i, j in comparators(len(values)):
        a, b = values[i], values[j]
        smaller = builder.fcmp_ordered("<", b, a)
        values[i], values[j] = builder.select(smaller, b, a), builder.select(smaller, a, b)
    return values


def _loaded_ir(builder, spec, taps):
    vector = simd.vector_ir(spec)
    return [
        simd.load_ir(builder, builder.gep(taps, [I64(t * spec.lanes)]), vector, spec.size) for t in range(spec.width)
    ]


@intrinsic
def _median_of_all(typingctx, spec, taps):
    """Median where no lane lacks a tap."""

    def codegen(context, builder, sig, args):
        values = _loaded_ir(builder, spec, args[1])
        found, n = _sorted_ir(builder, values), spec.width
        median = found[n // 2] if n % 2 else _mean_ir(builder, found[n // 2 - 1], found[n // 2])
        return _unless_nan_ir(builder, median, values)

    return Vector(spec.dtype, spec.lanes)(spec, taps), codegen


@intrinsic
def _median_of_some(typingctx, spec, taps, count, low_rank, high_rank):
    """Median of the first `count` vectors, by the ranks of each lane; what a lane lacks is +inf and comes last."""

    def codegen(context, builder, sig, args):
        _, taps, count, low_rank, high_rank = args
        missing = _constant(simd.vector_ir(spec), float("inf"))
        values = []
        for t, value in enumerate(_loaded_ir(builder, spec, taps)):
            there = builder.icmp_signed("<", I64(t), count)
            values.append(builder.select(there, value, missing))
        low = high = _constant(simd.vector_ir(spec), float("nan"))
        for rank, value in enumerate(_sorted_ir(builder, values)):
            at = _constant(low_rank.type, rank)
            low = builder.select(builder.icmp_signed("==", low_rank, at), value, low)
            high = builder.select(builder.icmp_signed("==", high_rank, at), value, high)
        same = builder.icmp_signed("==", low_rank, high_rank)
        return _unless_nan_ir(builder, builder.select(same, low, _mean_ir(builder, low, high)), values)

    return Vector(spec.dtype, spec.lanes)(spec, taps, types.intp, low_rank, high_rank), codegen


@device
def _taps_of_lanes(spec, call, row, column):
    factor = call.depth_count[row // call.out_rows] * call.row_count[row % call.out_rows]
    return _counts(spec, call.column_count + column, factor, call.out_columns - column)


@device
def _by_sorting(spec, call, taps, count, row, column):
    last = column + lanes_of(spec) - 1
    whole = count == call.taps and last < call.out_columns
    if whole:
        whole = call.column_count[column] == call.whole and call.column_count[last] == call.whole
    if whole:
        return _median_of_all(spec, taps)
    counts = _taps_of_lanes(spec, call, row, column)
    return _median_of_some(spec, taps, count, _halved(spec, counts, 1), _halved(spec, counts, 0))


def sorted_median(call, task, thread):
    """Windows of as many taps as the spec is wide."""
    simd.align_stack()
    spec = call.spec
    lanes, columns, missing = lanes_of(spec), call.out_columns, infinity(spec)
    taps = call.scratch + thread * call.scratch_thread
    for item in range(rows_of(call, task)):
        plane, row, place = row_of(spec, call, task, item)
        for column in range(0, columns, lanes):
            count = gather_taps(spec, call, plane, row, column, taps, missing)
            median = _by_sorting(spec, call, taps, count, row, column)
            masked_store(spec, call.out + (place + column), median, range_mask(spec, 0, columns - column))


# --- more taps: bit by bit ----------------------------------------------------------------------------------------


@intrinsic
def _and_below(typingctx, spec, count, key, bound):
    """Add 1 to the count where the key is below the bound."""

    def codegen(context, builder, sig, args):
        _, count, key, bound = args
        return builder.add(count, builder.zext(builder.icmp_signed("<", key, bound), count.type))

    return count(spec, count, key, bound), codegen


@intrinsic
def _raised(typingctx, spec, kept, candidate, below, rank):
    """Return the candidate where no more keys than `rank` are below it."""

    def codegen(context, builder, sig, args):
        _, kept, candidate, below, rank = args
        return builder.select(builder.icmp_signed("<=", below, rank), candidate, kept)

    return kept(spec, kept, candidate, below, rank), codegen


@intrinsic
def _least_from(typingctx, spec, least, key, bound):
    """Smaller of `least` and of a key that is not below the bound."""

    def codegen(context, builder, sig, args):
        _, least, key, bound = args
        better = builder.and_(builder.icmp_signed(">=", key, bound), builder.icmp_signed("<", key, least))
        return builder.select(better, key, least)

    return least(spec, least, key, bound), codegen


@intrinsic
def _or_nan(typingctx, spec, kept, new):
    """Return the new one where it is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_unordered("uno", args[2], args[2]), args[2], args[1])

    return kept(spec, kept, new), codegen


@known
def _bits(spec):
    """Bits of an element."""
    return 8 * spec.size


@device
def _by_counting(spec, call, taps, count, row, column):
    lanes, bits = lanes_of(spec), _bits(spec)
    counts = _taps_of_lanes(spec, call, row, column)
    low_rank, high_rank = _halved(spec, counts, 1), _halved(spec, counts, 0)
    nan, none, one = splat(spec, 0), _keys_of(spec, 0), _keys_of(spec, 1)
    for t in range(count):
        nan = _or_nan(spec, nan, load(spec, taps + t * lanes))
    low = _keys_of(spec, -1 << (bits - 1))
    for bit in range(bits - 1, -1, -1):
        candidate = low + _keys_of(spec, 1 << bit)
        below = none
        for t in range(count):
            below = _and_below(spec, below, _key(spec, load(spec, taps + t * lanes)), candidate)
        low = _raised(spec, low, candidate, below, low_rank)
    # The next one up is of rank `high_rank`, unless the same is there more than once.
    above = low + one
    below, high = none, _keys_of(spec, (1 << (bits - 2)) - 1 + (1 << (bits - 2)))
    for t in range(count):
        key = _key(spec, load(spec, taps + t * lanes))
        below = _and_below(spec, below, key, above)
        high = _least_from(spec, high, key, above)
    high = _raised(spec, low, high, below, high_rank)
    return _middle(spec, _of_key(spec, low), _of_key(spec, high), low_rank, high_rank, nan)


@quickly
def counted_median(call, task, thread):
    """Windows of any number of taps that fit the scratch."""
    spec = call.spec
    lanes, columns, missing = lanes_of(spec), call.out_columns, infinity(spec)
    taps = call.scratch + thread * call.scratch_thread
    for item in range(rows_of(call, task)):
        plane, row, place = row_of(spec, call, task, item)
        for column in range(0, columns, lanes):
            count = gather_taps(spec, call, plane, row, column, taps, missing)
            median = _by_counting(spec, call, taps, count, row, column)
            masked_store(spec, call.out + (place + column), median, range_mask(spec, 0, columns - column))


# --- windows that no scratch holds --------------------------------------------------------------------------------


@intrinsic
def _mean(typingctx, a, b):
    """(a + b) / 2, also where the sum is too large."""
    return a(a, b), lambda context, builder, sig, args: _mean_ir(builder, *args)


@intrinsic
def _not_a_number(typingctx, spec):
    return spec.dtype(spec), lambda context, builder, sig, args: ir.Constant(simd.element(spec.dtype), float("nan"))


@device
def _count_in_place(spec, call, first, depths, rows, columns, bound):
    """Taps whose key is below the bound, and the least key that is not."""
    below, least = 0, _key(spec, _not_a_number(spec))
    for d in range(depths):
        for r in range(rows):
            line = first + (d * call.depth_step * call.x_depth + r * call.row_step * call.x_row)
            for k in range(columns):
                key = _key(spec, scalar(spec, line[k * call.column_step * call.x_column]))
                if key < bound:
                    below += 1
                elif key < least:
                    least = key
    return below, least


@device
def _has_nan(spec, call, first, depths, rows, columns):
    for d in range(depths):
        for r in range(rows):
            line = first + (d * call.depth_step * call.x_depth + r * call.row_step * call.x_row)
            for k in range(columns):
                value = scalar(spec, line[k * call.column_step * call.x_column])
                if value != value:
                    return True
    return False


def median_in_place(call, task, thread):
    """Windows of any size, an output at a time."""
    spec = call.spec
    bits = _bits(spec)
    for item in range(rows_of(call, task)):
        plane, row, place = row_of(spec, call, task, item)
        depth, in_depth = row // call.out_rows, row % call.out_rows
        depths, taps = call.depth_count[depth], call.row_count[in_depth]
        line = plane + (call.depth_first[depth] * call.x_depth + call.row_first[in_depth] * call.x_row)
        for column in range(call.out_columns):
            columns = call.column_count[column]
            first, count = line + call.column_first[column] * call.x_column, depths * taps * columns
            value = _not_a_number(spec)
            if count > 0 and not _has_nan(spec, call, first, depths, taps, columns):
                low = -1 << (bits - 1)
                for bit in range(bits - 1, -1, -1):
                    candidate = low + (1 << bit)
                    below, _ = _count_in_place(spec, call, first, depths, taps, columns, candidate)
                    if below <= (count - 1) // 2:
                        low = candidate
                below, least = _count_in_place(spec, call, first, depths, taps, columns, low + 1)
                value = _of_key(spec, _narrow(spec, low))
                if below <= count // 2:
                    value = _mean(value, _of_key(spec, _narrow(spec, least)))
            call.out[place + column] = value


@intrinsic
def _narrow(typingctx, spec, key):
    """Key as an integer of the element's size."""
    kind = types.int32 if spec.size == 4 else types.int64
    return kind(spec, key), lambda context, builder, sig, args: context.cast(builder, args[1], key, kind)
