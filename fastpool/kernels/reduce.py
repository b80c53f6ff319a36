"""Global pooling: a plane becomes one element.

Small planes that lie evenly apart are taken `lanes` at a time, one accumulator each, whose lanes are then combined by
one transpose for all; others one after the other.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.pool import combine, combine_ir, fold, neutral
from fastpool.kernels.simd import lanes_of, load, masked_load, range_mask, scalar, splat, store
from fastpool.routines.pool import neutral_of, operation_of

#: Elements after which a running sum is put aside into a float64: 16 lanes then add 128 values each, so that the
#: rounding error of float32 stays near 1e-6 for planes of any size.
_CHUNK = 2048


@device
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


@intrinsic
def _fold_planes(typingctx, tile):
    """One lane for each plane: the transposed accumulators, combined."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        rows = simd.transpose_ir(builder, [builder.extract_value(args[0], p) for p in range(spec.width)])
        while len(rows) > 1:
            rows = [combine_ir(builder, spec, a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        return rows[0]

    return simd.Vector(spec.dtype, spec.lanes)(tile), codegen


@device
def _reduce_evenly(spec, call, first, last):
    """Planes first..last in groups of `lanes`, all lanes busy to the end; return the first plane that is left."""
    lanes, width = lanes_of(spec), call.width
    whole = width - width % lanes
    tail, everything = range_mask(spec, 0, width - whole), range_mask(spec, 0, lanes)
    divisors = splat(spec, call.divisor)
    while first + lanes <= last:
        plane = call.x + first * call.evenly
        totals = _zeros(spec)
        for w in range(0, whole, lanes):
            totals = _combine_planes(totals, plane + w, call.evenly, everything)
        if whole < width:
            totals = _combine_planes(totals, plane + whole, call.evenly, tail)
        store(spec, call.out + first, _mean(spec, _fold_planes(totals), divisors))
        first += lanes
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
