"""Stochastic pooling: taps weighted by themselves, or one of them drawn, for a vector of outputs at once.

Negative taps count as zero. The weighted mean is the sum of a * (a / total), whose terms neither overflow nor underflow
where a does not. A draw takes the first tap at which the running sum exceeds u * total; u comes from outside, one for
each output.
"""

from llvmlite import ir
from numba.extending import intrinsic

from fastpool.kernels.simd import lanes_of, load, masked_load, range_mask, scalar, splat, store
from fastpool.kernels.stores import masked_store
from fastpool.kernels.taps import gather_taps, row_of, rows_of


def _constant(vector, value):
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


@intrinsic
def _positive(typingctx, value):
    """Return 0 for what is below it; NaN stays."""

    def codegen(context, builder, sig, args):
        zero = _constant(args[0].type, 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return value(value), codegen


@intrinsic
def _or_one(typingctx, value):
    """Return 1 for 0, which nothing but zeros is divided by."""

    def codegen(context, builder, sig, args):
        zero = builder.fcmp_ordered("==", args[0], _constant(args[0].type, 0.0))
        return builder.select(zero, _constant(args[0].type, 1.0), args[0])

    return value(value), codegen


@intrinsic
def _taken(typingctx, drawn, tap, before, threshold):
    """Return what is drawn: the last tap above 0 before which the running sum was not above the threshold."""

    def codegen(context, builder, sig, args):
        drawn, tap, before, threshold = args
        still = builder.fcmp_ordered("<=", before, threshold)
        there = builder.fcmp_ordered(">", tap, _constant(tap.type, 0.0))
        return builder.select(builder.and_(there, still), tap, drawn)

    return drawn(drawn, tap, before, threshold), codegen


@intrinsic
def _unless_infinite(typingctx, value, total):
    """Return `value`, but NaN where the sum is no finite number."""

    def codegen(context, builder, sig, args):
        value, total = args
        finite = builder.fcmp_ordered("<", total, _constant(total.type, float("inf")))
        return builder.select(finite, value, _constant(value.type, float("nan")))

    return value(value, total), codegen


def weighted_mean(call, task, thread):
    """Means of the taps with themselves as weights."""
    spec = call.spec
    lanes, columns, zero, zeros = lanes_of(spec), call.out_columns, scalar(spec, 0), splat(spec, 0)
    taps = call.scratch + thread * call.scratch_thread
    for item in range(rows_of(call, task)):
        plane, row, place = row_of(spec, call, task, item)
        for column in range(0, columns, lanes):
            count = gather_taps(spec, call, plane, row, column, taps, zero)
            total, mean = zeros, zeros
            for t in range(count):
                tap = _positive(load(spec, taps + t * lanes))
                store(spec, taps + t * lanes, tap)
                total = total + tap
            divisor = _or_one(total)
            for t in range(count):
                tap = load(spec, taps + t * lanes)
                mean = mean + tap * (tap / divisor)
            mean = _unless_infinite(mean, total)
            masked_store(spec, call.out + (place + column), mean, range_mask(spec, 0, columns - column))


def weighted_draw(call, task, thread):
    """One tap of each window, drawn by the numbers in `weights`."""
    spec = call.spec
    lanes, columns, zero, zeros = lanes_of(spec), call.out_columns, scalar(spec, 0), splat(spec, 0)
    taps = call.scratch + thread * call.scratch_thread
    for item in range(rows_of(call, task)):
        plane, row, place = row_of(spec, call, task, item)
        for column in range(0, columns, lanes):
            mask = range_mask(spec, 0, columns - column)
            count = gather_taps(spec, call, plane, row, column, taps, zero)
            total = zeros
            for t in range(count):
                tap = _positive(load(spec, taps + t * lanes))
                store(spec, taps + t * lanes, tap)
                total = total + tap
            threshold = masked_load(spec, call.weights + (place + column), mask, zeros) * total
            running, drawn = zeros, zeros
            for t in range(count):
                tap = load(spec, taps + t * lanes)
                drawn = _taken(drawn, tap, running, threshold)
                running = running + tap
            drawn = _unless_infinite(drawn, total)
            masked_store(spec, call.out + (place + column), drawn, mask)
