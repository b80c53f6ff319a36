"""Global pooling: a plane becomes one element.

Small planes that lie evenly apart are taken `lanes` at a time, one accumulator each, whose lanes are then combined by
one transpose for all, or where they are narrow `width` at a time, merged two by two; others one after the other.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device_with_loops
from fastpool.kernels.careful import any_lane, combine_fast_ir, either_nan_ir, may_lose, no_lanes, with_care
from fastpool.kernels.fetches import fetch_plane
from fastpool.kernels.pool import combine, combine_ir, fold, neutral
from fastpool.kernels.simd import keep_rolled, lanes_of, load, masked_load, range_mask, scalar, splat, store, width_of
from fastpool.routines.pool import neutral_of, operation_of

#: Elements after which a running sum is put aside into a float64: 16 lanes then add 128 values each, so that the
#: rounding error of float32 stays near 1e-6 for planes of any size.
_CHUNK = 2048


@device_with_loops
def _reduce_row(spec, row, column, count, tail, ahead):
    """Combine `count` elements, `column` apart; `tail` masks what whole vectors leave. See `_combine_next`."""
    lanes = lanes_of(spec)
    nothing = splat(spec, neutral(spec))
    if column != 1:
        result = neutral(spec)
        for w in range(count):
            result = combine(spec, result, scalar(spec, row[w * column]))
        return result
    whole, together = count - count % lanes, count - count % (_BESIDE * lanes)
    totals, found = _neutral_vectors(spec), no_lanes(spec)
    for w in range(0, together, _BESIDE * lanes):
        keep_rolled()
        totals, found = _combine_next(spec, totals, found, row + w, ahead)
    total = _merged(spec, totals)
    if may_lose(spec) and any_lane(found):
        together = 0  # with care, which keeps NaN
    for w in range(together, whole, lanes):
        total = combine(spec, total, load(spec, row + w))
    if whole < count:
        total = combine(spec, total, masked_load(spec, row + whole, tail, nothing))
    return fold(spec, total)


#: Vectors of a plane that are combined beside each other, as each waits for the one before: the greatest of 64 planes
#: of 56x56 takes 10 us so, and 36 one by one.
_BESIDE = 4


@intrinsic
def _neutral_vectors(typingctx, spec):
    result = types.UniTuple(simd.Vector(spec.dtype, spec.lanes), _BESIDE)

    def codegen(context, builder, sig, args):
        vector = simd.vector_ir(spec)
        neutral = ir.Constant(vector, [ir.Constant(vector.element, neutral_of(spec))] * spec.lanes)
        return context.make_tuple(builder, result, [neutral] * _BESIDE)

    return result(spec), codegen


@intrinsic
def _combine_next(typingctx, spec, totals, found, place, ahead):
    """Combine vectors that follow one another with `totals`, and lanes where there is or was a NaN.

    Those that are so many elements `ahead` are fetched.
    """
    result = types.Tuple([totals, found])

    def codegen(context, builder, sig, args):
        _, totals, found, place, ahead = args
        mask, fill = ir.Constant(ir.VectorType(simd.I1, spec.lanes), [True] * spec.lanes), simd.vector_ir(spec)(None)
        places = [builder.gep(place, [simd.I64(i * spec.lanes)]) for i in range(_BESIDE)]
        for at in places:
            simd.prefetch_ir(builder, builder.gep(at, [ahead]))
        values = [simd.widening_load_ir(builder, spec, sig.args[3].dtype, at, mask, fill) for at in places]
        kept = [builder.extract_value(totals, i) for i in range(_BESIDE)]
        combined = [combine_fast_ir(builder, spec, *pair) for pair in zip(kept, values, strict=True)]
        totals = context.make_tuple(builder, sig.args[1], combined)
        return context.make_tuple(builder, result, [totals, either_nan_ir(builder, spec, found, values)])

    return result(spec, totals, found, place, types.intp), codegen


@intrinsic
def _merged(typingctx, spec, totals):
    def codegen(context, builder, sig, args):
        a, b, c, d = (builder.extract_value(args[1], i) for i in range(_BESIDE))
        return combine_fast_ir(
            builder, spec, combine_fast_ir(builder, spec, a, b), combine_fast_ir(builder, spec, c, d)
        )

    return totals.dtype(spec, totals), codegen


@intrinsic
def _zeros(typingctx, spec):
    """One vector for each of `lanes` planes, all neutral."""
    value = neutral_of(spec)
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        vector = simd.vector_ir(spec)
        one = ir.Constant(vector, [ir.Constant(vector.element, value)] * spec.lanes)
        return ir.Constant(context.get_value_type(tile), [one] * spec.width)

    return tile(spec), codegen


@intrinsic
def _combine_planes(typingctx, tile, found, pointer, pitch, mask):
    """Combine a vector of each plane, `pitch` apart, into its accumulator; and lanes where there is or was a NaN."""
    spec = tile.spec
    value = neutral_of(spec)
    result = types.Tuple([tile, found])

    def codegen(context, builder, sig, args):
        tile, found, first, pitch, mask = args
        vector = simd.vector_ir(spec)
        fill = ir.Constant(vector, [ir.Constant(vector.element, value)] * spec.lanes)
        values = []
        for p in range(spec.width):
            place = builder.gep(first, [builder.mul(pitch, simd.I64(p))])
            values.append(simd.widening_load_ir(builder, spec, pointer.dtype, place, mask, fill))
            combined = combine_fast_ir(builder, spec, builder.extract_value(tile, p), values[p])
            tile = builder.insert_value(tile, combined, p)
        return context.make_tuple(builder, result, [tile, either_nan_ir(builder, spec, found, values)])

    return result(tile, found, pointer, types.intp, mask), codegen


def _merge_ir(builder, spec, first, second, bit):
    """Combine lanes that differ in a bit of their number, of two vectors: the second's are where the bit is set."""
    lanes = range(spec.lanes)
    low = simd.shuffle_ir(
        builder, first, second, [lane if not lane & bit else spec.lanes + lane - bit for lane in lanes]
    )
    high = simd.shuffle_ir(
        builder, first, second, [lane | bit if not lane & bit else spec.lanes + lane for lane in lanes]
    )
    return combine_ir(builder, spec, low, high)


def _fold_narrow_ir(builder, spec, rows):
    """One lane for each of fewer vectors than lanes, merged two by two: as many are left as a lane of each is."""
    bit, planes = spec.lanes, len(rows)
    while len(rows) > 1:  # the half that a vector is merged into becomes a bit of its lanes: the highest, of the last
        bit, half = bit // 2, len(rows) // 2
        rows = [_merge_ir(builder, spec, a, b, bit) for a, b in zip(rows[:half], rows[half:], strict=True)]
    value = rows[0]
    while bit > 1:
        bit //= 2
        value = combine_ir(
            builder, spec, value, simd.shuffle_ir(builder, value, value, [i ^ bit for i in range(spec.lanes)])
        )
    undefined = ir.Constant(value.type, ir.Undefined)
    return simd.shuffle_ir(builder, value, undefined, range(0, spec.lanes, spec.lanes // planes))


@intrinsic
def _fold_planes(typingctx, tile):
    """One lane for each plane: the transposed accumulators, combined."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], p) for p in range(spec.width)]
        if spec.width < spec.lanes:
            return _fold_narrow_ir(builder, spec, rows)
        rows = simd.transpose_ir(builder, rows)
        while len(rows) > 1:
            rows = [combine_ir(builder, spec, a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        return rows[0]

    return simd.Vector(spec.dtype, spec.width)(tile), codegen


@device_with_loops
def _reduce_group(spec, call, first, tail, divisors):
    """Planes from the first on, as many as are taken together; whether there is a NaN that may be lost."""
    lanes, width, evenly = lanes_of(spec), call.width, call.evenly
    whole, everything = width - width % lanes, range_mask(spec, 0, lanes)
    plane, totals, found = call.x + first * evenly, _zeros(spec), no_lanes(spec)
    for w in range(0, whole, lanes):
        totals, found = _combine_planes(totals, found, plane + w, evenly, everything)
    if whole < width:
        totals, found = _combine_planes(totals, found, plane + whole, evenly, tail)
    store(spec, call.out + first, _mean(spec, _fold_planes(totals), divisors))
    return any_lane(found)


@device_with_loops
def _reduce_evenly(spec, call, first, last):
    """Planes first..last in groups, all lanes busy to the end; return the first plane that is left."""
    planes, tail = width_of(spec), range_mask(spec, 0, call.width % lanes_of(spec))
    divisors = splat(spec, call.divisor)
    while first + planes <= last:
        fetch_plane(spec, call.x + (first * call.evenly + call.plane_ahead), call.plane if call.plane_ahead else 0)
        if _reduce_group(spec, call, first, tail, divisors) and may_lose(spec):
            _reduce_group(with_care(spec), call, first, tail, divisors)
        first += planes
    return first


def _is_mean(spec):
    return operation_of(spec) == "sum" and not isinstance(spec.dtype, types.Integer)


@intrinsic
def _mean(typingctx, spec, value, divisor):
    """Divide sums; extrema stay as they are, and sums of integers, of which no mean is taken."""

    def codegen(context, builder, sig, args):
        return builder.fdiv(args[1], args[2]) if _is_mean(spec) else args[1]

    return value(spec, value, divisor), codegen


def reduce_planes(call, task, thread):
    """Global pooling: each plane to one element; sums of rows are gathered in float64."""
    simd.align_stack()
    spec = call.spec
    first = task * call.planes_per_task
    last = min(first + call.planes_per_task, call.planes)
    if call.evenly and call.width <= _CHUNK:
        first = _reduce_evenly(spec, call, first, last)
    channels, rows, depths, width, column = call.channels, call.rows, call.depths, call.width, call.x_column
    tail, ahead = range_mask(spec, 0, width % lanes_of(spec)), call.ahead
    # A plane follows from the one before: a division would cost as much as a small plane.
    image, channel = first // channels, first % channels
    for index in range(first, last):
        plane = call.x + (image * call.x_batch + channel * call.x_channel)
        best = neutral(spec)
        total = 0.0
        for d in range(depths):
            for r in range(rows):
                row = plane + (d * call.x_depth + r * call.x_row)
                for w in range(0, width, _CHUNK):
                    part = _reduce_row(spec, row + w * column, column, min(_CHUNK, width - w), tail, ahead)
                    best = combine(spec, best, part)
                    total += part
        call.out[index] = _result(spec, best, total, call.divisor)
        channel += 1
        if channel == channels:
            channel = 0
            image += 1


@intrinsic
def _result(typingctx, spec, best, total, divisor):
    """Mean of the gathered sum, or the extremum."""

    def codegen(context, builder, sig, args):
        _, best, total, divisor = args
        if not _is_mean(spec):
            return best
        return context.cast(builder, builder.fdiv(total, divisor), types.float64, spec.dtype)

    return spec.dtype(spec, spec.dtype, types.float64, types.float64), codegen
