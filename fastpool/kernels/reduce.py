"""Global pooling: a plane becomes one element.

Small planes that lie evenly apart are taken `lanes` at a time, one accumulator each, whose lanes are then combined by
one transpose for all, or where they are narrow `width` at a time, merged two by two; others one after the other.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device_with_loops
from fastpool.kernels.pool import combine, combine_ir, fold, neutral
from fastpool.kernels.simd import lanes_of, load, masked_load, range_mask, scalar, splat, store, width_of
from fastpool.routines.pool import neutral_of, operation_of

#: Elements after which a running sum is put aside into a float64: 16 lanes then add 128 values each, so that the
#: rounding error of float32 stays near 1e-6 for planes of any size.
_CHUNK = 2048


@device_with_loops
def _reduce_row(spec, row, column, count, tail):
    """Combine `count` elements, `column` apart; `tail` masks what whole vectors leave."""
    lanes = lanes_of(spec)
    nothing = splat(spec, neutral(spec))
    if column != 1:
        result = neutral(spec)
        for w in range(count):
            result = combine(spec, result, scalar(spec, row[w * column]))
        return result
    whole = count - count % lanes
    total = nothing
    for w in range(0, whole, lanes):
        total = combine(spec, total, load(spec, row + w))
    if whole < count:
        total = combine(spec, total, masked_load(spec, row + whole, tail, nothing))
    return fold(spec, total)


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
def _combine_planes(typingctx, tile, pointer, pitch, mask):
    """Combine a vector of each plane, `pitch` apart, into its accumulator."""
    spec = tile.spec
    value = neutral_of(spec)

    def codegen(context, builder, sig, args):
        tile, first, pitch, mask = args
        vector = simd.vector_ir(spec)
        fill = ir.Constant(vector, [ir.Constant(vector.element, value)] * spec.lanes)
        for p in range(spec.width):
            place = builder.gep(first, [builder.mul(pitch, simd.I64(p))])
            new = simd.widening_load_ir(builder, spec, pointer.dtype, place, mask, fill)
            tile = builder.insert_value(tile, combine_ir(builder, spec, builder.extract_value(tile, p), new), p)
        return tile

    return tile(tile, pointer, types.intp, mask), codegen


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
def _reduce_evenly(spec, call, first, last):
    """Planes first..last in groups, all lanes busy to the end; return the first plane that is left."""
    lanes, planes, width = lanes_of(spec), width_of(spec), call.width
    whole = width - width % lanes
    tail, everything = range_mask(spec, 0, width - whole), range_mask(spec, 0, lanes)
    divisors = splat(spec, call.divisor)
    while first + planes <= last:
        plane = call.x + first * call.evenly
        totals = _zeros(spec)
        for w in range(0, whole, lanes):
            totals = _combine_planes(totals, plane + w, call.evenly, everything)
        if whole < width:
            totals = _combine_planes(totals, plane + whole, call.evenly, tail)
        store(spec, call.out + first, _mean(spec, _fold_planes(totals), divisors))
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
    tail = range_mask(spec, 0, width % lanes_of(spec))
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
                    part = _reduce_row(spec, row + w * column, column, min(_CHUNK, width - w), tail)
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
