"""Column taps of a row, read in place: what a vector of outputs sees of it, one vector for each tap."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64
from fastpool.machine.processor import TARGET


def stride_of(spec):
    """Stride of the columns, 1 or 2: the last word of the variant. The spec's vectors x width are rows x columns."""
    return int(spec.variant.split()[-1])


def is_whole(spec):
    """Whether all taps of a vector are known to be in the row."""
    return spec.variant.startswith("whole ")


def is_dilated(spec):
    """Whether the columns of the taps lie further apart than one, by a number that is known at run time only."""
    return "dilated" in spec.variant


def reach_of(spec):
    """Elements of a row from the first one that a vector of outputs sees to beyond the last that is loaded for it."""
    return max((spec.lanes - 1) * stride_of(spec) + spec.width, spec.lanes * stride_of(spec))


def _mixes(spec):
    """Whether lanes are in the order that `in_order_ir` undoes: where whole vectors are taken apart in two halves.

    To put them in order takes an instruction more for each tap, and to shift them some; once for each result is less.
    """
    return stride_of(spec) == 2 and spec.lanes * spec.size == 32 and TARGET.vector_bytes == 32


def in_order_ir(builder, spec, value):
    """Lanes of a result in the order of its columns."""
    if not _mixes(spec):
        return value
    pairs = [range(first, first + spec.lanes // 4) for first in range(0, spec.lanes, spec.lanes // 4)]
    first, second, third, fourth = pairs
    return simd.shuffle_ir(builder, value, value, [*first, *third, *second, *fourth])


def _apart_ir(builder, spec, pair, odd):
    """Even or odd lanes of a pair of vectors; mixed, of each half of a vector beside those of the other's."""
    lanes = spec.lanes
    if not _mixes(spec):
        return simd.shuffle_ir(builder, *pair, range(odd, 2 * lanes, 2))
    halves = [range(begin + odd, begin + lanes // 2, 2) for begin in range(0, 2 * lanes, lanes // 2)]
    low, high, low_of_second, high_of_second = halves
    return simd.shuffle_ir(builder, *pair, [*low, *low_of_second, *high, *high_of_second])


def column_taps_ir(builder, spec, row, first, width, dilation=None):
    """One vector for each column tap of a row of `width` elements, whose first needed column is `first`.

    Shifted loads at stride 1, `dilation` columns apart (None is 1). At stride 2 a pair of loads, of which the even
    lanes are the last tap but one and the odd ones the last. With a padding of 1, what is loaded then begins on a cache
    line if the row does. The taps before them are those two taps further, shifted by a lane: only their first element
    is new; or, where lanes are mixed, which makes them hard to shift, further pairs of loads. Elements outside the row
    are 0.
    """
    vector, lanes = simd.vector_ir(spec), spec.lanes

    def loaded(shift):
        start = builder.add(first, shift)
        if is_whole(spec):
            return simd.load_ir(builder, builder.gep(row, [start]), vector, spec.size)
        mask = simd.range_mask_ir(builder, builder.neg(start), builder.sub(width, start), lanes)
        return simd.masked_load_ir(
            builder, builder.gep(row, [start]), vector, mask, ir.Constant(vector, None), spec.size
        )

    if stride_of(spec) == 1:
        return [loaded(I64(j) if dilation is None else builder.mul(dilation, I64(j))) for j in range(spec.width)]
    last = max(0, spec.width - 2)

    def pair_of(tap, count):
        pair = loaded(I64(tap)), loaded(I64(tap + lanes))
        return [_apart_ir(builder, spec, pair, odd) for odd in range(count)]

    taps = pair_of(last, min(2, spec.width))
    if _mixes(spec):
        while last > 0:
            count = min(2, last)
            last -= count
            taps = pair_of(last, count) + taps
        return taps
    for j in reversed(range(last)):
        place = builder.add(first, I64(j))
        if is_whole(spec):
            value = simd.splat_ir(builder, builder.load(builder.gep(row, [place]), align=spec.size), lanes)
            taps.insert(0, simd.shuffle_ir(builder, taps[1], value, [2 * lanes - 1, *range(lanes - 1)]))
            continue
        within = builder.and_(builder.icmp_signed(">=", place, I64(0)), builder.icmp_signed("<", place, width))
        # There always is an element to load, if not the wanted one.
        value = builder.load(builder.gep(row, [builder.select(within, place, I64(0))]), align=spec.size)
        value = simd.splat_ir(builder, builder.select(within, value, ir.Constant(value.type, 0.0)), lanes)
        taps.insert(0, simd.shuffle_ir(builder, taps[1], value, [2 * lanes - 1, *range(lanes - 1)]))
    return taps
