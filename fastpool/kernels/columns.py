"""Column taps of a row, read in place: what a vector of outputs sees of it, one vector for each tap."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def stride_of(spec):
    """Stride of the columns, 1 or 2: the last word of the variant. The spec's vectors x width are rows x columns."""
    return int(spec.variant.split()[-1])


def column_taps_ir(builder, spec, row, first, width, exists, stride, outside):
    """One vector for each column tap of a row of `width` elements, whose first needed column is `first`.

    Shifted loads at stride 1; at stride 2 pairs of loads, of which the even lanes are one tap and the odd ones the
    next. Elements outside the row, and all where the mask `exists` (if there is one) is off, are `outside`.

    At stride 2 the taps before the last pair are those two taps further, shifted by a lane: only their first element is
    new. With a padding of 1, what is loaded then begins on a cache line if the row does.
    """
    vector, lanes = simd.vector_ir(spec), spec.lanes
    fill = ir.Constant(vector, [ir.Constant(vector.element, outside)] * lanes)

    def loaded(shift):
        start = builder.add(first, I64(shift))
        mask = simd.range_mask_ir(builder, builder.neg(start), builder.sub(width, start), lanes)
        if exists is not None:
            mask = builder.and_(mask, exists)
        return simd.widening_load_ir(builder, spec, simd.source_of(spec), builder.gep(row, [start]), mask, fill)

    if stride == 1:
        return [loaded(j) for j in range(spec.width)]
    if spec.width > 2 and exists is None and simd.source_of(spec) == spec.dtype:
        last = spec.width - 2
        pair = loaded(last), loaded(last + lanes)
        taps = [simd.shuffle_ir(builder, *pair, range(odd, 2 * lanes, 2)) for odd in (0, 1)]
        for j in reversed(range(last)):
            place = builder.add(first, I64(j))
            within = builder.and_(builder.icmp_signed(">=", place, I64(0)), builder.icmp_signed("<", place, width))
            # There always is an element to load, if not the wanted one.
            value = builder.load(builder.gep(row, [builder.select(within, place, I64(0))]), align=spec.size)
            value = builder.select(within, value, ir.Constant(value.type, outside))
            shifted = [2 * lanes - 1, *range(lanes - 1)]
            taps.insert(0, simd.shuffle_ir(builder, taps[1], simd.splat_ir(builder, value, lanes), shifted))
        return taps
    taps = []
    for j in range(0, spec.width, 2):
        pair = loaded(j), loaded(j + lanes)
        taps.append(simd.shuffle_ir(builder, *pair, range(0, 2 * lanes, 2)))
        if j + 1 < spec.width:
            taps.append(simd.shuffle_ir(builder, *pair, range(1, 2 * lanes, 2)))
    return taps
